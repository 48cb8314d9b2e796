"""Masks that hold the colours of classes: which value a colour stands for."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Color = tuple[int, int, int]
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ColorMap:
    """The colours of masks.

    Attributes:
        colors: RGB of each class; its value is its place.
        ignored: RGB of pixels without a class; their value is 255.
    """

    colors: tuple[Color, ...]
    ignored: tuple[Color, ...] = ()

    def values(self, mask: Picture) -> Picture:
        """The values of a mask; RGB uint8 [H, W, 3] to uint8 [H, W].

        Raises:
            ValueError: A pixel has another colour; names the first of them by their number of pixels.
        """
        numbers = color_numbers(mask)
        known, values = self._sorted
        places = np.searchsorted(known, numbers).clip(max=len(known) - 1)
        unknown = known[places] != numbers
        if unknown.any():
            raise ValueError(f"its colour {_most_of(numbers[unknown])} is not in the table")
        found: Picture = values[places]
        return found

    @cached_property
    def _sorted(self) -> tuple[npt.NDArray[np.int32], Picture]:
        """The colours as numbers in ascending order, and the value of each."""
        numbers = color_numbers(np.array([*self.colors, *self.ignored], np.uint8).reshape(1, -1, 3))[0]
        values = np.array([*range(len(self.colors)), *[255] * len(self.ignored)], np.uint8)
        order = np.argsort(numbers)
        return numbers[order], values[order]


def color_numbers(picture: Picture) -> npt.NDArray[np.int32]:
    """Each pixel's colour as one number, red * 65536 + green * 256 + blue; uint8 [H, W, 3] to int32 [H, W]."""
    wide = picture.astype(np.int32)
    numbers: npt.NDArray[np.int32] = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return numbers


def color_of(number: int) -> Color:
    """The inverse of `color_numbers`."""
    return int(number) >> 16, int(number) >> 8 & 255, int(number) & 255


def _most_of(numbers: npt.NDArray[np.int32]) -> str:
    """The most frequent of some colours, and how many there are."""
    found, pixels = np.unique(numbers, return_counts=True)
    first = found[pixels.argmax()]
    others = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
    return f"{list(color_of(first))}{others}"
