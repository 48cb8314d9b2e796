"""Scale, crop, flip and colours of a whole batch in one program, on the device where the frames lie.

What is drawn is drawn on the host, by the transforms themselves and from the frame's own seed, so that a frame's crop
is the same on every path. The pixels are those of `RandomScaledCrop`, `HorizontalFlip` and `BrightnessAndChannelNoise`
one after the other: labels exactly, colours to a rounding of one level, for OpenCV's vector instructions round a few
pixels otherwise than its fixed point.
"""

import importlib
import random
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.data.datasets.classes import IGNORE_INDEX
from fastscnn.data.transforms.augment import PADDING, Augmentation
from fastscnn.data.transforms.crop import BrightnessAndChannelNoise, RandomScaledCrop, Span, color_steps

PLACE, HEIGHT, WIDTH = 0, 1, 2
ROWS, COLUMNS = 3, 7
FLIP, FIRST, THEN = 11, 12, 15
FIELDS = 18
"""Numbers of a crop: where its frame lies, and its size; the spans of its rows and columns; whether it is flipped; and
what is added to each channel, cut to 0 to 255 after each of the two additions."""
ONE = 2048
"""A share of one, as OpenCV's interpolation counts."""
BLOCK = 512
"""Pixels of one program."""
OLDEST = (7, 0)
"""The first compute capability that Triton's programs run on."""

Integers = npt.NDArray[np.int64]


def has_batch_form(augment: object) -> bool:
    """Whether an augmentation is one that a batch can be cropped by at once."""
    if type(augment) is not Augmentation or augment.transforms.p < 1:
        return False
    kinds = [type(transform) for transform in augment.transforms.transforms]
    known = [RandomScaledCrop, A.HorizontalFlip, BrightnessAndChannelNoise]
    if kinds != known:
        return False
    crop = augment.transforms.transforms[0]
    return crop.p >= 1 and not getattr(crop, "focused", 0)


class CropDrawer:
    """Draws the crops of frames as an augmentation draws them.

    Args:
        augment: One that `has_batch_form`.
    """

    def __init__(self, augment: Augmentation) -> None:
        self._compose = augment.transforms
        self._crop, self._flip, self._color = augment.transforms.transforms
        self.size: tuple[int, int] = (self._crop.height, self._crop.width)

    def draw(self, seed: int, place: int, shape: tuple[int, int]) -> tuple[Integers, npt.NDArray[np.int32]]:
        """Draw one crop.

        Args:
            seed: Of the frame in its epoch.
            place: Where the frame's first byte lies.
            shape: Height and width of the frame.

        Returns:
            `FIELDS` numbers; and for each row and then each column of the crop, the one of the frame that its label is
            taken from, -1 where there is none.
        """
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        self._compose.py_random.random()  # albumentations' own draw of whether anything is done at all
        span = self._crop.get_params_dependent_on_data({"shape": shape}, {})
        rows, columns = span["rows"], span["columns"]
        flips = self._flip.should_apply()
        first = then = np.zeros(3)
        if self._color.should_apply():
            first, then = color_steps(**self._color.get_params())
        fields = np.array([place, *shape, *rows, *columns, flips, *first, *then], np.int64)
        return fields, np.concatenate([nearest(rows, self.size[0], False), nearest(columns, self.size[1], flips)])


def nearest(span: Span, size: int, flips: bool) -> npt.NDArray[np.int32]:
    """For each place of a side of a crop, the nearest one of the frame; -1 outside of the frame.

    Args:
        span: What lies there.
        size: Length of the side.
        flips: Whether the side is flipped.
    """
    places = np.full(size, -1, np.int32)
    places[span.out_start : span.out_start + span.out_length] = span.start + _ramp(span.length, span.out_length)
    return places[::-1] if flips else places


