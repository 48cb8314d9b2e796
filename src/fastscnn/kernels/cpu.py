"""The fused cross-entropy on a CPU: one pass over the output rows, gradient included."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastscnn.kernels.compiled import LOG2_E, ONE, SMALLEST, compiled, exp2, parallel

Floats = npt.NDArray[np.float32]


@compiled
def _neighbours(phase: int, scale: int) -> tuple[int, Any, Any]:
    """Of a phase: which of the shifted copies is its left neighbour, and the shares of the left and the right one."""
    offset = (phase + 0.5) / scale - 0.5
    right = np.float32(offset + 1 if offset < 0 else offset)
    return 0 if offset < 0 else 1, ONE - right, right


@compiled
def _image_loss(
    logits: Floats, labels: npt.NDArray[np.uint8], ignore_index: int, gradient: Floats
) -> tuple[float, int]:
    """Sum of the cross-entropy over one image's labelled pixels, and their number.

    Each output row is a blend of two logit rows, and each of the `scale` horizontal phases a blend of two shifted
    copies of that. The row's pixels are kept phase by phase, so that every loop runs over contiguous memory and
    vectorises.

    Args:
        logits: float32 [C, h, w].
        labels: uint8 [H, W]; H and W are whole multiples of h and w.
        ignore_index: Label of the pixels that are left out.
        gradient: float32 [C, h, w], receives the gradient of the sum.
    """
    classes, height, width = logits.shape
    out_height, out_width = labels.shape
    scale_y, scale_x = out_height // height, out_width // width
    row = np.empty((classes, width + 2), np.float32)
    row_gradient = np.empty((classes, width + 2), np.float32)
    pixels = np.empty((classes, out_width), np.float32)
    highest = np.empty(out_width, np.float32)
    total = np.empty(out_width, np.float32)
    picked = np.empty(out_width, np.float32)
    target = np.empty(out_width, np.int32)
    loss, count = 0.0, 0
    gradient[:] = 0
    for y in range(out_height):
        for phase in range(scale_x):
            for k in range(width):
                target[phase * width + k] = labels[y, k * scale_x + phase]
        labelled = 0
        for x in range(out_width):
            labelled += target[x] != ignore_index
        if labelled == 0:
            continue
        count += labelled
        source = min(max((y + 0.5) / scale_y - 0.5, 0.0), height - 1.0)
        above = int(source)
        below = min(above + 1, height - 1)
        low = np.float32(source - above)
        high = ONE - low
        for c in range(classes):
            for k in range(width):
                row[c, k + 1] = high * logits[c, above, k] + low * logits[c, below, k]
            row[c, 0] = row[c, 1]
            row[c, width + 1] = row[c, width]
        for phase in range(scale_x):
            first, left, right = _neighbours(phase, scale_x)
            for c in range(classes):
                for k in range(width):
                    pixels[c, phase * width + k] = left * row[c, k + first] + right * row[c, k + first + 1]
        for x in range(out_width):
            highest[x] = pixels[0, x]
            total[x] = 0
        for c in range(1, classes):
            for x in range(out_width):
                highest[x] = max(highest[x], pixels[c, x])
        for x in range(out_width):
            if target[x] != ignore_index:
                picked[x] = pixels[target[x], x] - highest[x]
        for c in range(classes):
            for x in range(out_width):
                pixels[c, x] = exp2(max((pixels[c, x] - highest[x]) * LOG2_E, SMALLEST))
                total[x] += pixels[c, x]
        for x in range(out_width):
            if target[x] != ignore_index:
                loss += np.log(total[x]) - picked[x]
                total[x] = ONE / total[x]
            else:
                total[x] = 0
        for c in range(classes):
            for x in range(out_width):
                pixels[c, x] *= total[x]
        for x in range(out_width):
            if target[x] != ignore_index:
                pixels[target[x], x] -= ONE
        row_gradient[:] = 0
        for phase in range(scale_x):
            first, left, right = _neighbours(phase, scale_x)
            for c in range(classes):
                for k in range(width):
                    row_gradient[c, k + first] += left * pixels[c, phase * width + k]
                for k in range(width):
                    row_gradient[c, k + first + 1] += right * pixels[c, phase * width + k]
        for c in range(classes):
            row_gradient[c, 1] += row_gradient[c, 0]
            row_gradient[c, width] += row_gradient[c, width + 1]
            for k in range(width):
                gradient[c, above, k] += high * row_gradient[c, k + 1]
            for k in range(width):
                gradient[c, below, k] += low * row_gradient[c, k + 1]
    return loss, count


class _UpsampleCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
        values = logits.detach().float().contiguous().numpy()
        targets = labels.contiguous().numpy()
        if np.max(targets, where=targets != ignore_index, initial=0) >= values.shape[1]:
            raise IndexError(f"a label is above {values.shape[1] - 1}, the last of the logits' classes")
        gradient = np.empty_like(values)
        images = range(len(values))
        results = parallel(
            lambda image: _image_loss(values[image], targets[image], ignore_index, gradient[image]), images
        )
        count = max(1, sum(found for _, found in results))
        ctx.save_for_backward(torch.from_numpy(gradient).div_(count))
        ctx.dtype = logits.dtype
        return torch.tensor(sum(loss for loss, _ in results) / count, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_outputs[0]).to(ctx.dtype), None, None


def applies(logits: Tensor, labels: Tensor) -> bool:
    """Whether the kernel can take these: on the CPU, uint8 labels, a whole scale both ways, finite logits."""
    height, width = labels.shape[-2:]
    return (
        logits.device.type == labels.device.type == "cpu"
        and labels.dtype == torch.uint8
        and logits.dtype in (torch.float32, torch.bfloat16)
        and height % logits.shape[-2] == 0
        and width % logits.shape[-1] == 0
        and bool(torch.isfinite(logits.detach()).all())
    )


def upsample_cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
    """See `fastscnn.kernels.upsample_cross_entropy`; where `applies`."""
    loss: Tensor = _UpsampleCrossEntropy.apply(logits, labels, ignore_index)
    return loss
