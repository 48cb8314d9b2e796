"""From uint8 pixels to normalised images on the CPU: one look-up for each value, no three passes over memory."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.data.transforms.normalize import normalize
from fastscnn.kernels.cpu.numba_utils import parallel
from fastscnn.utils.compiling import compiled

Images = npt.NDArray[Any]
BAND = 64
"""Rows that one thread takes at a time."""


def normalized(images: npt.NDArray[np.uint8], out: Tensor) -> Tensor:
    """`fastscnn.data.transforms.normalize.normalize` to the bit, from the layout of image files into a kept buffer.

    Args:
        images: RGB, uint8 [B, H, W, 3].
        out: float32 [B, 3, H, W], contiguous or channels_last; is filled and returned.
    """
    table = normalize(torch.arange(256).expand(1, 3, 1, 256).to(torch.uint8))[0, :, 0].numpy()
    images = np.ascontiguousarray(images)
    count, height = images.shape[:2]
    planar = out.is_contiguous()
    target = out.numpy() if planar else out.permute(0, 2, 3, 1).numpy()

    def fill(band: tuple[int, int, int]) -> None:
        image, start, stop = band
        if planar:
            _planes(images[image, start:stop], table, target[image, :, start:stop])
        else:
            _pixels(images[image, start:stop], table, target[image, start:stop])

    parallel(fill, [(i, y, min(y + BAND, height)) for i in range(count) for y in range(0, height, BAND)])
    return out


def shrunk_size(size: tuple[int, int], longest: int | None, smallest: int = 1) -> tuple[int, int]:
    """The height and width at which the network sees an image: of the same shape, and no longer than `longest`.

    Args:
        size: Height and width of the image.
        longest: The longest side; None for any.
        smallest: What no side gets below, unless it is so already.
    """
    share = 1.0 if longest is None else max(longest / max(size), smallest / min(size))
    return size if share >= 1 else (max(round(size[0] * share), 1), max(round(size[1] * share), 1))


def shrunk(batch: Images, size: tuple[int, int]) -> Images:
    """A batch of images [B, H, W, 3] at a smaller size, each new pixel the mean of those that it covers."""
    if size == size_of(batch):
        return batch
    return np.stack([cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in batch])


def enlarged(batch: Images, side: int, multiple: int = 1) -> Images:
    """A batch of images [B, H, W, 3], enlarged by repeating the last row and column.

    Args:
        batch: The images.
        side: Height and width at least.
        multiple: Of height and width.
    """
    height, width = size_of(batch)
    down, right = (max(side - own, 0) for own in (height, width))
    down, right = down + -(height + down) % multiple, right + -(width + right) % multiple
    if not down and not right:
        return batch
    return np.stack([cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE) for image in batch])


def cut(values: Images, size: tuple[int, int]) -> Images:
    """Values [B, H, W] of an image that was enlarged, of the image alone."""
    return values if values.shape[1:] == size else np.ascontiguousarray(values[:, : size[0], : size[1]])


def in_place(values: Tensor, out: Tensor | None) -> Tensor:
    """Values, copied into `out`, on any device, where one is given.

    Raises:
        ValueError: `out` has another type or shape.
    """
    if out is None:
        return values
    if out.dtype != values.dtype or out.shape != values.shape:
        given, right = (f"{str(part.dtype).removeprefix('torch.')} {tuple(part.shape)}" for part in (out, values))
        raise ValueError(f"out is {given}, not {right}")
    return out.copy_(values)


def size_of(batch: Images | Tensor) -> tuple[int, int]:
    """Height and width of a batch of images [B, H, W, 3]."""
    return batch.shape[1], batch.shape[2]


@compiled
def _planes(image: Any, table: Any, out: Any) -> None:
    """uint8 [H, W, 3] to float32 [3, H, W]."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for c in range(3):
                out[c, y, x] = table[c, image[y, x, c]]


@compiled
def _pixels(image: Any, table: Any, out: Any) -> None:
    """uint8 [H, W, 3] to float32 [H, W, 3]."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for c in range(3):
                out[y, x, c] = table[c, image[y, x, c]]
