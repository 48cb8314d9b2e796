"""Dice and Lovász losses of upsampled logits, with their gradients: fused on a CPU, elsewhere in plain torch.

Both look at a class as a region: at its overlap with what is predicted, over the labelled pixels of all images at once.
Classes that no pixel has are left out. The gradient is computed with the value, as that of the cross-entropy is; no
tensor has both all classes and the full size, only one of these.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastscnn.kernels.cpu import regions as cpu

ELEMENTS = 1 << 25
"""Logits that are upsampled at once."""


def upsample_dice(logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
    """Mean over the classes of `1 - 2 |P T| / (|P| + |T|)`, the soft Dice loss (Milletari et al. 2016 without squares).

    P is a class's probability at each labelled pixel, T is 1 where it is the label; `|X|` is the sum over the pixels.

    Args:
        logits: float32, float64, bfloat16 or float16 [B, C, h, w]; upsampled bilinearly, half-pixel centres.
        labels: Class of each pixel, uint8 or int64 [B, H, W], of any size.
        ignore_index: Label of the pixels that are left out.

    Returns:
        A float32 scalar, differentiable once (float64 for float64 logits); 0 if no pixel is labelled.
    """
    return _value(cpu.dice, _dice, logits, labels, ignore_index)


def upsample_lovasz(logits: Tensor, labels: Tensor, ignore_index: int = 255, *, exact: bool = False) -> Tensor:
    """Mean over the classes of the Lovász extension of 1 - IoU (Berman et al. 2018, Lovász-Softmax, `present`).

    It needs the errors of each class in order. On a GPU they are sorted, which gives the exact loss. On a CPU they are
    counted in 65,536 steps, whose pixels share the mean of their step: that is many times faster, the loss is at most
    1 / 65,536 below the exact one, and the gradient is a subgradient within as much.

    Args:
        logits: As for `upsample_dice`.
        labels: As for `upsample_dice`.
        ignore_index: As for `upsample_dice`.
        exact: Whether errors are sorted on a CPU too.

    Returns:
        As `upsample_dice`.
    """
    return _value(None if exact else cpu.lovasz, _lovasz, logits, labels, ignore_index)


def _value(fused: Any, plain: Any, logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    derives = logits.requires_grad and torch.is_grad_enabled()
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
        taken = logits.detach() if logits.dtype == torch.float64 else logits.detach().float()
        if fused is not None and cpu.applies(taken, labels) and bool(taken.isfinite().all()):
            value, gradient = fused(taken, labels, ignore_index, derives)
        else:
            value, gradient = plain(taken.contiguous(), labels[:, None], ignore_index, derives)
    return _Derived.apply(logits, value, gradient) if derives else value  # type: ignore[no-any-return]


class _Derived(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_outputs[0]).to(ctx.dtype), None, None


class _Band(NamedTuple):
    """A few output rows, and the rows of logits that they come from."""

    rows: slice
    source: slice
    before: Tensor
    after: Tensor
    share: Tensor

    def upsampled(self, part: Tensor, width: int) -> Tensor:
        """Logits [B, C, s, w] of the source rows to [B, C, rows, width]."""
        mixed = torch.lerp(part.index_select(2, self.before), part.index_select(2, self.after), self.share)
        return F.interpolate(mixed, (mixed.shape[2], width), mode="bilinear", align_corners=False)


def _bands(logits: Tensor, size: tuple[int, int]) -> Iterator[_Band]:
    """All output rows; positions are fractions of whole numbers, so that host and device agree on them."""
    (batch, classes, height, _), (target, width) = logits.shape, size
    rows = max(1, ELEMENTS // max(batch * classes * width, 1))
    for first in range(0, target, rows):
        last = min(first + rows, target)
        start = max((2 * first + 1) * height - target, 0) // (2 * target)
        end = min(max((2 * last - 1) * height - target, 0) // (2 * target) + 2, height)
        places = torch.arange(first, last, device=logits.device)
        places = ((2 * places + 1) * height - target).clamp_(min=0)
        before = places // (2 * target)
        share = ((places - before * (2 * target)).to(logits.dtype) / (2 * target))[:, None]
        after = (before + 1).clamp_(max=height - 1)
        yield _Band(slice(first, last), slice(start, end), before - start, after - start, share)


def _upsampled(part: Tensor, upsample: Any) -> tuple[Tensor, Any]:
    """Logits at their full size; and what takes a gradient of these to one of the logits."""
    with torch.enable_grad():
        part = part.detach().requires_grad_()
        full = upsample(part)
    return full.detach(), lambda gradient: torch.autograd.grad(full, part, gradient)[0]


def _dice(logits: Tensor, labels: Tensor, ignore_index: int, derives: bool) -> tuple[Tensor, Tensor]:
    size = (labels.shape[-2], labels.shape[-1])
    classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    overlap, predicted = logits.new_zeros(2, logits.shape[1])
    true = torch.zeros(logits.shape[1], dtype=torch.int64, device=logits.device)
    for band in _bands(logits, size):
        own = labels[:, :, band.rows]
        labelled = own != ignore_index
        hot = (own == classes) & labelled
        chances = band.upsampled(logits[:, :, band.source], size[1]).softmax(1).mul_(labelled)
        predicted += chances.sum((0, 2, 3))
        overlap += chances.mul_(hot).sum((0, 2, 3))
        true += hot.sum((0, 2, 3))
    present = (true > 0).to(logits)
    present /= present.sum().clamp(min=1)
    total = (predicted + true).clamp(min=torch.finfo(logits.dtype).tiny)
    ratio = 2 * overlap / total
    value = (present * (1 - ratio)).sum()
    gradient = torch.zeros_like(logits)
    at_label, everywhere = ((present * slope)[:, None, None] for slope in (-2 / total, ratio / total))
    for band in _bands(logits, size) if derives else ():
        own = labels[:, :, band.rows]
        labelled = own != ignore_index
        full, back = _upsampled(logits[:, :, band.source], lambda part, band=band: band.upsampled(part, size[1]))
        slopes = torch.where((own == classes) & labelled, at_label + everywhere, everywhere)
        chances = full.softmax(1).mul_(labelled)
        product = slopes.mul_(chances)
        gradient[:, :, band.source] += back(product.sub_(chances.mul_(product.sum(1, keepdim=True))))
    return value, gradient


def _lovasz(logits: Tensor, labels: Tensor, ignore_index: int, derives: bool) -> tuple[Tensor, Tensor]:
    size = (labels.shape[-2], labels.shape[-1])
    labelled = labels != ignore_index
    scale = logits.new_empty(labels.shape)  # log of the sum over the classes
    for band in _bands(logits, size):
        scale[:, :, band.rows] = band.upsampled(logits[:, :, band.source], size[1]).logsumexp(1, keepdim=True)
    value, present = logits.new_zeros(2)
    inner, gradient = torch.zeros_like(scale), torch.zeros_like(logits)
    for number in range(logits.shape[1]):
        true = (labels == number) & labelled
        there = true.any()
        if there.device.type == "cpu" and not there:  # elsewhere to ask is to wait
            continue
        full, back = _upsampled(
            logits[:, number : number + 1],
            lambda part: F.interpolate(part, size, mode="bilinear", align_corners=False),
        )
        chances = full.sub_(scale).exp_()
        constant, slopes = _sorted(chances, true, labelled)
        product = chances.mul_(slopes).mul_(there)
        value += constant * there + product.sum()
        present += there
        if derives:
            inner += product
            gradient[:, number : number + 1] = back(product)
    for band in _bands(logits, size) if derives else ():
        full, back = _upsampled(logits[:, :, band.source], lambda part, band=band: band.upsampled(part, size[1]))
        chances = full.sub_(scale[:, :, band.rows]).exp_()
        gradient[:, :, band.source] -= back(chances.mul_(inner[:, :, band.rows]))
    present.clamp_(min=1)
    return value / present, gradient / present


def _sorted(chances: Tensor, true: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
    """What one class's loss grows with its probability at each pixel, and the loss at a probability of 0 everywhere.

    1 - IoU of the n pixels of the greatest errors, of which p are true: of F true pixels, F - p are left in an
    intersection, and F + n - p are in the union. A pixel weighs what it adds, written without a difference.
    """
    errors = torch.where(labelled, torch.where(true, 1 - chances, chances), -1).flatten()
    errors, order = errors.sort(descending=True)
    hits = true.flatten()[order]
    found = hits.cumsum(0)
    union = found[-1] + torch.arange(1, len(found) + 1, device=found.device) - found
    left = (found[-1] - found).to(errors)
    union = union.to(errors)
    weights = torch.where(hits, 1 / union.clamp(min=1), left / (union * (union - 1)).clamp(min=1))
    weights *= errors > -0.5  # those of the ignored pixels are -1
    slopes = torch.empty_like(weights)
    slopes[order] = torch.where(hits, -weights, weights)
    return (weights * hits).sum(), slopes.view_as(chances)
