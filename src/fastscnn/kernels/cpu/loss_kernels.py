"""The compiled part of the fused cross-entropy on a CPU.

The output is worked off in tiles. The outputs between two neighbouring logits of a row, a "pair", are the phases of
that pair; a tile takes some pairs side by side and keeps its columns phase by phase, slot = phase * pairs + pair. So
whatever the scale, interpolation and its transpose run over contiguous memory and vectorise. The first pair lies left
of the first logit and the last one right of the last: there both neighbours are the same logit. Rows pair up the same
way. A row of logits is expanded to a tile's columns once for all output rows that need it; the gradient of up to
`ROWS` output rows is added up before it is brought back to the logits' columns.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.kernels.cpu.numba_utils import ONE, SMALLEST, ZERO, compiled, log2, power_of_two, quotient

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]
Side = tuple[Integers, Floats]
"""Of the outputs along one side: where each pair's begin, [logits + 2], and the share of the later logit."""
Classes = tuple[Floats, Floats, Floats]
"""Of each class as a label: its weight; the factor of the logarithm of the sum of exponentials; and the share of that
factor which its own logit has."""
Hard = tuple[Floats, float, float]
"""Probability of the true class of each pixel of an image, [H, W]; below which one a pixel counts in full; and how much
one counts that is exactly there. An empty array: all labelled pixels count in full."""

ROWS = 8
"""Output rows between the same two logit rows that are worked off together; a multiple of 4."""
SMALL_TOTAL = np.float32(2.0**-60)
"""From here on the classes whose exponentials are below 2^-126 are nothing beside the sum of all."""


@compiled
def _place(columns: Side, start: int, pairs: int, phases: int, share: Floats, position: Integers) -> tuple[int, int]:
    """Share and position of each slot of a tile; returns the tile's first column and its number of columns.

    A slot beyond its pair's last phase gets the position behind the last column.
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
def _expand(powers: Floats, row: int, start: int, pairs: int, phases: int, share: Floats, out: Floats) -> None:
    """A row of the logits at the slots of a tile, all classes: float [C, h, w] to [C, slots]."""
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
    kept: Floats,
) -> tuple[int, int]:
    """Labels of one output row at a tile's slots, and how much each pixel counts: 0 where ignored, its label 0 then.

    Returns:
        How many count, and how many labels name no class.
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
        kept[x] = ONE if label >= 0 else ZERO
    if probabilities.size:
        for x in range(span):
            probability = probabilities[y, first + min(position[x], count - 1)]
            if probability >= full_below:
                kept[x] *= at_threshold if probability == full_below else 0.0
    for x in range(span):
        labelled += kept[x] > 0
    return labelled, wrong


@compiled
def _exponentials(
    upper: Floats, lower: Floats, low: Floats, rows: int, span: int, value: Floats, total: Floats, highest: Floats
) -> None:
    """Exponentials of some output rows, [C, rows, slots], and their sum over the classes.

    A power below 2^-126 becomes that. Where all classes of a pixel are small, the highest is subtracted first.

    Args:
        upper: Powers of two of the logit row above [C, slots].
        lower: The same of the one below.
        low: Share of the one below in each output row.
        rows: How many output rows.
        span: How many slots.
        value: Receives the exponentials.
        total: Receives the sums [rows, slots].
        highest: Receives what was subtracted, mostly 0 [rows, slots].
    """
    classes = upper.shape[0]
    total[:rows] = 0
    highest[:rows] = 0
    for c in range(classes):
        for r in range(rows):
            share = low[r]
            rest = ONE - share
            for x in range(span):
                value[c, r, x] = power_of_two(max(rest * upper[c, x] + share * lower[c, x], SMALLEST))
                total[r, x] += value[c, r, x]
    smallest = ONE * upper.shape[0]
    for r in range(rows):
        for x in range(span):
            smallest = min(smallest, total[r, x])
    if smallest >= SMALL_TOTAL:
        return
    highest[:rows] = -np.inf
    for c in range(classes):
        for r in range(rows):
            share = low[r]
            rest = ONE - share
            for x in range(span):
                highest[r, x] = max(highest[r, x], rest * upper[c, x] + share * lower[c, x])
    total[:rows] = 0
    for c in range(classes):
        for r in range(rows):
            share = low[r]
            rest = ONE - share
            for x in range(span):
                power = rest * upper[c, x] + share * lower[c, x] - highest[r, x]
                value[c, r, x] = power_of_two(max(power, SMALLEST))
                total[r, x] += value[c, r, x]


@compiled
def _collect(
    value: Floats, factor: Floats, low: Floats, rows: int, span: int, to_upper: Floats, to_lower: Floats
) -> None:
    """Gradient of one class at some output rows, value * factor, [rows, slots], added up for the two logit rows.

    Rows beyond `rows`, up to the next multiple of 4, are read too: their factors are 0.
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
def _bring_back(
    slots: Floats, share: Floats, start: int, pairs: int, phases: int, line: Floats, gradient: Floats
) -> None:
    """Transpose of `_expand`: add the gradient at a tile's slots to that of a row of one class, [w]."""
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


