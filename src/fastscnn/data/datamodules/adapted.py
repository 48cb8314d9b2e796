"""Batches of any DataLoader with the names and the types of ours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastscnn.data.datasets.classes import IGNORE_INDEX
from fastscnn.data.datasets.frames import DataError

NAME = "external"
"""The data option, and the source of its frames."""
MODULE = "data.module"
IMAGES, LABELS, NAMES = ("image", "images"), ("label", "labels", "mask", "masks", "target"), ("name", "names", "path")
"""Keys of a batch that is a mapping."""
ROUNDING = 0.01
"""How far floats may lie outside of 0 to 1, as a resized image's do."""


class Adapted:
    """Collates samples as a loader does, and gives the batch our names and types.

    `image` is uint8 [B, 3, H, W], RGB, and `label` uint8 [B, H, W] with 255 where it is ignored.

    Args:
        collate: The loader's own.
        split: For the names of frames that have none.
        num_classes: Largest label and one.
        ignored: Label of pixels that are left out.
        statistics: Mean and standard deviation by which floating images were normalised; None for floats from 0 to 1.
    """

    def __init__(
        self,
        collate: Callable[[Any], Any],
        split: str,
        num_classes: int,
        ignored: int,
        statistics: tuple[Sequence[float], Sequence[float]] | None,
    ) -> None:
        self.collate = collate
        self.split = split
        self.num_classes = num_classes
        self.ignored = ignored
        self.statistics = statistics

    def __call__(self, samples: Any) -> dict[str, Any]:
        """A batch of the loader's samples.

        Raises:
            DataError: It is no batch of images and labels; says what it is.
        """
        batch = self.collate(samples)
        if isinstance(batch, Mapping):
            images, labels, names = (_first(batch, keys) for keys in (IMAGES, LABELS, NAMES))
        else:
            images, labels = (*batch, None, None)[:2] if isinstance(batch, list | tuple) else (batch, None)
            names = None
        image = self._images(images)
        names = names or [f"{self.split} frame {place + 1} of its batch" for place in range(len(image))]
        found = {"image": image, "name": list(map(str, names)), "source": [NAME] * len(image)}
        return found if labels is None else found | {"label": self._labels(labels, image)}

    def one(self, sample: Any) -> dict[str, Any]:
        """A sample of the loader's data set, as our own data sets give it: without the batch's dimension."""
        return {name: values[0] for name, values in self([sample]).items()}

    def _images(self, images: Any) -> Tensor:
        if not torch.is_tensor(images) or images.ndim != 4 or images.shape[1] != 3:
            raise wrong_batch(f"images of {self.split} are {_shape(images)}", "Give RGB images, [B,3,H,W].")
        pixels: Tensor = images.as_subclass(Tensor)  # torchvision has a type of its own
        if pixels.dtype == torch.uint8:
            return pixels
        if not pixels.is_floating_point():
            raise wrong_batch(f"images of {self.split} are {pixels.dtype}", "Give uint8, or floats from 0 to 1.")
        if self.statistics is not None:
            mean, std = (pixels.new_tensor(values)[:, None, None] for values in self.statistics)
            pixels = pixels * std + mean
        low, high = float(pixels.min()), float(pixels.max())
        if not -ROUNDING <= low <= high <= 1 + ROUNDING:
            raise wrong_batch(
                f"images of {self.split} have values from {low:.2f} to {high:.2f}",
                "Set data.mean=[R,G,B] and data.std=[R,G,B] to those by which they are normalised, or give floats from "
                "0 to 1.",
            )
        return pixels.mul(255).round().clamp(0, 255).to(torch.uint8)

    def _labels(self, labels: Any, images: Tensor) -> Tensor:
        if torch.is_tensor(labels) and labels.ndim == 4 and labels.shape[1] == 1:
            labels = labels[:, 0]
        size = (len(images), *images.shape[-2:])
        if not torch.is_tensor(labels) or labels.shape != size or labels.is_floating_point():
            expected = "Give whole numbers, [B,H,W], of the images' size."
            raise wrong_batch(f"labels of {self.split} are {_shape(labels)} for images {_shape(images)}", expected)
        ids: Tensor = labels.as_subclass(Tensor)
        ignored = ids == self.ignored
        outside = ((ids < 0) | (ids >= self.num_classes)) & ~ignored
        if outside.any():
            value = int(ids[outside][0])
            raise wrong_batch(
                f"a label of {self.split} is {value}, and there are {self.num_classes} classes",
                f"Set data.ignored={value} where it does not count, or name all classes.",
            )
        return ids.masked_fill(ignored, 0).to(torch.uint8).masked_fill(ignored, IGNORE_INDEX)


def _first(batch: Mapping[Any, Any], keys: Sequence[str]) -> Any:
    return next((batch[key] for key in keys if key in batch), None)


def _shape(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if torch.is_tensor(value) else type(value).__name__


def wrong_batch(found: str, fix: str) -> DataError:
    """What is wrong with the batches of a module, and the fix."""
    return DataError(f"{MODULE}: {found}.", key=MODULE, fix=fix)
