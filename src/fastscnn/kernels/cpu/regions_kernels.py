"""The compiled part of the losses of regions on a CPU; tiles, rows and exponentials are those of the cross-entropy."""

from typing import Any

import numpy as np

from fastscnn.kernels.cpu.loss_kernels import ROWS
from fastscnn.kernels.cpu.loss_pixels import exponentials
from fastscnn.kernels.cpu.loss_tiles import Floats, Integers, Side, bring_back, collect, expand, place
from fastscnn.kernels.cpu.numba_utils import ONE, ZERO, quotient
from fastscnn.utils.compiling import compiled


@compiled
def _read_targets(
    labels: Integers,
    ignore_index: int,
    classes: int,
    y: int,
    first: int,
    count: int,
    line: Integers,
    position: Integers,
    span: int,
    target: Integers,
) -> int:
    """Read the labels of one output row at a tile's slots, -1 where nothing counts; returns how many count."""
    for x in range(count):
        label = np.int64(labels[y, first + x])
        line[x] = np.int32(label) if (label != ignore_index) & (label >= 0) & (label < classes) else np.int32(-1)
    line[count] = -1
    found = 0
    for x in range(span):
        target[x] = line[position[x]]
        found += target[x] >= 0
    return found


@compiled
def _add_sums(value: Floats, factor: Floats, target: Integers, rows: int, span: int, sums: Floats) -> None:
    """Add the probability of each class, everywhere and where it is the label, to `sums` [2, C]."""
    for c in range(value.shape[0]):
        for r in range(rows):
            everywhere, at_label = ZERO * factor[r, 0], ZERO * factor[r, 0]
            for x in range(span):
                chance = value[c, r, x] * factor[r, x]
                everywhere += chance
                at_label += chance if target[r, x] == c else ZERO * chance
            sums[0, c] += everywhere
            sums[1, c] += at_label


@compiled
def _count_errors(value: Floats, factor: Floats, target: Integers, rows: int, span: int, counts: Integers) -> None:
    """Count the pixels by class, step of the error and whether they have the class: [C, 2 * steps]."""
    steps = counts.shape[1] // 2
    for c in range(value.shape[0]):
        for r in range(rows):
            for x in range(span):
                if target[r, x] >= 0:
                    true = np.int64(target[r, x] == c)
                    chance = value[c, r, x] * factor[r, x]
                    error = ONE - chance if true else chance
                    counts[c, 2 * min(max(np.int64(error * steps), 0), steps - 1) + true] += 1


@compiled
def _derive(
    value: Floats,
    factor: Floats,
    target: Integers,
    rows: int,
    span: int,
    present: Integers,
    slopes: Floats,
    table: Floats,
    slope: Floats,
    inner: Floats,
) -> float:
    """Multiply the exponentials by what they are to be multiplied by besides `factor` to be the gradient.

    Args:
        value: Exponentials [C, rows, slots].
        factor: One over their sum, or 0 where nothing counts [rows, slots].
        target: Label of each pixel.
        rows: Number of output rows.
        span: Number of slots.
        present: Whether some pixel has the class [C].
        slopes: By the probability of each class at its label, and everywhere: [2, C]; if it is empty, `table` counts.
        table: By the step of the error and whether the pixel has the class [C, 2 * steps].
        slope: Scratch memory [C, rows, slots].
        inner: Scratch memory [rows, slots].

    Returns:
        The sum over pixels and classes of probability times slope.
    """
    inner[:rows, :span] = 0
    steps = table.shape[1] // 2
    for c in range(value.shape[0]):
        if not present[c]:
            slope[c, :rows, :span] = 0
            continue
        for r in range(rows):
            if slopes.size:
                there, everywhere = slopes[0, c] + slopes[1, c], slopes[1, c]
                for x in range(span):
                    slope[c, r, x] = there if target[r, x] == c else everywhere
            else:
                for x in range(span):
                    true = np.int64(target[r, x] == c)
                    chance = value[c, r, x] * factor[r, x]
                    error = ONE - chance if true else chance
                    slope[c, r, x] = table[c, 2 * min(max(np.int64(error * steps), 0), steps - 1) + true]
            for x in range(span):
                inner[r, x] += slope[c, r, x] * value[c, r, x] * factor[r, x]
    for c in range(value.shape[0]):
        for r in range(rows):
            for x in range(span):
                value[c, r, x] *= slope[c, r, x] - inner[r, x]
    total = 0.0
    for r in range(rows):
        summed = ZERO * inner[r, 0]
        for x in range(span):
            summed += inner[r, x]
        total += summed
    return total


