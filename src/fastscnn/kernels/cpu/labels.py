"""Fused upsampling to labels and to probabilities on a CPU, without building the full-size logits.

The output is computed tile by tile: the columns of a tile are interpolated once for each pair of logit rows, and each
output row of the tile is then one blend of two short rows for each class. The data of the inner loops fits into the
first caches and is contiguous, so that they vectorise at any scale.
"""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.kernels.cpu.label_rows import GROUP, SCALE, expand_row, label_row
from fastscnn.kernels.cpu.numba_utils import HALF, LOG2_E, ONE, SMALLEST, ZERO, exp2, parallel, stream_product
from fastscnn.utils.compiling import compiled

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Rows = tuple[Indices, Indices, Floats]
"""For each output row: the logit rows above and below, and the share of the one below."""
Columns = tuple[Indices, Indices, Floats, int]
"""The same for each output column, and the scale if it is an integer, otherwise 0."""

TILE = 1024
"""Columns of a tile: its rows of 19 classes fit into the second-level cache."""
LABEL_TILE = 128
"""The same for the labels: its rows fit into the first-level cache, and in fewer columns fewer classes can win."""
MOST_POWERS = 100
"""Largest difference to the highest logit at a position, in powers of two, for which float32 blends suffice."""


def source_positions(size: int, target: int) -> Rows:
    """Positions of the `target` outputs along one side among `size` inputs, half-pixel centres, as torch computes them.

    Returns:
        The neighbours before and after, and the share of the one after; float32, from 0 to 1.
    """
    scale = np.float32(size) / np.float32(target)
    source = np.maximum(scale * (np.arange(target, dtype=np.float32) + HALF) - HALF, ZERO)
    before = np.minimum(source.astype(np.int64), size - 1)
    after = np.minimum(before + 1, size - 1)
    return before, after, (source - before.astype(np.float32)).astype(np.float32)


@compiled
def expand(
    logits: Floats, row: int, c: int, start: int, stop: int, columns: Columns, line: Floats, out: Floats
) -> None:
    """Interpolate one class of one row of the logits, float32 [C, h, w], at output columns start to stop, into out[c].

    At an integer scale the outputs are computed phase by phase, each from contiguous neighbours.
    """
    before, after, share, scale = columns
    width = logits.shape[2]
    if scale == 0:
        for x in range(start, stop):
            left, right = logits[c, row, before[x]], logits[c, row, after[x]]
            out[c, x - start] = left + share[x] * (right - left)
        return
    origin, count = start // scale, (stop - start) // scale
    for k in range(count + 2):
        line[k] = logits[c, row, min(max(origin + k - 1, 0), width - 1)]
    for phase in range(scale):
        offset = (phase + HALF) / np.float32(scale) - HALF
        first = 0 if offset < 0 else 1
        right_share = np.float32(offset + ONE if offset < 0 else offset)
        left_share = ONE - right_share
        for k in range(count):
            out[c, k * scale + phase] = left_share * line[k + first] + right_share * line[k + first + 1]


@compiled
def expanded_pair(
    logits: Floats,
    above: int,
    below: int,
    start: int,
    stop: int,
    columns: Columns,
    line: Floats,
    upper: Floats,
    lower: Floats,
    upper_row: int,
    lower_row: int,
) -> tuple[Floats, Floats, int, int]:
    """All classes of two rows of the logits, each expanded as `expand` does unless it is there already.

    `upper` holds row `upper_row`, `lower` row `lower_row`, -1 for none; what was below may be above now, and the two
    then change places.

    Returns:
        The buffers of the rows above and below, and the numbers of these rows.
    """
    if above != upper_row:
        if above == lower_row:
            upper, lower = lower, upper
            lower_row = -1
        else:
            for c in range(logits.shape[0]):
                expand(logits, above, c, start, stop, columns, line, upper)
    if below != lower_row:
        for c in range(logits.shape[0]):
            expand(logits, below, c, start, stop, columns, line, lower)
    return upper, lower, above, below


