"""The filters of PNG files, undone: https://www.w3.org/TR/png-3/#9Filters."""

from typing import Any

import numpy as np

from fastscnn.utils.compiling import compiled

NONE, SUB, UP, AVERAGE, PAETH = range(5)


@compiled
def restore(rows: Any, channels: int, out: Any) -> bool:
    """Pixels from the rows of a PNG file.

    Args:
        rows: uint8 [H, 1 + W * channels]: of each row its filter, then its differences to what the filter predicts.
        channels: Bytes of a pixel, 1 or 3.
        out: uint8 [H, W * channels], is filled.

    Returns:
        Whether every row has a filter that exists.
    """
    above = np.zeros(out.shape[1], np.uint8)
    for y in range(rows.shape[0]):
        kind, row, pixels = rows[y, 0], rows[y, 1:], out[y]
        if kind == NONE:
            pixels[:] = row
        elif kind == SUB:
            _sub(row, channels, pixels)
        elif kind == UP:
            for x in range(row.size):
                pixels[x] = row[x] + above[x]
        elif kind == AVERAGE:
            _average(row, above, channels, pixels)
        elif kind != PAETH:
            return False
        elif channels == 3:
            _paeth_of_three(row, above, pixels)
        else:
            _paeth(row, above, pixels)
        above = pixels
    return True


@compiled
def _sub(row: Any, channels: int, pixels: Any) -> None:
    pixels[:channels] = row[:channels]
    for x in range(channels, row.size):
        pixels[x] = row[x] + pixels[x - channels]


@compiled
def _average(row: Any, above: Any, channels: int, pixels: Any) -> None:
    for x in range(channels):
        pixels[x] = row[x] + (above[x] >> 1)
    for x in range(channels, row.size):
        pixels[x] = row[x] + ((np.int32(pixels[x - channels]) + np.int32(above[x])) >> 1)


@compiled
def _paeth(row: Any, above: Any, pixels: Any) -> None:
    left = corner = np.int32(0)
    for x in range(row.size):
        up = np.int32(above[x])
        left = (row[x] + _predicted(left, up, corner)) & 255
        corner = up
        pixels[x] = left


@compiled
def _paeth_of_three(row: Any, above: Any, pixels: Any) -> None:
    """The three channels side by side: each waits for its own last value, not for those of the other two."""
    left0 = left1 = left2 = corner0 = corner1 = corner2 = np.int32(0)
    for x in range(0, row.size, 3):
        up0, up1, up2 = np.int32(above[x]), np.int32(above[x + 1]), np.int32(above[x + 2])
        left0 = (row[x] + _predicted(left0, up0, corner0)) & 255
        left1 = (row[x + 1] + _predicted(left1, up1, corner1)) & 255
        left2 = (row[x + 2] + _predicted(left2, up2, corner2)) & 255
        corner0, corner1, corner2 = up0, up1, up2
        pixels[x], pixels[x + 1], pixels[x + 2] = left0, left1, left2


@compiled
def _predicted(left: Any, up: Any, corner: Any) -> Any:
    """The one of the three neighbours that is nearest to left + up - corner; the first of equals."""
    to_left, to_up = abs(up - corner), abs(left - corner)
    to_corner = abs(left + up - 2 * corner)
    best = left if to_left <= to_up else up
    return corner if to_corner < min(to_left, to_up) else best
