"""Scale and crop in one step: only the window of the frame that the crop shows is read and resized."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
from albumentations.core.type_definitions import Targets

Pixels = npt.NDArray[np.uint8]
LoadRows = Callable[[int, int], None]
"""Reads rows of a frame into memory, from the first one to the one after the last."""


class Span(NamedTuple):
    """One side of a crop: `length` pixels of the frame from `start` on become `out_length` from `out_start` on."""

    start: int
    length: int
    out_start: int
    out_length: int


class Focus(NamedTuple):
    """Around which pixels of a frame a crop may lie.

    Attributes:
        weights: Of each class that the frame shows; one is drawn in proportion.
        points: Row and column of some pixels of each of these classes, [classes, points, 2].
    """

    weights: Sequence[float]
    points: npt.NDArray[np.int32]

    def draw(self, draw: random.Random) -> tuple[int, int]:
        """Row and column of a pixel."""
        (number,) = draw.choices(range(len(self.weights)), self.weights)
        row, column = self.points[number, draw.randrange(self.points.shape[1])].tolist()
        return row, column


class RandomScaledCrop(A.DualTransform):  # type: ignore[misc]
    """Resizing by a random factor and a crop at a random place, as `RandomScale` and `RandomCrop` draw them.

    Scale and place are drawn together; the frame's window under the crop is resized once, images bilinearly and labels
    to the nearest pixel centre of the same geometry. A frame that is smaller than the crop after resizing is placed in
    it at random. The window's sides are whole pixels of the frame: the factor of a side differs from the drawn one
    by less than half a pixel over the whole crop.

    Args:
        height: Height of the crop.
        width: Width of the crop.
        scale_range: Smallest and largest factor, drawn uniformly.
        fill: RGB around a frame that is smaller than the crop.
        fill_mask: Label there.
        focused: Share of the crops that lie around a pixel of `focus`.
        p: Probability of the transform; the frame is not changed otherwise.

    Attributes:
        load: Called with the rows of the window before they are used; None if the frame is in memory.
        focus: Around which pixels of this frame a crop may lie; None for anywhere.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self,
        height: int,
        width: int,
        scale_range: Sequence[float] = (0.5, 2.0),
        fill: Sequence[int] = (0, 0, 0),
        fill_mask: int = 0,
        focused: float = 0.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.focused = focused
        self.height = height
        self.width = width
        self.scale_range = tuple(scale_range)
        self.fill = tuple(fill)
        self.fill_mask = fill_mask
        self.load: LoadRows | None = None
        self.focus: Focus | None = None

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the scale and the position of the crop."""
        scale = self.py_random.uniform(*self.scale_range)
        point: tuple[int | None, int | None] = (None, None)
        if self.focused and self.focus and len(self.focus.weights) and self.py_random.random() < self.focused:
            point = self.focus.draw(self.py_random)
        rows, columns = (
            span(side, crop, scale, self.py_random, place)
            for side, crop, place in zip(params["shape"][:2], (self.height, self.width), point, strict=True)
        )
        if self.load is not None:
            self.load(rows.start, rows.start + rows.length)
        return {"rows": rows, "columns": columns}

    def apply(self, img: Pixels, rows: Span, columns: Span, **params: Any) -> Pixels:
        """Transform an image, uint8 [H, W, 3]."""
        return self._resized(img, rows, columns, cv2.INTER_LINEAR, self.fill)

    def apply_to_mask(self, mask: Pixels, rows: Span, columns: Span, **params: Any) -> Pixels:
        """Transform labels, uint8 [H, W]."""
        return self._resized(mask, rows, columns, cv2.INTER_NEAREST_EXACT, self.fill_mask)

    def _resized(self, pixels: Pixels, rows: Span, columns: Span, interpolation: int, fill: Any) -> Pixels:
        window = pixels[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
        resized = cv2.resize(window, (columns.out_length, rows.out_length), interpolation=interpolation)
        if (rows.out_length, columns.out_length) == (self.height, self.width):
            return np.asarray(resized, np.uint8)
        top, left = rows.out_start, columns.out_start
        bottom, right = self.height - top - rows.out_length, self.width - left - columns.out_length
        return np.asarray(
            cv2.copyMakeBorder(resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill), np.uint8
        )


def span(side: int, crop: int, scale: float, draw: random.Random, place: int | None = None) -> Span:
    """Position of a crop along one side of a frame that is resized by a factor: drawn, or around a given pixel."""
    scaled = max(1, int(side * scale))
    if scaled <= crop:
        return Span(0, side, draw.randint(0, crop - scaled), scaled)
    length = min(side, max(1, round(crop * side / scaled)))
    if place is not None:
        return Span(min(max(place - length // 2, 0), side - length), length, 0, crop)
    return Span(draw.randint(0, side - length), length, 0, crop)


class BrightnessAndChannelNoise(A.ImageOnlyTransform):  # type: ignore[misc]
    """Add a value to each colour channel, and one value to all.

    It does what `AdditiveNoise` (uniform, constant) and `RandomBrightnessContrast` (no contrast) do in two steps.

    Args:
        channel_shift: Largest value added to each channel, drawn for each on its own, as a share of 255.
        brightness: Largest value added to all channels alike, as a share of 255.
        p: Probability of the transform.
    """

    def __init__(self, channel_shift: float = 0.0, brightness: float = 0.0, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.channel_shift = channel_shift
        self.brightness = brightness

    def get_params(self) -> dict[str, Any]:
        """Draw the values."""
        shifts = self.random_generator.uniform(-self.channel_shift, self.channel_shift, 3)
        return {"shifts": shifts, "brightness": self.py_random.uniform(-self.brightness, self.brightness)}

    def apply(self, img: Pixels, shifts: npt.NDArray[np.float64], brightness: float, **params: Any) -> Pixels:
        """Transform an image, uint8 [H, W, 3]."""
        return add_colors(img, shifts, brightness)


def add_colors(image: Pixels, shifts: npt.NDArray[np.float64], brightness: float) -> Pixels:
    """Add a value to each channel and then one to all, cut to 0 to 255 after each; the fraction of a value is dropped.

    These are two saturating additions of integers, which OpenCV vectorises; a table of 256 values for each channel
    gives the same and takes ten times as long.

    Args:
        image: uint8 [H, W, 3].
        shifts: The value of each channel, as a share of 255.
        brightness: The value of all channels, as a share of 255.
    """
    first, then = color_steps(shifts, brightness)
    lighter = then[0] >= 0
    begin, end = (cv2.subtract, cv2.add) if lighter else (cv2.add, cv2.subtract)
    changed = begin(image, _scalar(np.abs(first)))
    return np.asarray(end(changed, _scalar(np.abs(then)), dst=changed), np.uint8)


def color_steps(
    shifts: npt.NDArray[np.float64], brightness: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The two steps of `add_colors`: integers for each channel, all of a step with the same sign.

    Shifts of the same sign as the brightness are added together with it, after those of the other sign.
    """
    whole, both = np.trunc(255 * shifts), math.floor(255 * brightness)
    up, down = np.maximum(whole, 0), np.maximum(-whole, 0)
    return (-down, up + both) if both >= 0 else (up, both - down)


def _scalar(values: npt.NDArray[np.float64]) -> Any:
    """A value for each channel in the form that OpenCV expects; at most 255, beyond which it uses another type."""
    return (*np.minimum(values, 255).tolist(), 0.0)
