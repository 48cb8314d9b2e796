"""The tiles of the fused cross-entropy on a CPU: interpolation of logits to a tile's columns, and its transpose.

The output is processed in tiles. A "pair" is two neighbouring logits of a row, and the output columns between them are
its phases. A tile covers some pairs side by side and stores its columns phase by phase, slot = phase * pairs + pair, so
that interpolation and its transpose run over contiguous memory and vectorise at any scale. The first pair lies left of
the first logit and the last one right of the last: there both neighbours are the same logit. Rows form pairs in the
same way.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.kernels.cpu.numba_utils import ONE
from fastscnn.utils.compiling import compiled

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]
Side = tuple[Integers, Floats]
"""The outputs along one side: the first output of each pair, [logits + 2], and the share of the later logit."""


@compiled
def place(columns: Side, start: int, pairs: int, phases: int, share: Floats, position: Integers) -> tuple[int, int]:
    """Compute share and position of each slot of a tile; returns the tile's first column and its number of columns.

    A slot beyond the last phase of its pair gets the position after the last column.
    """
    starts, shares = columns
    first = starts[start]
    count = starts[start + pairs] - first
    for pair in range(pairs):
        begin, end = starts[start + pair], starts[start + pair + 1]
        for phase in range(phases):
            x = begin + phase
            slot = phase * pairs + pair
            share[slot] = shares[x] if x < end else shares[begin] * 0
            position[slot] = x - first if x < end else count
    return first, count


@compiled
def expand(powers: Floats, row: int, start: int, pairs: int, phases: int, share: Floats, out: Floats) -> None:
    """Interpolate a row of the logits at the slots of a tile, all classes: float [C, h, w] to [C, slots]."""
    classes, _, width = powers.shape
    line = np.empty(pairs + 1, powers.dtype)
    for c in range(classes):
        for pair in range(pairs + 1):
            line[pair] = powers[c, row, min(max(start + pair - 1, 0), width - 1)]
        for phase in range(phases):
            offset = phase * pairs
            for pair in range(pairs):
                right = share[offset + pair]
                out[c, offset + pair] = (ONE - right) * line[pair] + right * line[pair + 1]


@compiled
def collect(
    value: Floats, factor: Floats, low: Floats, rows: int, span: int, to_upper: Floats, to_lower: Floats
) -> None:
    """Sum the gradient of one class at some output rows, value * factor, [rows, slots], for the two logit rows.

    Rows after `rows`, up to the next multiple of 4, are read too: their factors are 0.
    """
    to_upper[:span] = 0
    to_lower[:span] = 0
    for r in range(0, rows, 4):
        low0, low1, low2, low3 = low[r], low[r + 1], low[r + 2], low[r + 3]
        for x in range(span):
            g0 = value[r, x] * factor[r, x]
            g1 = value[r + 1, x] * factor[r + 1, x]
            g2 = value[r + 2, x] * factor[r + 2, x]
            g3 = value[r + 3, x] * factor[r + 3, x]
            below = g0 * low0 + g1 * low1 + g2 * low2 + g3 * low3
            to_lower[x] += below
            to_upper[x] += g0 * (ONE - low0) + g1 * (ONE - low1) + g2 * (ONE - low2) + g3 * (ONE - low3)


@compiled
def bring_back(
    slots: Floats, share: Floats, start: int, pairs: int, phases: int, line: Floats, gradient: Floats
) -> None:
    """Transpose of `expand`: add the gradient at a tile's slots to that of a row of one class, [w]."""
    width = gradient.shape[0]
    line[: pairs + 1] = 0
    for phase in range(phases):
        offset = phase * pairs
        for pair in range(pairs):
            line[pair] += (ONE - share[offset + pair]) * slots[offset + pair]
        for pair in range(pairs):
            line[pair + 1] += share[offset + pair] * slots[offset + pair]
    first, last = 0, pairs + 1
    if start == 0:
        line[1] += line[0]
        first = 1
    if start + pairs == width + 1:
        line[pairs - 1] += line[pairs]
        last = pairs
    for pair in range(first, last):
        gradient[start - 1 + pair] += line[pair]
