"""Augmentation beyond the paper's: wider colours, blur, noise, JPEG, and crops drawn towards rare classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import albumentations as A
import numpy as np

from fastscnn.data.store.class_pixels import ClassPixels
from fastscnn.data.transforms.augment import PADDING, Augmentation
from fastscnn.data.transforms.crop import Focus, RandomScaledCrop
from fastscnn.utils.values import check_number, check_range


@dataclass(frozen=True)
class StrongAugment:
    """Makes the strong augmentation of a crop size.

    Attributes:
        scale: Smallest and largest factor of the resizing, drawn uniformly.
        flip: Probability of a horizontal flip.
        rare_crops: Share of the crops around a pixel of a class, see `RareClasses`; the others lie anywhere.
        brightness: Largest change, as a share; so are `contrast` and `saturation`.
        contrast: See `brightness`.
        saturation: See `brightness`.
        hue: Largest turn of the hue, as a share of the circle, up to 0.5.
        blur: Probability of a Gaussian blur, of a deviation up to 1.5 pixels.
        noise: Probability of Gaussian noise, of a deviation of 1% to 5% of the range.
        jpeg: Probability of JPEG compression, of quality 40 to 95.

    Raises:
        RequestError: A setting is out of range.
    """

    scale: Sequence[float] = (0.5, 2.0)
    flip: float = 0.5
    rare_crops: float = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.05
    blur: float = 0.2
    noise: float = 0.2
    jpeg: float = 0.2

    def __post_init__(self) -> None:
        check_range("augment.scale", self.scale)
        shares = ("flip", "rare_crops", "brightness", "contrast", "saturation", "blur", "noise", "jpeg")
        for name, largest in (*((name, 1.0) for name in shares), ("hue", 0.5)):
            check_number(f"augment.{name}", getattr(self, name), minimum=0, maximum=largest)

    def __call__(self, crop_size: Sequence[int]) -> Augmentation:
        """Build the augmentation of a crop size; a frame that is smaller after resizing is placed at random in it."""
        height, width = crop_size
        colors = {name: getattr(self, name) for name in ("brightness", "contrast", "saturation")}
        ranges = {name: (1 - share, 1 + share) for name, share in colors.items()}
        fill = PADDING["fill"], PADDING["fill_mask"]
        return Augmentation(
            lambda: RandomScaledCrop(height, width, tuple(self.scale), *fill, focused=self.rare_crops),
            lambda: A.HorizontalFlip(p=self.flip),
            lambda: A.ColorJitter(**ranges, hue=(-self.hue, self.hue), p=1.0),
            lambda: A.GaussianBlur(blur_limit=0, sigma_limit=(0.2, 1.5), p=self.blur),
            lambda: A.GaussNoise(std_range=(0.01, 0.05), p=self.noise),
            lambda: A.ImageCompression(quality_range=(40, 95), p=self.jpeg),
        )


class RareClasses:
    """Around which pixels of a frame a crop is drawn: of its classes by inverse frequency in the training set.

    Goes to worker processes with the data set.

    Args:
        pixels: What the frames show of each class.
    """

    def __init__(self, pixels: ClassPixels) -> None:
        total = pixels.counts.sum(axis=0)
        self.weights = np.where(total > 0, total.sum() / np.maximum(total, 1), 0.0)
        self.points = pixels.points.astype(np.int32)
        self.widths = pixels.widths

    def __call__(self, index: int) -> Focus:
        """Of the frame of that index; empty where it has no labelled pixel."""
        shown = np.flatnonzero(self.points[index, :, 0] >= 0)
        rows, columns = np.divmod(self.points[index, shown], self.widths[index])
        return Focus(self.weights[shown].tolist(), np.stack([rows, columns], axis=-1))
