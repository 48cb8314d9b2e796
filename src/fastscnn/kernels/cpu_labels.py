"""Fused upsampling to labels and to probabilities on a CPU: no full-size logits are ever built.

The output is made tile by tile: the columns of a tile are interpolated once for each pair of logit rows, and each
output row of the tile is then one blend of two short rows for each class. Everything that the inner loops touch stays
in the first caches, and they run over contiguous memory, so that they vectorise at any scale.
"""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.kernels.compiled import C1, C2, C3, C4, C5, C6, HALF, LOG2_E, ONE, SMALLEST, ZERO, compiled, parallel

Floats = npt.NDArray[np.float32]

TILE = 256
"""Columns of a tile: two rows of 19 classes are 38 KiB."""


def source_positions(size: int, target: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Where the `target` outputs along one side lie among `size` inputs, half-pixel centres, as torch computes it.

    Returns:
        The neighbours before and after, and the share of the one after; float32, from 0 to 1.
    """
    scale = np.float32(size) / np.float32(target)
    source = np.maximum(scale * (np.arange(target, dtype=np.float32) + HALF) - HALF, ZERO)
    before = np.minimum(source.astype(np.int64), size - 1)
    after = np.minimum(before + 1, size - 1)
    return before, after, (source - before.astype(np.float32)).astype(np.float32)


@compiled
def _expand(
    logits: Floats, row: int, start: int, stop: int, before: Any, after: Any, share: Floats, out: Floats
) -> None:
    """One row of the logits, float32 [C, h, w], at the output columns from start to stop; into out, [C, TILE]."""
    for c in range(logits.shape[0]):
        for x in range(start, stop):
            left, right = logits[c, row, before[x]], logits[c, row, after[x]]
            out[c, x - start] = left + share[x] * (right - left)


@compiled
def _labels(
    logits: Floats, rows: tuple[Any, Any, Floats], columns: tuple[Any, Any, Floats], first: int, last: int, out: Any
) -> None:
    """Output rows from first to last of one image: float32 [C, h, w] to uint8 [H, W]."""
    classes = logits.shape[0]
    above, below, low = rows
    before, after, share = columns
    width = out.shape[1]
    upper = np.empty((classes, TILE), np.float32)
    lower = np.empty((classes, TILE), np.float32)
    highest = np.empty(TILE, np.float32)
    label = np.empty(TILE, np.int32)
    for start in range(0, width, TILE):
        stop = min(start + TILE, width)
        span = stop - start
        upper_row, lower_row = -1, -1
        for y in range(first, last):
            if above[y] != upper_row:
                if above[y] == lower_row:
                    upper, lower = lower, upper
                    upper_row, lower_row = lower_row, -1
                else:
                    _expand(logits, above[y], start, stop, before, after, share, upper)
                    upper_row = above[y]
            if below[y] != lower_row:
                _expand(logits, below[y], start, stop, before, after, share, lower)
                lower_row = below[y]
            share_low = low[y]
            share_high = ONE - share_low
            for x in range(span):
                highest[x] = share_high * upper[0, x] + share_low * lower[0, x]
                label[x] = 0
            for c in range(1, classes):
                for x in range(span):
                    value = share_high * upper[c, x] + share_low * lower[c, x]
                    larger = value > highest[x]
                    highest[x] = value if larger else highest[x]
                    label[x] = c if larger else label[x]
            for x in range(span):
                out[y, start + x] = label[x]


@compiled
def _probabilities(
    logits: Floats, rows: tuple[Any, Any, Floats], columns: tuple[Any, Any, Floats], first: int, last: int, out: Floats
) -> None:
    """Output rows from first to last of one image: float32 [C, h, w] to float32 [C, H, W]."""
    classes = logits.shape[0]
    above, below, low = rows
    before, after, share = columns
    width = out.shape[2]
    upper = np.empty((classes, TILE), np.float32)
    lower = np.empty((classes, TILE), np.float32)
    value = np.empty((classes, TILE), np.float32)
    bits = value.view(np.int32)
    exponent = np.empty(TILE, np.int32)
    highest = np.empty(TILE, np.float32)
    total = np.empty(TILE, np.float32)
    for start in range(0, width, TILE):
        stop = min(start + TILE, width)
        span = stop - start
        upper_row, lower_row = -1, -1
        for y in range(first, last):
            if above[y] != upper_row:
                if above[y] == lower_row:
                    upper, lower = lower, upper
                    upper_row, lower_row = lower_row, -1
                else:
                    _expand(logits, above[y], start, stop, before, after, share, upper)
                    upper_row = above[y]
            if below[y] != lower_row:
                _expand(logits, below[y], start, stop, before, after, share, lower)
                lower_row = below[y]
            share_low = low[y]
            share_high = ONE - share_low
            for x in range(span):
                highest[x] = share_high * upper[0, x] + share_low * lower[0, x]
                value[0, x] = highest[x]
                total[x] = 0
            for c in range(1, classes):
                for x in range(span):
                    blend = share_high * upper[c, x] + share_low * lower[c, x]
                    value[c, x] = blend
                    highest[x] = max(highest[x], blend)
            for c in range(classes):
                for x in range(span):
                    power = max((value[c, x] - highest[x]) * LOG2_E, SMALLEST)
                    whole = np.floor(power + HALF)
                    f = power - whole
                    value[c, x] = ONE + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
                    exponent[x] = np.int32(whole)
                for x in range(span):
                    bits[c, x] += exponent[x] << 23
                for x in range(span):
                    total[x] += value[c, x]
            for x in range(span):
                total[x] = ONE / total[x]
            for c in range(classes):
                for x in range(span):
                    out[c, y, start + x] = value[c, x] * total[x]


def applies(logits: Tensor) -> bool:
    """Whether the kernels can take these: float32 or bfloat16 on the CPU, finite, without a gradient."""
    return (
        logits.device.type == "cpu"
        and logits.dtype in (torch.float32, torch.bfloat16)
        and not (logits.requires_grad and torch.is_grad_enabled())
        and bool(torch.isfinite(logits.sum(dtype=torch.float32)))
    )


def upsample_labels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """See `fastscnn.kernels.upsample_labels`; where `applies`."""
    out = torch.empty(len(logits), *size, dtype=torch.uint8)
    _run(_labels, logits, size, out)
    return out


def upsample_probabilities(logits: Tensor, size: tuple[int, int], out: Tensor) -> Tensor:
    """See `fastscnn.kernels.upsample_probabilities`; where `applies` and out is a contiguous float32 CPU tensor."""
    _run(_probabilities, logits, size, out)
    return out


def _run(kernel: Any, logits: Tensor, size: tuple[int, int], out: Tensor) -> None:
    """Run a kernel over the images and bands of output rows, as many as there are threads."""
    values, target = logits.detach().float().contiguous().numpy(), out.numpy()
    rows = source_positions(values.shape[2], size[0])
    columns = source_positions(values.shape[3], size[1])
    bands = max(1, -(-torch.get_num_threads() // len(values)))
    edges = np.linspace(0, size[0], bands + 1).astype(int).tolist()
    jobs = [(image, first, last) for image in range(len(values)) for first, last in itertools.pairwise(edges)]
    parallel(lambda job: kernel(values[job[0]], rows, columns, job[1], job[2], target[job[0]]), jobs)
