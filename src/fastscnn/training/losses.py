"""The training loss: cross-entropy of the classifier and of the two auxiliary heads."""

from collections.abc import Sequence

from torch import Tensor, nn

from fastscnn.kernels import upsample_cross_entropy


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
        return upsample_cross_entropy(logits, labels, self.ignore_index, label_smoothing=self.label_smoothing)
