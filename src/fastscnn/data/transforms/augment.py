"""Augmentation of a frame and its label, drawn from one seed."""

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import albumentations as A
import cv2
import numpy as np

from fastscnn.data.datasets.classes import IGNORE_INDEX
from fastscnn.data.datasets.frames import Image
from fastscnn.data.transforms.crop import BrightnessAndChannelNoise, Focus, LoadRows, RandomScaledCrop
from fastscnn.data.transforms.normalize import MEAN
from fastscnn.utils.values import check_number, check_range, check_switch

# Padding is the mean colour, which is zero after normalisation; its label is ignored.
PADDING: dict[str, Any] = {
    "pad_if_needed": True,
    "fill": tuple(round(255 * mean) for mean in MEAN),
    "fill_mask": IGNORE_INDEX,
}


class Augmentation:
    """Albumentations transforms whose every draw comes from the seed given with the frame.

    Albumentations' own `set_random_seed` gives each transform a generator of its own with the same seed, so
    that one transform's draws decide another's. Here all transforms draw from one stream.
    """

    def __init__(self, *transforms: Callable[[], A.BasicTransform]) -> None:
        with warnings.catch_warnings():
            # Argument names that do not exist only warn, and are then ignored.
            warnings.simplefilter("error", UserWarning)
            self.transforms = A.Compose([build() for build in transforms])
        self._first = self.transforms.transforms[0]

    @property
    def reads_rows(self) -> bool:
        """Whether it uses only the rows of a window, so that the others need not be read."""
        return isinstance(self._first, RandomScaledCrop)

    @property
    def focuses(self) -> bool:
        """Whether crops are drawn around certain pixels, which `focus` then gives."""
        return isinstance(self._first, RandomScaledCrop) and self._first.focused > 0

    def __call__(
        self, image: Image, label: Image, seed: int, load: LoadRows | None = None, focus: Focus | None = None
    ) -> tuple[Image, Image]:
        """Augment one frame: uint8 [H, W, 3] and [H, W] to the crop's height and width.

        Args:
            image: RGB.
            label: Train ids.
            seed: Seed of all draws.
            load: With `reads_rows`: reads rows of both into memory, once they are known.
            focus: With `focuses`: the pixels of this frame around which a crop may lie.
        """
        self.transforms.set_random_state(np.random.default_rng(seed), random.Random(seed))
        if load is not None:
            self._first.load = load
        if focus is not None:
            self._first.focus = focus
        try:
            augmented = self.transforms(image=image, mask=label)
        finally:
            if load is not None:
                self._first.load = None
            if focus is not None:
                self._first.focus = None
        return augmented["image"], augmented["mask"]


@dataclass(frozen=True)
class PaperAugment:
    """The paper's augmentation (section 3.1), for any crop: resizing, translation and crop, flip, colours.

    Called with a crop size it gives the `Augmentation` of that size. The paper gives the range of the resizing and no
    other number; the rest are albumentations' defaults. A frame that is smaller than the crop after resizing is placed
    in it at random, around it the mean colour and the label 255.

    Attributes:
        scale: Smallest and largest factor of the resizing, drawn uniformly.
        flip: Probability of a horizontal flip.
        channel_shift: Largest value added to each colour channel, drawn for each on its own; of 255.
        brightness: Largest value added to all channels alike, as a fraction of 255.
        crop_first: Resize only the window of the frame that the crop shows. Otherwise albumentations' own transforms do
            the same to the whole frame, one after the other.

    Raises:
        RequestError: A setting is out of range.
    """

    scale: Sequence[float] = (0.5, 2.0)
    flip: float = 0.5
    channel_shift: float = 20.0
    brightness: float = 0.2
    crop_first: bool = True

    def __post_init__(self) -> None:
        check_range("augment.scale", self.scale)
        for name, largest in (("flip", 1), ("channel_shift", 255), ("brightness", 1)):
            check_number(f"augment.{name}", getattr(self, name), minimum=0, maximum=largest)
        check_switch("augment.crop_first", self.crop_first)

    def __call__(self, crop_size: Sequence[int]) -> Augmentation:
        """Build the augmentation of a crop size, height and width."""
        height, width = crop_size
        shift = self.channel_shift / 255
        if not self.crop_first:
            return _resize_first((height, width), self.scale, self.flip, shift, self.brightness)
        return Augmentation(
            lambda: RandomScaledCrop(height, width, tuple(self.scale), PADDING["fill"], PADDING["fill_mask"]),
            lambda: A.HorizontalFlip(p=self.flip),
            lambda: BrightnessAndChannelNoise(shift, self.brightness),
        )


def _resize_first(
    crop_size: tuple[int, int], scale: Sequence[float], flip: float, channel_shift: float, brightness: float
) -> Augmentation:
    return Augmentation(
        lambda: A.RandomScale(
            scale_limit=(scale[0] - 1, scale[1] - 1),
            interpolation=cv2.INTER_LINEAR,
            # INTER_NEAREST is off by up to half a pixel from the bilinear image.
            mask_interpolation=cv2.INTER_NEAREST_EXACT,
            p=1.0,
        ),
        lambda: A.RandomCrop(*crop_size, pad_position="random", **PADDING),
        lambda: A.HorizontalFlip(p=flip),
        lambda: A.AdditiveNoise("uniform", "constant", {"ranges": [(-channel_shift, channel_shift)] * 3}, p=1.0),
        lambda: A.RandomBrightnessContrast(brightness, contrast_limit=0.0, p=1.0),
    )


def no_augment(crop_size: Sequence[int]) -> Augmentation:
    """Build the augmentation that only crops: frames of the crop's size do not change.

    Other frames are padded and cropped at their centre.
    """
    height, width = crop_size
    return Augmentation(lambda: A.CenterCrop(height, width, **PADDING))
