"""One function for each fused operation, which chooses how it is computed."""

import torch
from torch import Tensor

from fastscnn.kernels import reference
from fastscnn.kernels.cpu import confidence as cpu_confidence
from fastscnn.kernels.cpu import labels as cpu_labels
from fastscnn.kernels.cpu import loss as cpu_loss
from fastscnn.kernels.cuda import labels as cuda
from fastscnn.kernels.cuda import loss as cuda_loss
from fastscnn.kernels.reference import HardPixels


def upsample_labels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Class of each pixel of logits that are upsampled to a size.

    On the CPU, and on a GPU with Triton, one fused pass computes them without building the full-size logits; otherwise
    plain torch computes the same. They equal torch's `interpolate(...).argmax(1)` except for ties within float32's
    rounding.

    Args:
        logits: float32, bfloat16 or float16 [B, C, h, w], of any resolution, C up to 256; scaled bilinearly,
            half-pixel centres.
        size: Height and width of the labels, of any size.

    Returns:
        uint8 [B, H, W].

    Raises:
        ValueError: There are more than 256 classes.
    """
    _check_classes(logits)
    if cpu_labels.applies(logits):
        return cpu_labels.upsample_labels(logits, size)
    if cuda.applies(logits):
        return cuda.upsample_labels(logits, size)
    return reference.upsample_labels(logits, size)


def upsample_probabilities(logits: Tensor, size: tuple[int, int], out: Tensor | None = None) -> Tensor:
    """Probability of each class at each pixel of logits that are upsampled to a size.

    Args:
        logits: As for `upsample_labels`.
        size: Height and width.
        out: float32 [B, C, H, W] to write into and return, which saves the page faults of a new one.

    Returns:
        float32 [B, C, H, W], within 1e-6 of `interpolate(...).softmax(1)`; sums to 1 over C.

    Raises:
        ValueError: `out` has another shape or type.
    """
    shape = (*logits.shape[:2], *size)
    if out is not None and (tuple(out.shape) != shape or out.dtype != torch.float32 or out.device != logits.device):
        raise ValueError(
            f"out is {out.dtype} {tuple(out.shape)} on {out.device}, not float32 {shape} on {logits.device}"
        )
    if out is None or out.is_contiguous():
        if cpu_labels.applies(logits):
            return cpu_labels.upsample_probabilities(logits, size, torch.empty(shape) if out is None else out)
        if cuda.applies(logits):
            out = torch.empty(shape, device=logits.device) if out is None else out
            return cuda.upsample_probabilities(logits, size, out)
    probabilities = reference.upsample_probabilities(logits, size)
    return probabilities if out is None else out.copy_(probabilities)


def upsample_confidence(logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Class of each pixel of logits that are upsampled to a size, and the probability of that class.

    Fused where `upsample_labels` is; no tensor then has both classes and the full size.

    Args:
        logits: As for `upsample_labels`.
        size: Height and width.

    Returns:
        The labels of `upsample_labels`, uint8 [B, H, W]; and float32 [B, H, W], within 1e-6 of
        `interpolate(...).softmax(1).amax(1)`.

    Raises:
        ValueError: There are more than 256 classes.
    """
    _check_classes(logits)
    if cpu_labels.applies(logits):
        return cpu_confidence.upsample_confidence(logits, size)
    if cuda.applies(logits):
        return cuda.upsample_confidence(logits, size)
    return reference.upsample_confidence(logits, size)


def upsample_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    hard: HardPixels | None = None,
) -> Tensor:
    """Mean cross-entropy over the labelled pixels of logits that are upsampled to the labels' size.

    On the CPU, and on a GPU with Triton, one fused pass computes the loss and its gradient without building the
    full-size logits; otherwise plain torch computes the same. It equals torch's `cross_entropy(interpolate(...), ...)`:
    with weights and smoothing the mean is over the weights of the true classes.

    Args:
        logits: float32, bfloat16 or float16 [B, C, h, w], of any resolution; upsampled bilinearly, half-pixel centres.
            float64 on the CPU is computed in float64.
        labels: Class of each pixel, uint8 or int64 [B, H, W], of any size.
        ignore_index: Label of the pixels that are ignored.
        weight: Weight of each class, float [C].
        label_smoothing: Share of the target that is spread evenly over all classes, 0 to 1.
        hard: Count only the hard pixels; None: all.

    Returns:
        A float32 scalar, differentiable once (float64 for float64 logits); 0 if no pixel counts.

    Raises:
        ValueError: The batches of logits and labels differ, there is not one weight for each class, or
            `label_smoothing` or a value of `hard` is not between 0 and 1.
        IndexError: On the CPU, a label names no class and is not `ignore_index`.
    """
    return upsample_cross_entropy_and_weight(logits, labels, ignore_index, weight, label_smoothing, hard)[0]


def upsample_cross_entropy_and_weight(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    hard: HardPixels | None = None,
) -> tuple[Tensor, Tensor]:
    """`upsample_cross_entropy`, and the weight by which its mean divides the sum over the pixels.

    With both, the means of several parts of a batch can be combined to the mean over the whole batch.

    Returns:
        The mean; and a float scalar, which is not differentiable: the sum of the weights of the true classes of the
        pixels that count (without weights, their number), or 0 if none counts.

    Raises:
        ValueError, IndexError: As `upsample_cross_entropy`.
    """
    _check(logits, labels, weight, label_smoothing, hard)
    if cpu_loss.applies(logits, labels):
        return cpu_loss.upsample_cross_entropy_and_weight(logits, labels, ignore_index, weight, label_smoothing, hard)
    if cuda_loss.applies(logits, labels):
        return cuda_loss.upsample_cross_entropy_and_weight(logits, labels, ignore_index, weight, label_smoothing, hard)
    return reference.upsample_cross_entropy_and_weight(logits, labels, ignore_index, weight, label_smoothing, hard)


def _check_classes(logits: Tensor) -> None:
    if logits.shape[1] > 256:
        raise ValueError(f"{logits.shape[1]} classes do not fit into uint8 labels: 256 is the limit")


def _check(
    logits: Tensor, labels: Tensor, weight: Tensor | None, label_smoothing: float, hard: HardPixels | None
) -> None:
    if logits.dim() != 4 or labels.dim() != 3 or len(logits) != len(labels):
        raise ValueError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} are not [B, C, h, w], [B, H, W]"
        )
    if weight is not None and tuple(weight.shape) != logits.shape[1:2]:
        raise ValueError(f"weight is {tuple(weight.shape)}, not ({logits.shape[1]},): one for each class")
    shares = {"label_smoothing": label_smoothing, **({} if hard is None else hard._asdict())}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}, not between 0 and 1")
