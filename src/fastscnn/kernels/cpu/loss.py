"""The fused cross-entropy on a CPU: loss and gradient in one pass over the output, which is never built."""

import itertools
import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastscnn.kernels import reference
from fastscnn.kernels.cpu.loss_kernels import Hard, rows_of_loss
from fastscnn.kernels.cpu.loss_tiles import Floats, Side
from fastscnn.kernels.cpu.numba_utils import parallel
from fastscnn.kernels.reference import HardPixels

BANDS = 8
"""Bands into which the output rows of an image are split; a constant, so that the result does not depend on threads."""
SLOTS = 512
"""Columns of a tile with 19 classes: the data of the inner loops fits into the second-level cache."""


class _Options(NamedTuple):
    ignore_index: int
    weight: Tensor | None
    label_smoothing: float
    hard: HardPixels | None


@lru_cache(maxsize=64)
def side(size: int, target: int, dtype: torch.dtype) -> tuple[Side, int]:
    """Positions of the `target` outputs along one side of `size` logits, and the greatest number between two logits."""
    source = np.maximum((np.arange(target) + 0.5) * (size / target) - 0.5, -0.5)
    before = np.minimum(np.floor(source), size - 1)
    starts = np.searchsorted(before, np.arange(-1, size + 1))
    shares = (source - before).astype(np.float64 if dtype == torch.float64 else np.float32)
    return (starts, shares), int(np.diff(starts).max())


