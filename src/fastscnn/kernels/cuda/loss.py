"""The fused cross-entropy on a GPU, by Triton: the loss and its gradient in one pass, no full-size logits.

No call waits for the GPU, and all can be captured into a CUDA graph once they have run (the first call of a kind
compiles its program). The gradient is the same every time. Memory: the gradient in float32 at the logits' size; while
it is computed, four floats for each class and 8x8 pixels; where hard pixels are chosen, a float32 for each pixel. To
find a label that is neither ignored nor a class would be to wait, so such a label makes the loss NaN, as it does its
gradient.
"""

import contextlib
import importlib
import math
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastscnn.kernels.cuda import labels as cuda

if TYPE_CHECKING:
    from fastscnn.kernels.reference import HardPixels

MOST_CLASSES = 256
PIECE = 8
"""Outputs along each side of a piece of a cell, about; smaller cells are not cut."""
CELLS = 32
"""Pieces that a program takes of a row; fewer, where the logits of that many would not stay in its registers."""
VALUES = 1024
"""Logits of a corner that its one warp keeps: 32 in each thread."""
GATHERED = 512
"""Logits of which a program adds up the gradient."""
DIGITS = 2048
SHIFTS = (22, 11, 0)
"""Bits below each digit of a float32 that is not negative."""
BLOCK = 4096
"""Pixels that a program looks at to count their digits."""


def applies(logits: Tensor, labels: Tensor) -> bool:
    """Whether the programs can take these: float32 or half precision on a GPU with Triton, uint8 or int64 labels."""
    return (
        logits.device.type == "cuda"
        and logits.device == labels.device
        and logits.dtype in cuda.DTYPES
        and labels.dtype in (torch.uint8, torch.int64)
        and logits.dim() == 4
        and labels.dim() == 3
        and len(logits) == len(labels)
        and logits.shape[1] <= MOST_CLASSES
        and logits.numel() > 0
        and labels.numel() > 0
        and cuda._usable(logits.device.index)
    )


def upsample_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    hard: "HardPixels | None" = None,
) -> Tensor:
    """See `fastscnn.kernels.upsample_cross_entropy`; where `applies`."""
    return upsample_cross_entropy_and_weight(logits, labels, ignore_index, weight, label_smoothing, hard)[0]


def upsample_cross_entropy_and_weight(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    hard: "HardPixels | None" = None,
) -> tuple[Tensor, Tensor]:
    """See `fastscnn.kernels.upsample_cross_entropy_and_weight`; where `applies`."""
    settings = _Settings(ignore_index, label_smoothing, hard)
    if logits.requires_grad and torch.is_grad_enabled():
        found: tuple[Tensor, Tensor] = _UpsampleCrossEntropy.apply(logits, labels, weight, settings)
        return found
    total, count = _sums(logits, labels, weight, settings, None)
    return _mean(total, count), count


class _Settings(NamedTuple):
    ignore_index: int
    label_smoothing: float
    hard: "HardPixels | None"


class _UpsampleCrossEntropy(torch.autograd.Function):
    """The gradient of the sum is computed beside it, and divided and scaled when it is asked for."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, weight: Tensor | None, settings: _Settings
    ) -> tuple[Tensor, Tensor]:
        gradient = torch.empty_like(logits, dtype=torch.float32)
        total, count = _sums(logits, labels, weight, settings, gradient)
        ctx.save_for_backward(gradient, count)
        ctx.mark_non_differentiable(count)
        ctx.dtype = logits.dtype
        return _mean(total, count), count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        gradient, count = ctx.saved_tensors
        return (gradient * _mean(grad_outputs[0], count)).to(ctx.dtype), None, None, None


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """A sum divided by the weights of its pixels, float32; 0 where no pixel counts, also if its labels are smoothed."""
    return (total / count.where(count > 0, 1) * (count > 0)).float()


def _sums(
    logits: Tensor, labels: Tensor, weight: Tensor | None, settings: _Settings, gradient: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Sum of the loss and of the weights, float64; the gradient of the loss's sum goes into `gradient`.

    Args:
        gradient: float32 of the logits' shape; None where it is not wanted.
    """
    logits, labels = logits.detach().float().contiguous(), labels.contiguous()
    weight = None if weight is None else weight.detach().to(logits.device, torch.float32).contiguous()
    difficulty = threshold = None
    if settings.hard is not None:
        difficulty = torch.empty(labels.shape, dtype=torch.float32, device=labels.device)
        _launch(logits, labels, weight, settings, difficulty=difficulty)
        threshold = _threshold(difficulty, settings.hard)
    sums = _launch(logits, labels, weight, settings, difficulty=difficulty, threshold=threshold, gradient=gradient)
    total, count = sums.sum(0).unbind()
    return total, count