@compiled
def _loss_of_group(
    upper: Floats,
    lower: Floats,
    low: Floats,
    rows: int,
    span: int,
    labelled: Classes,
    target: Integers,
    kept: Floats,
    value: Floats,
    total: Floats,
    highest: Floats,
    factor: Floats,
    picked: Floats,
    counts: Floats,
) -> tuple[float, float]:
    """Sum of the loss of some output rows, in powers of two, and of the weights.

    Args:
        upper: As `_exponentials` takes it; so are lower, low, rows, span.
        labelled: What a class counts as a label.
        target: Label of each pixel [rows, slots].
        kept: How much each one counts [rows, slots].
        value: Exponentials [C, rows, slots]; the gradient is made of them: value * factor.
        total: Their sums [rows, slots].
        highest: What was subtracted from the powers [rows, slots].
        factor: Receives the pixels' factors of the gradient [rows, slots].
        picked: Scratch [rows, slots]; so is counts.
    """
    weights, factors, own_shares = labelled
    loss, weight = 0.0, 0.0
    for r in range(rows):
        share = low[r]
        rest = ONE - share
        for x in range(span):
            t = target[r, x]
            own = own_shares[t]
            picked[r, x] = own * (rest * upper[t, x] + share * lower[t, x]) - highest[r, x]
            value[t, r, x] -= own * total[r, x]
        for x in range(span):
            counts[r, x] = weights[target[r, x]]
            factor[r, x] = factors[target[r, x]]
        lost, summed = ZERO * low[0], ZERO * low[0]
        for x in range(span):
            factor[r, x] *= kept[r, x]
            lost += factor[r, x] * (log2(total[r, x]) - picked[r, x])
            summed += counts[r, x] * kept[r, x]
            factor[r, x] = quotient(factor[r, x], total[r, x])  # type: ignore[call-arg]
        loss += lost
        weight += summed
    return loss, weight


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
    """Loss of the output rows of one image that lie in the pairs of logit rows from `first` to `last`.

    Args:
        powers: Logits in powers of two, float [C, h, w]; the highest at each place is 0.
        labels: [H, W], of any integer type.
        ignore_index: Label of the pixels that are left out.
        labelled: What a class counts as a label.
        hard: Which pixels count.
        rows: Of the output rows.
        columns: Of the output columns.
        tile: Most pairs of columns in a tile, and most phases of a pair.
        first: The first pair of rows.
        last: The one after the last.
        probabilities: If it has elements, [H, W]: receives the probability of each true class, 2 where ignored, and
            nothing else is computed.
        gradient: If it has elements, [C, h, w]: the gradient of the sum is added to it, but for the last row of logits,
            which the next pairs share. A channel more receives how much the pixels at each logit count.
        edge: Receives that row instead [C, w].

    Returns:
        Sum of the loss in powers of two, without what label smoothing takes off for each logit; sum of the weights;
        how many labels name no class.
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
    factor, kept = np.zeros((ROWS, slots), dtype), np.zeros((ROWS, slots), dtype)
    picked, counts = np.empty((ROWS, slots), dtype), np.empty((ROWS, slots), dtype)
    target = np.empty((ROWS, slots), np.uint32)
    line, row_line = np.empty(labels.shape[1] + 1, np.int32), np.empty(tile[0] + 1, dtype)
    low = np.zeros(ROWS, dtype)
    loss, weight, wrong = 0.0, 0.0, 0
    for start in range(0, width + 1, tile[0]):
        pairs = min(tile[0], width + 1 - start)
        span = pairs * tile[1]
        column, count = _place(columns, start, pairs, tile[1], share, position)
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
                    counted, unknown = _read_labels(
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
                        kept[r],
                    )
                    found += counted
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
                        _expand(powers, above, start, pairs, tile[1], share, upper)
                    in_upper = above
                if in_lower != below:
                    _expand(powers, below, start, pairs, tile[1], share, lower)
                    in_lower = below
                _exponentials(upper, lower, low, group, span, value, total, highest)
                if probabilities.size:
                    for r in range(group):
                        for x in range(span):
                            if position[x] < count:
                                t = target[r, x]
                                probability: Any = quotient(value[t, r, x], total[r, x])  # type: ignore[call-arg]
                                probability = probability if kept[r, x] > 0 else 2 * ones[r, x]
                                probabilities[y + r, column + position[x]] = probability
                    continue
                lost, summed = _loss_of_group(
                    upper,
                    lower,
                    low,
                    group,
                    span,
                    labelled,
                    target,
                    kept,
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
                    kept[r] = 0
                for c in range(gradient.shape[0]):
                    if c < classes:
                        _collect(value[c], factor, low, group, span, to_upper, to_lower)
                    else:
                        _collect(ones, kept, low, group, span, to_upper, to_lower)
                    up = gradient[c, above] if above != last - 1 or last > height else edge[c]
                    down = gradient[c, below] if below != last - 1 or last > height else edge[c]
                    _bring_back(to_upper, share, start, pairs, tile[1], row_line, up)
                    _bring_back(to_lower, share, start, pairs, tile[1], row_line, down)
    return loss, weight, wrong
