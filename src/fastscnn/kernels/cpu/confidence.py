"""Fused upsampling to the highest probability on a CPU: neither logits nor probabilities of full size."""

import numpy as np
import torch
from torch import Tensor

from fastscnn.kernels.cpu.labels import TILE, Columns, Floats, Rows, expanded_pair, run, upsample_labels
from fastscnn.kernels.cpu.numba_utils import LOG2_E, ONE, SMALLEST, exp2
from fastscnn.utils.compiling import compiled


@compiled
def _confidence(logits: Floats, rows: Rows, columns: Columns, first: int, last: int, out: Floats) -> None:
    """Compute output rows first to last of one image: float32 [C, h, w] to float32 [H, W]."""
    classes = logits.shape[0]
    above, below, low = rows
    width = out.shape[1]
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
                logits, above[y], below[y], start, stop, columns, line, upper, lower, upper_row, lower_row
            )
            share_low = low[y]
            share_high = ONE - share_low
            for x in range(span):
                highest[x] = -np.inf
                total[x] = 0
            for c in range(classes):
                for x in range(span):
                    blend = share_high * upper[c, x] + share_low * lower[c, x]
                    value[c, x] = blend
                    highest[x] = max(blend, highest[x])
            for c in range(classes):
                for x in range(span):
                    total[x] += exp2(max((value[c, x] - highest[x]) * LOG2_E, SMALLEST))
            for x in range(span):
                out[y, start + x] = ONE / total[x]


def upsample_confidence(logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """See `fastscnn.kernels.upsample_confidence`; if `cpu.labels.applies`.

    The labels have their own pass, which leaves classes out: so they are the same to the bit as without confidence.
    """
    confidence = torch.empty(len(logits), *size)
    run(_confidence, logits.detach().float(), size, confidence)
    return upsample_labels(logits, size), confidence
