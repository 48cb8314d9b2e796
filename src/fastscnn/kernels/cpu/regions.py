"""The losses of regions on a CPU: two passes over the output, which is never built.

The first pass counts: probabilities of a class for Dice, pixels by their error for Lovász. Both losses are then known
functions of each probability, and the second pass derives them.
"""

import itertools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.kernels.cpu.loss import BANDS, SLOTS, applies, powers_of_two, side
from fastscnn.kernels.cpu.loss_tiles import Floats, Integers
from fastscnn.kernels.cpu.numba_utils import parallel
from fastscnn.kernels.cpu.regions_kernels import rows_of_regions

__all__ = ["applies", "dice", "lovasz"]

STEPS = 1 << 16
"""Steps in which errors from 0 to 1 are counted."""

Doubles = npt.NDArray[np.float64]


class _Pass:
    """One batch of logits and labels, and the passes over it."""

    def __init__(self, powers: Tensor, labels: Tensor, ignore_index: int) -> None:
        """Take powers of two [B, C, h, w], float32 or float64, and labels [B, H, W]."""
        self.powers, self.labels, self.ignore_index = powers.numpy(), labels.contiguous().numpy(), ignore_index
        _, classes, height, width = powers.shape
        self.rows, _ = side(height, labels.shape[1], powers.dtype)
        self.columns, phases = side(width, labels.shape[2], powers.dtype)
        slots = max(32, SLOTS * 19 // max(classes, 19))
        self.tile = (min(max(1, slots // phases), width + 1), phases)
        edges = np.linspace(0, height + 1, min(BANDS, height + 1) + 1).astype(int).tolist()
        self.jobs = list(itertools.product(range(len(self.powers)), itertools.pairwise(edges)))
        self.last_rows = [last - 1 for _, last in itertools.pairwise(edges)][:-1]
        named = self.labels[(self.labels != ignore_index) & (self.labels >= 0) & (self.labels < classes)]
        self.pixels = np.bincount(named, minlength=classes)

    def sums(self) -> Doubles:
        """Sum of each class's probability, everywhere and where it is the label [2, C]."""
        found = np.zeros((len(self.jobs), 2, len(self.pixels)))
        parallel(lambda job: self._run(job, sums=found[job]), range(len(self.jobs)))
        summed: Doubles = found.sum(axis=0)
        return summed

    def counts(self) -> Integers:
        """Pixels by class, step of their error and whether they have the class [C, STEPS, 2]; the same in any order."""
        threads = torch.get_num_threads()
        found = np.zeros((threads, len(self.pixels), 2 * STEPS), np.int32)

        def run(thread: int) -> None:
            for job in range(thread, len(self.jobs), threads):
                self._run(job, counts=found[thread])

        parallel(run, range(threads))
        summed: Integers = found.sum(axis=0, dtype=np.int64).reshape(-1, STEPS, 2)
        return summed

    def derived(self, slopes: Floats | None, table: Floats | None, derives: bool) -> tuple[float, Tensor]:
        """Sum of probability times slope, and the gradient of that sum; see `rows_of_regions`."""
        gradient = torch.zeros(self.powers.shape if derives else (0, 0, 0, 0), dtype=_dtype(self.powers))
        edges = np.zeros((len(self.jobs), self.powers.shape[1], self.powers.shape[3]), self.powers.dtype)
        into = gradient.numpy()
        results = parallel(
            lambda job: self._run(job, slopes=slopes, table=table, gradient=into, edge=edges[job]),
            range(len(self.jobs)),
        )
        if derives:
            bands = len(self.jobs) // len(self.powers)
            for image, (band, last) in itertools.product(range(len(into)), enumerate(self.last_rows)):
                into[image, :, last] += edges[image * bands + band]
        return math.fsum(results), gradient

    def _run(
        self,
        job: int,
        *,
        sums: Doubles | None = None,
        counts: Integers | None = None,
        slopes: Floats | None = None,
        table: Floats | None = None,
        gradient: Floats | None = None,
        edge: Floats | None = None,
    ) -> float:
        image, (first, last) = self.jobs[job]
        dtype = self.powers.dtype
        nothing = np.empty((0, 0), dtype)
        result: float = rows_of_regions(
            self.powers[image],
            self.labels[image],
            self.ignore_index,
            self.rows,
            self.columns,
            self.tile,
            first,
            last,
            self.pixels > 0,
            np.empty((0, 0)) if sums is None else sums,
            np.empty((0, 0), np.int32) if counts is None else counts,
            nothing if slopes is None else slopes,
            nothing if table is None else table,
            nothing[None] if gradient is None or not gradient.size else gradient[image],
            nothing if edge is None else edge,
        )
        return result


def dice(logits: Tensor, labels: Tensor, ignore_index: int, derives: bool) -> tuple[Tensor, Tensor]:
    """Value and gradient of `fastscnn.kernels.upsample_dice`; if `applies`."""
    batch = _Pass(powers_of_two(logits), labels, ignore_index)
    present = batch.pixels > 0
    number = max(int(present.sum()), 1)
    predicted, overlap = batch.sums()
    total = np.where(present, predicted + batch.pixels, 1)
    ratio = 2 * overlap / total
    value = logits.new_tensor((present * (1 - ratio)).sum() / number)
    if not derives:
        return value, logits.new_zeros(())
    slopes = (present * np.stack([-2 / total, ratio / total]) / number).astype(batch.powers.dtype)
    return value, batch.derived(slopes, None, derives)[1]


def lovasz(logits: Tensor, labels: Tensor, ignore_index: int, derives: bool) -> tuple[Tensor, Tensor]:
    """Value and gradient of `fastscnn.kernels.upsample_lovasz`, of counted errors; if `applies`."""
    batch = _Pass(powers_of_two(logits), labels, ignore_index)
    present = batch.pixels > 0
    number = max(int(present.sum()), 1)
    constant, slopes = 0.0, np.zeros((len(present), STEPS, 2), batch.powers.dtype)
    for place, counts in enumerate(batch.counts()):
        if present[place]:
            alone, slopes[place] = _slopes(counts)
            constant += alone
    summed, gradient = batch.derived(None, slopes.reshape(len(present), -1), derives)
    return logits.new_tensor((constant + summed) / number), gradient / number


def _slopes(counts: Integers) -> tuple[float, Doubles]:
    """What one class's loss grows with the probability of a pixel, by step of the error and whether it has the class.

    1 - IoU of the n pixels of the greatest errors, of which p are true: of F true pixels, F - p are left in an
    intersection, and F + n - p are in the union. Pixels of one step weigh the mean of what they add with the true ones
    first and with the true ones last.

    Args:
        counts: Of the pixels that have the class, and before these of the others, by step [STEPS, 2].

    Returns:
        The loss at a probability of 0 everywhere; and the slopes [STEPS, 2].
    """
    others, hits = counts[::-1].T.astype(np.float64)
    all_true = hits.sum()
    union = all_true + np.cumsum(others)
    before = union - others
    at_true = (1 / union + 1 / before) / 2
    elsewhere = (all_true - np.cumsum(hits) + hits / 2) / (union * before)
    return float(hits @ at_true), np.stack([elsewhere, -at_true], axis=1)[::-1]


def _dtype(array: Floats) -> torch.dtype:
    return torch.float64 if array.dtype == np.float64 else torch.float32