@compiled
def _candidates(logits: Floats, above: int, below: int, left: int, right: int, found: Indices) -> int:
    """Find the classes that can win between two rows and two columns of the logits, ascending; returns their number.

    A blend lies between its two values: a class whose highest value is below the lowest of another never wins.
    """
    floor = np.float32(-np.inf)
    classes = logits.shape[0]
    for c in range(classes):
        lowest = np.float32(np.inf)
        for x in range(left, right + 1):
            lowest = min(lowest, min(logits[c, above, x], logits[c, below, x]))
        floor = max(floor, lowest)
    count = 0
    for c in range(classes):
        highest = np.float32(-np.inf)
        for x in range(left, right + 1):
            highest = max(highest, max(logits[c, above, x], logits[c, below, x]))
        if highest >= floor:
            found[count] = c
            count += 1
    return count


@compiled
def _expand_by_8(logits: Floats, row: int, c: int, start: int, count: int, line: Floats, out: Floats) -> None:
    """`expand` at a scale of 8, for `count` logits from output column start on."""
    width = logits.shape[2]
    origin = start // SCALE
    line[0] = logits[c, row, max(origin - 1, 0)]
    for k in range(count):
        line[k + 1] = logits[c, row, origin + k]
    line[count + 1] = logits[c, row, min(origin + count, width - 1)]
    expand_row(line.ctypes.data, out.ctypes.data + c * out.shape[1] * 4, count)  # type: ignore[call-arg]


