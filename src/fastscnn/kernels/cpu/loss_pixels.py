"""The pixels of the fused cross-entropy on a CPU: exponentials, loss and gradient of some output rows of a tile."""

import numpy as np

from fastscnn.kernels.cpu.loss_tiles import Floats, Integers
from fastscnn.kernels.cpu.numba_utils import ONE, SMALLEST, ZERO, log2, power_of_two, quotient
from fastscnn.utils.compiling import compiled

Classes = tuple[Floats, Floats, Floats]
"""For each class as a label: its weight; the factor of the logarithm of the sum of exponentials; and the share of its
own logit in that factor."""
SMALL_TOTAL = np.float32(2.0**-60)
"""Above this sum of exponentials, classes below 2^-126 are negligible."""


@compiled
def exponentials(
    upper: Floats, lower: Floats, low: Floats, rows: int, span: int, value: Floats, total: Floats, highest: Floats
) -> None:
    """Compute the exponentials of some output rows, [C, rows, slots], and their sum over the classes.

    Values below 2^-126 become 2^-126. If all classes of a pixel are small, the highest power is subtracted first.

    Args:
        upper: Powers of two of the logit row above [C, slots].
        lower: The same for the row below.
        low: Share of the row below in each output row.
        rows: Number of output rows.
        span: Number of slots.
        value: Receives the exponentials.
        total: Receives the sums [rows, slots].
        highest: Receives the powers that were subtracted, mostly 0 [rows, slots].
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
def loss_of_group(
    upper: Floats,
    lower: Floats,
    low: Floats,
    rows: int,
    span: int,
    labelled: Classes,
    target: Integers,
    counted: Floats,
    value: Floats,
    total: Floats,
    highest: Floats,
    factor: Floats,
    picked: Floats,
    counts: Floats,
) -> tuple[float, float]:
    """Sum the loss of some output rows, in powers of two, and the weights.

    Args:
        upper: As for `exponentials`; also lower, low, rows, span.
        labelled: Values of each class as a label.
        target: Label of each pixel [rows, slots].
        counted: Share by which each pixel counts [rows, slots].
        value: Exponentials [C, rows, slots]; changed so that the gradient is value * factor.
        total: Their sums [rows, slots].
        highest: The powers that were subtracted [rows, slots].
        factor: Receives the pixels' factors of the gradient [rows, slots].
        picked: Scratch memory [rows, slots]; also counts.
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
            factor[r, x] *= counted[r, x]
            lost += factor[r, x] * (log2(total[r, x]) - picked[r, x])
            summed += counts[r, x] * counted[r, x]
            factor[r, x] = quotient(factor[r, x], total[r, x])  # type: ignore[call-arg]
        loss += lost
        weight += summed
    return loss, weight