@lru_cache(maxsize=4096)
def _ramp(length: int, out_length: int) -> npt.NDArray[np.int32]:
    """What OpenCV itself takes for the nearest places; its fixed-point rule is its own."""
    ramp = np.arange(length, dtype=np.float32)[None]
    found = cv2.resize(ramp, (out_length, 1), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(found[0], np.int32)


def crop_batch(pixels: Tensor, fields: Tensor, places: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Cut a batch of crops out of frames that lie on a device.

    One Triton program on a GPU that has it, else the same by torch's operations.

    Args:
        pixels: uint8 [N]: of each frame the image [H, W, 3] and then the train ids [H, W].
        fields: int64 [B, `FIELDS`], as `CropDrawer.draw` gives them, on the same device.
        places: int32 [B, height + width], likewise.
        size: Height and width of the crops.

    Returns:
        Images, uint8 [B, 3, height, width], RGB, channels_last in memory; and train ids, uint8 [B, height, width].
    """
    height, width = size
    images = torch.empty(len(fields), height, width, 3, dtype=torch.uint8, device=pixels.device)
    labels = torch.empty(len(fields), height, width, dtype=torch.uint8, device=pixels.device)
    if pixels.device.type == "cuda" and _usable(pixels.device.index):
        with torch.cuda.device(pixels.device):
            launch(pixels, fields, places, images, labels)
    else:
        for place in range(len(fields)):  # one at a time: what torch keeps in between is many times the crop
            _crop(pixels, fields[place], places[place], images[place], labels[place])
    return images.permute(0, 3, 1, 2), labels


def launch(pixels: Tensor, fields: Tensor, places: Tensor, images: Tensor, labels: Tensor) -> None:
    """Run the program over a batch; `images` [B, H, W, 3] and `labels` [B, H, W] are written."""
    batch, height, width = labels.shape
    programs().crop_program[-(-height * width // BLOCK), batch](
        pixels,
        fields,
        places,
        images,
        labels,
        height,
        width,
        *PADDING["fill"],
        FIELDS=FIELDS,
        ONE=ONE,
        FILL_LABEL=IGNORE_INDEX,
        BLOCK=BLOCK,
        num_warps=4,
    )


def _crop(pixels: Tensor, fields: Tensor, places: Tensor, image: Tensor, label: Tensor) -> None:
    """One crop by torch's operations, on any device and without a wait for it."""
    height, width = label.shape
    inside = (places[:height] >= 0)[:, None] & (places[height:] >= 0)
    begin, stride = fields[PLACE], fields[WIDTH]
    at = places[:height].clamp(min=0)[:, None] * stride + places[height:].clamp(min=0)
    label.copy_(pixels[begin + 3 * fields[HEIGHT] * stride + at].where(inside, IGNORE_INDEX))
    upper, lower, low = _between(fields[ROWS : ROWS + 4], height, None)
    left, right, share = _between(fields[COLUMNS : COLUMNS + 4], width, fields[FLIP])
    channel = torch.arange(3, device=pixels.device)

    def corner(rows: Tensor, columns: Tensor) -> Tensor:
        return pixels[begin + (rows[:, None] * stride + columns)[..., None] * 3 + channel].int()

    low, share = low[:, None, None], share[:, None]
    above = corner(upper, left) * (ONE - share) + corner(upper, right) * share
    below = corner(lower, left) * (ONE - share) + corner(lower, right) * share
    value = (((ONE - low) * (above >> 4) >> 16) + (low * (below >> 4) >> 16) + 2) >> 2  # OpenCV's fixed point
    fill = torch.stack([torch.full_like(value[..., 0], level) for level in PADDING["fill"]], -1)
    value = value.where(inside[..., None], fill)
    for step in (FIRST, THEN):
        value = (value + fields[step : step + 3].int()).clamp(0, 255)
    image.copy_(value)


def _between(span: Tensor, size: int, flips: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """For each place of a side, the two of the frame that it lies between, and the share of the second, of `ONE`."""
    start, length, out_start, out_length = span.unbind()
    place = torch.arange(size, device=span.device)
    if flips is not None:
        place = torch.where(flips > 0, size - 1 - place, place)
    scale = length.float() / out_length.float()
    position = ((place - out_start).float() + 0.5) * scale - 0.5
    position = torch.minimum(position.clamp(min=0), (length - 1).float())
    first = position.floor().long()
    share = ((position - first) * ONE + 0.5).int()
    return start + first, start + torch.minimum(first + 1, length - 1), share


@cache
def programs() -> Any:
    """The module of the program.

    Raises:
        ImportError: Triton is not installed.
    """
    return importlib.import_module("fastscnn.data.transforms.crop_kernels")


@cache
def _usable(device: int) -> bool:
    """Whether a GPU can run the program."""
    try:
        programs()
    except ImportError:
        return False
    return torch.cuda.get_device_capability(device) >= OLDEST
