"""The reference in plain torch, for any device and any size."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample_labels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """See `fastscnn.kernels.upsample_labels`."""
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False).argmax(1).to(torch.uint8)


def upsample_probabilities(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """See `fastscnn.kernels.upsample_probabilities`."""
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False).softmax(1)


def upsample_confidence(logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """See `fastscnn.kernels.upsample_confidence`."""
    confidence, labels = upsample_probabilities(logits, size).max(1)
    return labels.to(torch.uint8), confidence


class HardPixels(NamedTuple):
    """Online hard example mining: only the labelled pixels with a low probability count.

    Attributes:
        probability: A pixel counts if the probability of its true class is below this.
        keep: Smallest share of the batch's labelled pixels that count: the hardest ones, rounded up.
    """

    probability: float = 0.7
    keep: float = 0.0625


def hard_shares(probabilities: Tensor, hard: HardPixels) -> Tensor:
    """The share by which each labelled pixel counts, 0 to 1.

    If fewer than n = ceil(keep * pixels) lie below `hard.probability`, the n hardest count. Pixels that tie for the
    last places share them evenly: the loss is the mean over exactly n pixels, in any order.

    Args:
        probabilities: Probability of the true class of each labelled pixel [N].
        hard: The limits.
    """
    least = math.ceil(hard.keep * len(probabilities))
    below = probabilities < hard.probability
    if int(below.sum()) >= least:
        return below.to(probabilities.dtype)
    threshold = probabilities.kthvalue(least).values
    harder, tied = probabilities < threshold, (probabilities == threshold).to(probabilities.dtype)
    return harder + tied * (least - harder.sum()) / tied.sum()


def upsample_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    hard: HardPixels | None = None,
) -> Tensor:
    """See `fastscnn.kernels.upsample_cross_entropy`."""
    return upsample_cross_entropy_and_weight(logits, labels, ignore_index, weight, label_smoothing, hard)[0]


def upsample_cross_entropy_and_weight(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    hard: HardPixels | None = None,
) -> tuple[Tensor, Tensor]:
    """See `fastscnn.kernels.upsample_cross_entropy_and_weight`."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    weight = None if weight is None else weight.to(logits)
    targets = labels.long()
    full = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    labelled = targets != ignore_index
    losses = F.cross_entropy(
        full, targets, weight, ignore_index=ignore_index, reduction="none", label_smoothing=label_smoothing
    )[labelled]
    counts = torch.ones_like(losses) if weight is None else weight[targets[labelled]]
    if hard is not None:
        with torch.no_grad():
            known = full.softmax(1).gather(1, targets.where(labelled, 0)[:, None])[:, 0][labelled]
            shares = hard_shares(known, hard)
        losses, counts = losses * shares, counts * shares
    total = counts.sum()
    return losses.sum() / total.where(total > 0, 1) * (total > 0), total
