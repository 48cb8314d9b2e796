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
"""Of RGB from 0 to 1; what a saved network states."""


def normalize(images: Tensor, *, channels_last: bool = False) -> Tensor:
    """Scale RGB images of range 0 to 255 to the mean and deviation of ImageNet's.

    uint8 or float [B, 3, H, W] on any device, to float of the same shape; float32 from uint8, the float's own
    type otherwise. The input is left as it is. Statistics: torchvision, `IMAGENET1K` weights.

    Args:
        images: In any memory format, which the result keeps.
        channels_last: Give the result this memory format; the images take it first, while they are a quarter of the
            bytes.
    """
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    dtype = images.dtype if images.is_floating_point() else torch.float32
    if images.device.type != "cpu":
        mean, std = _kept_statistics(dtype, images.device)
        return (images - mean).div_(std)
    mean, std = _statistics(dtype, images.device)
    if channels_last and not torch.compiler.is_compiling():
        return _by_rows(images, dtype, mean, std)
    return images.to(dtype, copy=True).sub_(mean).div_(std)


def check_normalization(stated: Mapping[str, Any], path: str | Path) -> None:
    """Check that a saved network wants its images as `normalize` makes them.

    Raises:
        RequestError: It states another normalisation.
    """
    if stated != NORMALIZATION:
        raise RequestError(
            f"{path} asks for normalization {stated}, and this version has {NORMALIZATION} alone: use the version that "
            "wrote it."
        )


def _by_rows(images: Tensor, dtype: torch.dtype, mean: Tensor, std: Tensor) -> Tensor:
    """Of channels_last images on a CPU: a row of pixels at a time, where torch would take three values at a time."""
    batch, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(batch * height, width * channels).to(dtype, copy=True)
    rows.sub_(mean.view(channels).repeat(width)).div_(std.view(channels).repeat(width))
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _statistics(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, dtype=dtype, device=device).view(3, 1, 1) * 255 for values in (MEAN, STD))
    return mean, std


@cache
def _kept_statistics(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Brought to a device once, for that waits for it; good for autograd too if inference asked first."""
    with torch.inference_mode(False):
        return _statistics(dtype, device)
