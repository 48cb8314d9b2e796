"""The one normalisation of images, used on the device by training and inference."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastscnn.utils.errors import RequestError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
NORMALIZATION = {"mean": list(MEAN), "std": list(STD)}
"""For RGB from 0 to 1, as saved networks state it."""


def normalize(images: Tensor, *, channels_last: bool = False) -> Tensor:
    """Scale RGB images of range 0 to 255 to the mean and deviation of ImageNet's.

    uint8 or float [B, 3, H, W] on any device, to float of the same shape: float32 from uint8, else the type of the
    input. The input does not change. Statistics: torchvision, `IMAGENET1K` weights.

    Args:
        images: In any memory format; the result has the same.
        channels_last: Give the result this memory format. The images are converted first, while they have a quarter of
            the bytes.
    """
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    dtype = images.dtype if images.is_floating_point() else torch.float32
    if images.device.type != "cpu":
        mean, std = _cached_statistics(dtype, images.device)
        return (images - mean).div_(std)
    mean, std = _statistics(dtype, images.device)
    if channels_last and not torch.compiler.is_compiling():
        return _by_rows(images, dtype, mean, std)
    return images.to(dtype, copy=True).sub_(mean).div_(std)


def check_normalization(stated: Mapping[str, Any], path: str | Path) -> None:
    """Check that a saved network expects images as `normalize` makes them.

    Raises:
        RequestError: It states another normalisation.
    """
    if stated != NORMALIZATION:
        raise RequestError(
            f"{path} expects the normalization {stated}, but this version has {NORMALIZATION} only.",
            key="checkpoint",
            fix="Use the version of fastscnn that wrote it.",
        )


def _by_rows(images: Tensor, dtype: torch.dtype, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise channels_last images on a CPU by rows of pixels; torch alone would process three values at a time."""
    batch, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(batch * height, width * channels).to(dtype, copy=True)
    rows.sub_(mean.view(channels).repeat(width)).div_(std.view(channels).repeat(width))
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _statistics(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, dtype=dtype, device=device).view(3, 1, 1) * 255 for values in (MEAN, STD))
    return mean, std


@cache
def _cached_statistics(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The statistics on a device: copied once, since a copy waits for the device; usable in autograd too."""
    with torch.inference_mode(False):
        return _statistics(dtype, device)
