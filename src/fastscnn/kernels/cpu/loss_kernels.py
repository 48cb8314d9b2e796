"""The compiled part of the fused cross-entropy on a CPU.

The output is processed in tiles (`loss_tiles`), some output rows at a time (`loss_pixels`). A row of logits is
interpolated to the columns of a tile once for all output rows that need it. The gradients of up to `ROWS` output rows
are summed before they are transposed back to the columns of the logits.
"""

from typing import Any

import numpy as np

from fastscnn.kernels.cpu.loss_pixels import Classes, exponentials, loss_of_group
from fastscnn.kernels.cpu.loss_tiles import Floats, Integers, Side, bring_back, collect, expand, place
from fastscnn.kernels.cpu.numba_utils import ONE, ZERO, quotient
from fastscnn.utils.compiling import compiled

Hard = tuple[Floats, float, float]
"""Probability of the true class of each pixel of an image, [H, W]; the threshold below which a pixel counts fully; and
the share by which a pixel at the threshold counts. With an empty array all labelled pixels count fully."""

ROWS = 8
"""Output rows between the same two logit rows that are processed together; a multiple of 4."""


@compiled
def _read_labels(
    labels: Integers,
    ignore_index: int,
    classes: int,
    hard: Hard,
    y: int,
    first: int,
    count: int,
    line: Integers,
    position: Integers,
    span: int,
    target: Integers,
    counted: Floats,
) -> tuple[int, int]:
    """Read the labels of one output row at a tile's slots, and the share by which each pixel counts.

    A pixel that is ignored has the share 0 and the label 0.

    Returns:
        Number of pixels that count, and number of labels that name no class.
    """
    probabilities, full_below, at_threshold = hard
    wrong, labelled = 0, 0
    for x in range(count):
        found = np.int64(labels[y, first + x])
        named = (found >= 0) & (found < classes)
        line[x] = np.int32(found) if named & (found != ignore_index) else np.int32(-1)
        wrong += np.int64(found != ignore_index) & np.int64(not named)  # type: ignore[assignment]
    line[count] = -1
    for x in range(span):
        label = line[position[x]]
        target[x] = max(label, 0)
        counted[x] = ONE if label >= 0 else ZERO
    if probabilities.size:
        for x in range(span):
            probability = probabilities[y, first + min(position[x], count - 1)]
            if probability >= full_below:
                counted[x] *= at_threshold if probability == full_below else 0.0
    for x in range(span):
        labelled += counted[x] > 0
    return labelled, wrong


@compiled
def rows_of_loss(
    powers: Floats,
    labels: Integers,
    ignore_index: int,
    labelled: Classes,
    hard: Hard,
    rows: Side,
    columns: Side,
    tile: tuple[int, int],
    first: int,
    last: int,
    probabilities: Floats,
    gradient: Floats,
    edge: Floats,
) -> tuple[float, float, int]:
    """Compute the loss of the output rows of one image in the pairs of logit rows from `first` to `last`.

    Args:
        powers: Logits in powers of two, float [C, h, w]; the highest at each position is 0.
        labels: [H, W], of any integer type.
        ignore_index: Label of the pixels that are left out.
        labelled: Values of each class as a label.
        hard: Which pixels count.
        rows: The output rows.
        columns: The output columns.
        tile: Greatest number of pairs of columns in a tile, and of phases of a pair.
        first: The first pair of rows.
        last: The pair after the last.
        probabilities: If it has elements, [H, W]: receives the probability of each true class, 2 for ignored pixels;
            nothing else is computed then.
        gradient: If it has elements, [C, h, w]: the gradient of the sum is added to it, except for the last row of
            logits, which the next pairs share. An additional channel receives the sum of the shares by which the
            pixels at each logit count.
        edge: Receives that last row [C, w].

    Returns:
        Sum of the loss in powers of two, without the term of label smoothing that depends on each logit; sum of the
        weights; number of labels that name no class.
    """
    classes, height, width = powers.shape
    starts, shares = rows
    slots = tile[0] * tile[1]
    dtype = powers.dtype
    share, to_upper, to_lower = np.empty(slots, dtype), np.empty(slots, dtype), np.empty(slots, dtype)
    position = np.empty(slots, np.int64)
    upper, lower = np.empty((classes, slots), dtype), np.empty((classes, slots), dtype)
    value = np.zeros((classes, ROWS, slots), dtype)
    ones = np.ones((ROWS, slots), dtype)
    total, highest = np.ones((ROWS, slots), dtype), np.zeros((ROWS, slots), dtype)
    factor, counted = np.zeros((ROWS, slots), dtype), np.zeros((ROWS, slots), dtype)
    picked, counts = np.empty((ROWS, slots), dtype), np.empty((ROWS, slots), dtype)
    target = np.empty((ROWS, slots), np.uint32)
    line, row_line = np.empty(labels.shape[1] + 1, np.int32), np.empty(tile[0] + 1, dtype)
    low = np.zeros(ROWS, dtype)
    loss, weight, wrong = 0.0, 0.0, 0
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
                    labelled_pixels, unknown = _read_labels(
                        labels,
                        ignore_index,
                        classes,
                        hard,
                        y + r,
                        column,
                        count,
                        line,
                        position,
                        span,
                        target[r],
                        counted[r],
                    )
                    found += labelled_pixels
                    wrong += unknown
                if found == 0 or wrong > 0:
                    if probabilities.size:
                        probabilities[y : y + group, column : column + count] = 2
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
                if probabilities.size:
                    for r in range(group):
                        for x in range(span):
                            if position[x] < count:
                                t = target[r, x]
                                probability: Any = quotient(value[t, r, x], total[r, x])  # type: ignore[call-arg]
                                probability = probability if counted[r, x] > 0 else 2 * ones[r, x]
                                probabilities[y + r, column + position[x]] = probability
                    continue
                lost, summed = loss_of_group(
                    upper,
                    lower,
                    low,
                    group,
                    span,
                    labelled,
                    target,
                    counted,
                    value,
                    total,
                    highest,
                    factor,
                    picked,
                    counts,
                )
                loss += lost
                weight += summed
                if gradient.size == 0:
                    continue
                for r in range(group, -(-group // 4) * 4):
                    factor[r] = 0
                    counted[r] = 0
                for c in range(gradient.shape[0]):
                    if c < classes:
                        collect(value[c], factor, low, group, span, to_upper, to_lower)
                    else:
                        collect(ones, counted, low, group, span, to_upper, to_lower)
                    up = gradient[c, above] if above != last - 1 or last > height else edge[c]
                    down = gradient[c, below] if below != last - 1 or last > height else edge[c]
                    bring_back(to_upper, share, start, pairs, tile[1], row_line, up)
                    bring_back(to_lower, share, start, pairs, tile[1], row_line, down)
    return loss, weight, wrong