def _launch(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    settings: _Settings,
    *,
    difficulty: Tensor | None = None,
    threshold: Tensor | None = None,
    gradient: Tensor | None = None,
) -> Tensor:
    """Run the program over all pieces of all images; see there. Returns its sums.

    Args:
        logits: float32, contiguous.
    """
    batch, classes, height, width = logits.shape
    size = labels.shape[-2:]
    first, second = _parts(classes)
    cells = _cells(classes)
    pieces = [max(1, round(target / side / PIECE)) for side, target in zip((height, width), size, strict=True)]
    rows, columns = height * pieces[0], width * pieces[1]
    grid = rows * -(-columns // cells), batch
    sums = torch.empty(grid[0] * batch, 2, dtype=torch.float64, device=logits.device)
    nvidia = logits.is_cuda and torch.version.hip is None
    corners = None
    if gradient is not None:
        corners = torch.empty(batch, rows, 4, classes, columns, dtype=torch.float32, device=logits.device)
    with torch.cuda.device(logits.device) if logits.is_cuda else contextlib.nullcontext():
        programs().loss_program[grid](
            *(logits, labels, weight, difficulty, threshold, corners, sums),
            *(classes, height, width, *size, settings.ignore_index, settings.label_smoothing, *pieces),
            FIRST=first,
            SECOND=second,
            CELLS=cells,
            WEIGHS=weight is not None,
            SMOOTHS=settings.label_smoothing != 0,
            JUDGES=difficulty is not None and threshold is None,
            CHOOSES=threshold is not None,
            DERIVES=gradient is not None,
            NVIDIA=nvidia,
            num_warps=1,
        )
        if gradient is not None:
            blocks = -(-classes * height * width // GATHERED), batch
            sums_programs().gather_program[blocks](
                *(corners, gradient, classes, height, width, *pieces, *gradient.stride()), BLOCK=GATHERED, num_warps=4
            )
    return sums


def _parts(classes: int) -> tuple[int, int]:
    """Two powers of two that hold so many classes, or one and 0; as few as can be."""
    first = 1 << classes.bit_length() - 1
    rest = classes - first
    second = 1 << (rest - 1).bit_length() if rest else 0
    return (2 * first, 0) if second == first else (first, second)


def _cells(classes: int) -> int:
    """Pieces that a program takes of a row: a power of two."""
    return min(CELLS, 1 << (VALUES // sum(_parts(classes))).bit_length() - 1)


def _threshold(difficulty: Tensor, hard: "HardPixels") -> Tensor:
    """What is hard, as `fastscnn.kernels.reference.hard_shares` says; a digit at a time, the highest first.

    Args:
        difficulty: As the program writes it.

    Returns:
        float32 [2]: the difficulty from which on a pixel counts, and how much one counts that is just as difficult.
    """
    chosen = torch.zeros(1, dtype=torch.int32, device=difficulty.device)
    least = remaining = tied = chosen
    for shift in SHIFTS:
        counts = torch.zeros(DIGITS + 1, dtype=torch.int32, device=difficulty.device)
        with torch.cuda.device(difficulty.device) if difficulty.is_cuda else contextlib.nullcontext():
            sums_programs().digits_program[(-(-difficulty.numel() // BLOCK),)](
                difficulty, chosen, counts, difficulty.numel(), BLOCK=BLOCK, SHIFT=shift, DIGITS=DIGITS
            )
        from_digit = counts.flip(0).cumsum(0).flip(0)  # one entry more, 0
        if shift == SHIFTS[0]:
            remaining = least = (from_digit[:1].double() * hard.keep).ceil().long()
        digit = (from_digit[:-1] >= remaining).sum(0, keepdim=True) - 1
        remaining = remaining - from_digit.gather(0, digit + 1)
        tied = counts.gather(0, digit)
        chosen = (chosen * DIGITS + digit).int()
    hardest = chosen.view(torch.float32).where(least > 0, torch.inf)
    below = _above(hard.probability)
    return torch.cat([hardest.clamp(max=below), (remaining / tied).float().where(hardest < below, 1)])


def _above(probability: float) -> float:
    """The lowest difficulty, in float32, of a probability below this one."""
    if probability <= 0:
        return math.inf
    smallest = float(np.finfo(np.float32).tiny)
    return max(float(np.nextafter(np.float32(-math.log(probability)), np.float32(np.inf))), smallest)


@cache
def programs() -> Any:
    """The module of the programs; see `fastscnn.kernels.cuda.labels.programs`."""
    return importlib.import_module("fastscnn.kernels.cuda.loss_kernels")


@cache
def sums_programs() -> Any:
    """The module of the programs that add up, as `programs`."""
    return importlib.import_module("fastscnn.kernels.cuda.sums_kernels")
