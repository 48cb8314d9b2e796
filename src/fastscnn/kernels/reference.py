"""The reference: plain torch, on any device and at any size."""

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample_labels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """See `fastscnn.kernels.upsample_labels`."""
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False).argmax(1).to(torch.uint8)


def upsample_probabilities(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """See `fastscnn.kernels.upsample_probabilities`."""
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False).softmax(1)


def upsample_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """See `fastscnn.kernels.upsample_cross_entropy`."""
    height, width = labels.shape[-2:]
    targets = labels.long()
    full = F.interpolate(logits.float(), (height, width), mode="bilinear", align_corners=False)
    total = F.cross_entropy(
        full, targets, weight, ignore_index=ignore_index, reduction="sum", label_smoothing=label_smoothing
    )
    valid = targets != ignore_index
    count = valid.sum() if weight is None else weight[targets[valid]].sum()
    return total / count.clamp(min=1 if weight is None else 1e-12)