@compiled
def rows_of_regions(
    powers: Floats,
    labels: Integers,
    ignore_index: int,
    rows: Side,
    columns: Side,
    tile: tuple[int, int],
    first: int,
    last: int,
    present: Integers,
    sums: Floats,
    counts: Integers,
    slopes: Floats,
    table: Floats,
    gradient: Floats,
    edge: Floats,
) -> float:
    """Go over the output rows of one image in the pairs of logit rows from `first` to `last`.

    Args:
        powers: As for `rows_of_loss`; also rows, columns, tile, first, last, gradient, edge.
        labels: [H, W], of any integer type.
        ignore_index: Label of the pixels that are left out.
        present: As for `_derive`; also slopes, table.
        sums: If it has elements, `_add_sums` fills it and nothing else is done.
        counts: If it has elements, `_count_errors` does.
    """
    classes, height, width = powers.shape
    starts, shares = rows
    slots = tile[0] * tile[1]
    dtype = powers.dtype
    share, to_upper, to_lower = np.empty(slots, dtype), np.empty(slots, dtype), np.empty(slots, dtype)
    position = np.empty(slots, np.int64)
    upper, lower = np.empty((classes, slots), dtype), np.empty((classes, slots), dtype)
    value, slope = np.zeros((classes, ROWS, slots), dtype), np.zeros((classes, ROWS, slots), dtype)
    total, highest = np.ones((ROWS, slots), dtype), np.zeros((ROWS, slots), dtype)
    factor, inner = np.zeros((ROWS, slots), dtype), np.zeros((ROWS, slots), dtype)
    target = np.empty((ROWS, slots), np.int32)
    line, row_line = np.empty(labels.shape[1] + 1, np.int32), np.empty(tile[0] + 1, dtype)
    low = np.zeros(ROWS, dtype)
    one = np.ones(1, dtype)[0]
    summed = 0.0
    for start in range(0, width + 1, tile[0]):
        pairs = min(tile[0], width + 1 - start)
        span = pairs * tile[1]
        column, count = place(columns, start, pairs, tile[1], share, position)
        if count == 0:
            continue
        in_upper, in_lower = -1, -1
        for pair in range(first, last):
            above, below = max(pair - 1, 0), min(pair, height - 1)
            for y in range(starts[pair], starts[pair + 1], ROWS):
                group = min(ROWS, starts[pair + 1] - y)
                found = 0
                for r in range(group):
                    low[r] = shares[y + r]
                    found += _read_targets(
                        labels, ignore_index, classes, y + r, column, count, line, position, span, target[r]
                    )
                if found == 0:
                    continue
                if in_upper != above:
                    if in_lower == above:
                        upper, lower = lower, upper
                        in_lower = in_upper
                    else:
                        expand(powers, above, start, pairs, tile[1], share, upper)
                    in_upper = above
                if in_lower != below:
                    expand(powers, below, start, pairs, tile[1], share, lower)
                    in_lower = below
                exponentials(upper, lower, low, group, span, value, total, highest)
                for r in range(group):
                    for x in range(span):
                        inverse: Any = quotient(one, total[r, x])  # type: ignore[call-arg]
                        factor[r, x] = inverse if target[r, x] >= 0 else ZERO * inverse
                if sums.size:
                    _add_sums(value, factor, target, group, span, sums)
                    continue
                if counts.size:
                    _count_errors(value, factor, target, group, span, counts)
                    continue
                summed += _derive(value, factor, target, group, span, present, slopes, table, slope, inner)
                if gradient.size == 0:
                    continue
                for r in range(group, -(-group // 4) * 4):
                    factor[r] = 0
                for c in range(classes):
                    collect(value[c], factor, low, group, span, to_upper, to_lower)
                    up = gradient[c, above] if above != last - 1 or last > height else edge[c]
                    down = gradient[c, below] if below != last - 1 or last > height else edge[c]
                    bring_back(to_upper, share, start, pairs, tile[1], row_line, up)
                    bring_back(to_lower, share, start, pairs, tile[1], row_line, down)
    return summed
