"""The training loss: cross-entropy of the classifier and of the two auxiliary heads."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fastscnn.network.blocks import resize


def upsampled_cross_entropy(
    logits: Tensor, labels: Tensor, *, ignore_index: int = 255, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy over the labelled pixels, at the labels' resolution.

    Args:
        logits: Float [B, C, h, w], of any resolution; upsampled to the labels' size.
        labels: Train ids [B, H, W].
        ignore_index: Label of the pixels that are left out.
        label_smoothing: Share of the target spread evenly over all classes.

    Returns:
        A scalar; 0 where every pixel is ignored.
    """
    height, width = labels.shape[-2:]
    targets = labels.long()
    total = F.cross_entropy(
        resize(logits.float(), (height, width)),
        targets,
        ignore_index=ignore_index,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    return total / (targets != ignore_index).sum().clamp(min=1)


class SegmentationLoss(nn.Module):
    """Cross-entropy of the classifier plus the weighted ones of the auxiliary heads (section 3.1)."""

    def __init__(self, auxiliary_weight: float = 0.4, label_smoothing: float = 0.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.auxiliary_weight = auxiliary_weight
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, auxiliary: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Logits [B, C, h, w] and those of the auxiliary heads, labels [B, H, W]; returns a scalar."""
        return self._one(logits, labels) + self.auxiliary_weight * sum(self._one(head, labels) for head in auxiliary)

    def _one(self, logits: Tensor, labels: Tensor) -> Tensor:
        return upsampled_cross_entropy(
            logits, labels, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing
        )