class _Pass:
    """One batch of logits and labels, and the passes over it."""

    def __init__(self, powers: Tensor, labels: Tensor, options: _Options) -> None:
        """Take powers of two [B, C, h, w], float32 or float64, and labels [B, H, W]."""
        self.powers, self.labels, self.options = powers.numpy(), labels.detach().contiguous().numpy(), options
        _, classes, height, width = powers.shape
        self.rows, _ = side(height, labels.shape[1], powers.dtype)
        self.columns, phases = side(width, labels.shape[2], powers.dtype)
        slots = max(32, SLOTS * 19 // max(classes, 19))
        self.tile = (min(max(1, slots // phases), width + 1), phases)
        weight = torch.ones(classes) if options.weight is None else options.weight.detach().cpu()
        weight = weight.to(powers.dtype)
        own = (1 - options.label_smoothing) * weight
        factor = own + weight.mean() * options.label_smoothing
        self.labelled = tuple(one.numpy() for one in (weight, factor, own / factor.clamp(min=1e-30)))
        self.edges = np.linspace(0, height + 1, min(BANDS, height + 1) + 1).astype(int).tolist()
        self.nothing = np.empty((0, 0), self.powers.dtype)

    def probabilities(self) -> Floats:
        """Probability of the true class of each pixel, 2 for ignored pixels: [B, H, W]."""
        found = np.empty(self.labels.shape, self.powers.dtype)
        self._run(lambda image: ((self.nothing, 0.0, 0.0), found[image], self.nothing[None]), None)
        return found

    def loss(self, hard: tuple[Floats, float, float] | None, gradient: Floats | None) -> tuple[float, float]:
        """Sums of the loss in powers of two and of the weights; the gradient of the sum is written into `gradient`."""

        def arguments(image: int) -> tuple[Hard, Floats, Floats]:
            counted = (self.nothing, 0.0, 0.0) if hard is None else (hard[0][image], *hard[1:])
            return counted, self.nothing, self.nothing[None] if gradient is None else gradient[image]

        return self._run(arguments, gradient)

    def _run(self, arguments: Any, gradient: Floats | None) -> tuple[float, float]:
        bands = list(itertools.pairwise(self.edges))
        jobs = list(itertools.product(range(len(self.powers)), range(len(bands))))
        channels, width = (0, 0) if gradient is None else (gradient.shape[1], gradient.shape[3])
        edges = np.zeros((len(self.powers), len(bands), channels, width), self.powers.dtype)

        def run(job: tuple[int, int]) -> tuple[float, float, int]:
            image, band = job
            hard, probabilities, into = arguments(image)
            result: tuple[float, float, int] = rows_of_loss(
                self.powers[image],
                self.labels[image],
                self.options.ignore_index,
                self.labelled,
                hard,
                self.rows,
                self.columns,
                self.tile,
                *bands[band],
                probabilities,
                into,
                edges[image, band],
            )
            return result

        results = parallel(run, jobs)
        if sum(wrong for _, _, wrong in results):
            self._refuse()
        if gradient is not None:
            for band, (_, last) in enumerate(bands[:-1]):
                gradient[:, :, last - 1] += edges[:, band]
        return math.fsum(loss for loss, _, _ in results), math.fsum(weight for _, weight, _ in results)

    def _refuse(self) -> None:
        classes = self.powers.shape[1]
        wrong = (self.labels != self.options.ignore_index) & ((self.labels < 0) | (self.labels >= classes))
        raise IndexError(
            f"label {self.labels[wrong][0]} names none of the logits' {classes} classes, 0 to {classes - 1}, and is "
            f"not ignore_index={self.options.ignore_index}"
        )


def _threshold(probabilities: Floats, hard: HardPixels) -> tuple[Floats, float, float]:
    """The hard pixels, as `fastscnn.kernels.reference.hard_shares` defines them."""
    least = math.ceil(hard.keep * np.count_nonzero(probabilities <= 1))
    below = probabilities.dtype.type(hard.probability)
    if np.count_nonzero(probabilities < below) >= least:
        return probabilities, float(below), 0.0
    threshold = np.partition(probabilities, least - 1, axis=None)[least - 1]
    tied = np.count_nonzero(probabilities == threshold)
    return probabilities, float(threshold), (least - np.count_nonzero(probabilities < threshold)) / tied


class _UpsampleCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, powers: Tensor, labels: Tensor, options: _Options, train: bool
    ) -> tuple[Tensor, Tensor]:
        batch_pass = _Pass(powers, labels, options)
        hard = None if options.hard is None else _threshold(batch_pass.probabilities(), options.hard)
        batch, classes, height, width = powers.shape
        smoothing = options.label_smoothing
        channels = classes + (smoothing > 0)
        maps = torch.zeros(batch, channels, height, width, dtype=powers.dtype) if train or smoothing else None
        loss, weight = batch_pass.loss(hard, None if maps is None else maps.numpy())
        if maps is not None:
            gradient = maps[:, :classes]
            if smoothing:
                each = torch.from_numpy(batch_pass.labelled[0])[:, None, None] * (smoothing / classes)
                taken = maps[:, classes:] * each
                loss -= float((taken * powers).sum(dtype=torch.float64))
                gradient = gradient.sub_(taken)
            ctx.save_for_backward(gradient.div_(weight) if weight else gradient.zero_())
        ctx.dtype = logits.dtype
        mean = loss / weight * math.log(2) if weight else 0.0
        total = torch.tensor(weight, dtype=torch.float64)
        ctx.mark_non_differentiable(total)
        return torch.tensor(mean, dtype=powers.dtype), total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_outputs[0]).to(ctx.dtype), None, None, None, None


def powers_of_two(logits: Tensor) -> Tensor:
    """Logits in powers of two minus the highest at each position, rounded once: float32 or float64 [B, C, h, w]."""
    powers = torch.empty(logits.shape, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
    for image, out in zip(logits, powers, strict=True):
        image = image.double()
        out.copy_((image - image.amax(0)).mul_(math.log2(math.e)))
    return powers


def applies(logits: Tensor, labels: Tensor) -> bool:
    """Whether the kernel takes these: floating-point logits and integer labels on the CPU, none of them empty."""
    return (
        logits.device.type == labels.device.type == "cpu"
        and logits.is_floating_point()
        and labels.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
        and logits.numel() > 0
        and labels.numel() > 0
    )


def upsample_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    hard: HardPixels | None = None,
) -> Tensor:
    """See `fastscnn.kernels.upsample_cross_entropy`; if `applies`."""
    return upsample_cross_entropy_and_weight(logits, labels, ignore_index, weight, label_smoothing, hard)[0]


def upsample_cross_entropy_and_weight(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    hard: HardPixels | None = None,
) -> tuple[Tensor, Tensor]:
    """See `fastscnn.kernels.upsample_cross_entropy_and_weight`; if `applies`.

    The reference computes logits that are not finite.
    """
    powers = powers_of_two(logits.detach())
    if not math.isfinite(powers.amin()):
        return reference.upsample_cross_entropy_and_weight(logits, labels, ignore_index, weight, label_smoothing, hard)
    train = logits.requires_grad and torch.is_grad_enabled()
    options = _Options(ignore_index, weight, label_smoothing, hard)
    found: tuple[Tensor, Tensor] = _UpsampleCrossEntropy.apply(logits, powers, labels, options, train)
    return found