@compiled
def _labels(logits: Floats, rows: Rows, columns: Columns, first: int, last: int, out: Any) -> None:
    """Compute output rows first to last of one image: float32 [C, h, w] to uint8 [H, W]."""
    classes = logits.shape[0]
    above, below, low = rows
    width = out.shape[1]
    scale = columns[3]
    tile = LABEL_TILE if scale == 0 else max(LABEL_TILE // scale, 1) * scale
    room = -(-max(tile, LABEL_TILE) // GROUP) * GROUP
    line = np.empty(room + 2, np.float32)
    expanded = np.empty((2, classes, room), np.float32)  # of the rows above and below, which change places
    row_in = np.empty((2, classes), np.int64)
    found = np.empty(classes, np.int64)
    label = np.empty(room, np.uint8)
    place, size = expanded.ctypes.data, classes * room * 4
    found_at, label_at, out_at = found.ctypes.data, label.ctypes.data, out.ctypes.data
    for start in range(0, width, tile):
        stop = min(start + tile, width)
        span = stop - start
        whole = span % GROUP == 0
        row_in[:] = -1
        count, upper_row, lower_row, upper = 0, -1, -1, 0
        for y in range(first, last):
            if above[y] != upper_row or below[y] != lower_row:
                if above[y] == lower_row:
                    upper = 1 - upper
                upper_row, lower_row = above[y], below[y]
                count = _candidates(logits, upper_row, lower_row, columns[0][start], columns[1][stop - 1], found)
                for which in range(2):
                    row = upper_row if which == 0 else lower_row
                    part = upper if which == 0 else 1 - upper
                    for i in range(count):
                        c = found[i]
                        if row_in[part, c] == row:
                            continue
                        if scale == SCALE:
                            _expand_by_8(logits, row, c, start, span // SCALE, line, expanded[part])
                        else:
                            expand(logits, row, c, start, stop, columns, line, expanded[part])
                        row_in[part, c] = row
            label_row(  # type: ignore[call-arg]
                place + upper * size,
                place + (1 - upper) * size,
                room,
                found_at,
                count,
                ONE - low[y],
                low[y],
                out_at + y * width + start if whole else label_at,
                -(-span // GROUP),
            )
            if not whole:
                for x in range(span):
                    out[y, start + x] = label[x]


@compiled
def _probabilities(
    powers: Floats, rows: Rows, columns: Columns, first: int, last: int, out: Floats, exact: bool, aligned: bool
) -> None:
    """Compute output rows first to last of one image: float32 [C, h, w] to float32 [C, H, W].

    Args:
        powers: Logits in powers of two minus the highest at each position, so that no blend is above 0.
        rows: The output rows.
        columns: The output columns.
        first: The first output row.
        last: The row after the last.
        out: Receives the probabilities.
        exact: Whether to subtract the highest blend too, because blends may be below the range of float32.
        aligned: Whether each row of `out` begins at a multiple of 32 bytes.
    """
    classes = powers.shape[0]
    above, below, low = rows
    height, width = out.shape[1:]
    tile = TILE if columns[3] == 0 else TILE // columns[3] * columns[3]
    line = np.empty(TILE + 2, np.float32)
    upper = np.empty((classes, TILE), np.float32)
    lower = np.empty((classes, TILE), np.float32)
    value = np.empty((classes, TILE), np.float32)
    highest = np.empty(TILE, np.float32)
    total = np.empty(TILE, np.float32)
    for start in range(0, width, tile):
        stop = min(start + tile, width)
        span = stop - start
        upper_row, lower_row = -1, -1
        for y in range(first, last):
            upper, lower, upper_row, lower_row = expanded_pair(
                powers, above[y], below[y], start, stop, columns, line, upper, lower, upper_row, lower_row
            )
            share_low = low[y]
            share_high = ONE - share_low
            total[:] = 0
            if exact:
                highest[:] = -np.inf
                for c in range(classes):
                    for x in range(span):
                        highest[x] = max(highest[x], share_high * upper[c, x] + share_low * lower[c, x])
            for c in range(classes):
                for x in range(span):
                    power = share_high * upper[c, x] + share_low * lower[c, x]
                    if exact:
                        power = max(power - highest[x], SMALLEST)
                    value[c, x] = exp2(power)
                    total[x] += value[c, x]
            for x in range(span):
                total[x] = ONE / total[x]
            eights = span // 8 if aligned else 0
            for c in range(classes):
                stream_product(  # type: ignore[call-arg]
                    value.ctypes.data + c * TILE * 4,
                    total.ctypes.data,
                    out.ctypes.data + ((c * height + y) * width + start) * 4,
                    eights,
                )
                for x in range(eights * 8, span):
                    out[c, y, start + x] = value[c, x] * total[x]


def applies(logits: Tensor) -> bool:
    """Whether the kernels take these logits: float32, bfloat16 or float16 on the CPU, finite, without a gradient."""
    return (
        logits.device.type == "cpu"
        and logits.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and not (logits.requires_grad and torch.is_grad_enabled())
        and bool(torch.isfinite(logits.sum(dtype=torch.float32)))
    )


def upsample_labels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """See `fastscnn.kernels.upsample_labels`; if `applies`."""
    out = torch.empty(len(logits), *size, dtype=torch.uint8)
    run(_labels, logits.detach().float(), size, out)
    return out


def upsample_probabilities(logits: Tensor, size: tuple[int, int], out: Tensor) -> Tensor:
    """See `fastscnn.kernels.upsample_probabilities`; if `applies` and out is a contiguous float32 CPU tensor."""
    logits = logits.detach().float()
    powers = (logits - logits.amax(1, keepdim=True)) * float(LOG2_E)
    aligned = out.data_ptr() % 32 == 0 and size[1] % 8 == 0
    run(_probabilities, powers, size, out, bool(powers.amin() < -MOST_POWERS), aligned)
    return out


def run(kernel: Any, logits: Tensor, size: tuple[int, int], out: Tensor, *arguments: Any) -> None:
    """Run a kernel over the images, in bands of output rows, on all threads."""
    values, target = logits.contiguous().numpy(), out.numpy()
    rows = source_positions(values.shape[2], size[0])
    scale = size[1] // values.shape[3] if size[1] % values.shape[3] == 0 else 0
    columns = (*source_positions(values.shape[3], size[1]), scale if scale <= TILE else 0)
    bands = max(1, -(-torch.get_num_threads() // len(values)))
    edges = np.linspace(0, size[0], bands + 1).astype(int).tolist()
    jobs = [(image, first, last) for image in range(len(values)) for first, last in itertools.pairwise(edges)]
    parallel(lambda job: kernel(values[job[0]], rows, columns, job[1], job[2], target[job[0]], *arguments), jobs)
