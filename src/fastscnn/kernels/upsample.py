"""One function for each fused step, and the choice of how it is computed."""

from torch import Tensor

from fastscnn.kernels import cpu, reference


def upsample_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean cross-entropy over the labelled pixels of logits that are upsampled to the labels' size.

    On the CPU at a whole scale, without weights and smoothing, one fused pass computes the loss and its gradient
    and the full-size logits are never built; else plain torch does the same.

    Args:
        logits: float32 or bfloat16 [B, C, h, w], of any resolution; upsampled bilinearly, half-pixel centres.
        labels: Class of each pixel, uint8 or int64 [B, H, W].
        ignore_index: Label of the pixels that are left out.
        weight: Weight of each class, float [C].
        label_smoothing: Share of the target that is spread evenly over all classes.

    Returns:
        A float32 scalar, differentiable once; 0 where every pixel is ignored.
    """
    if weight is None and label_smoothing == 0.0 and cpu.applies(logits, labels):
        return cpu.upsample_cross_entropy(logits, labels, ignore_index)
    return reference.upsample_cross_entropy(logits, labels, ignore_index, weight, label_smoothing)
