"""The network's layers on a GPU, by Triton: each with all that follows it, in one pass over its input and output.

All take and give images whose channels lie side by side, [B, H, W, C], in half precision or float32; weights are in
that type too, biases and depthwise taps float32. `highest` is the activation's end: 0 for none, infinity for ReLU, 6
for ReLU6.

Biases, taps and the stem's weights are loaded before the launch before has ended: none that may still run writes them.
"""

import contextlib
import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fastscnn.kernels.cuda.choice import AFTER, current

WAVE = 264
"""Blocks that a launch should have at least: two to each multiprocessor of an H100."""
FUSED = {"enable_fp_fusion": True}
"""A product and a sum are one instruction, which they are not by themselves from Triton 3.10 on."""


def stem(images: Tensor, factor: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, *, highest: float) -> Tensor:
    """A 3x3 convolution of stride 2 on `images * factor + offset`, padded with zeros after that.

    Args:
        images: RGB of 0 to 255, uint8 or float [B, H, W, 3].
        factor: float32 [3].
        offset: float32 [3].
        weight: [27, C], its rows in the order of height, width, channel.
        bias: float32 [C].
        highest: See above.

    Returns:
        [B, ceil(H / 2), ceil(W / 2), C] of the weight's type.
    """
    count, height, width = images.shape[:3]
    rows, columns, outputs = -(-height // 2), -(-width // 2), weight.shape[1]
    out = images.new_empty(count, rows, columns, outputs, dtype=weight.dtype)
    _launch(
        "stem_program",
        (_tiles(rows, 8) * _tiles(columns, 16), count),
        *(images, factor, offset, weight, bias, out, height, width, rows, columns, outputs),
        OUTPUTS=padded(outputs),
        TILE_ROWS=8,
        TILE_COLUMNS=16,
        HIGHEST=highest,
        PRECISION=precision(out.device),
        num_warps=4,
    )
    return out


def pointwise(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    highest: float = 0.0,
    addend: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A 1x1 convolution, an addition and an activation.

    Args:
        features: [B, H, W, C].
        weight: [C, N].
        bias: float32 [N].
        highest: See above.
        addend: [B, H, W, N] of any float type, added before the activation.
        dtype: Of the output; None for that of the features.
    """
    inputs, outputs = weight.shape
    pixels = features.numel() // inputs
    out = features.new_empty(*features.shape[:3], outputs, dtype=dtype)
    across = min(64, padded(outputs))
    wide = features.dtype == torch.float32
    block = _block(pixels * _tiles(outputs, across), 64 if wide else 128)
    _launch(
        "pointwise_program",
        (_tiles(pixels, block), _tiles(outputs, across)),
        *(features, weight, bias, features if addend is None else addend, out, pixels, inputs, outputs),
        PIXELS=block,
        OUTPUTS=across,
        INPUTS=32 if inputs % 64 or wide else 64,
        ADDS=addend is not None,
        HIGHEST=highest,
        PRECISION=precision(out.device),
        num_warps=4,
    )
    return out


@cache
def precision(device: torch.device) -> str:
    """How float32 is multiplied: by three products of the matrix units where they have them."""
    nvidia = device.type == "cuda" and torch.version.hip is None
    return "tf32x3" if nvidia and torch.cuda.get_device_capability(device) >= (8, 0) else "ieee"


def _tiles(size: int, tile: int) -> int:
    return -(-size // tile)


def padded(outputs: int) -> int:
    """The power of two that holds so many, 16 or more, as the matrix units want it."""
    return max(16, 1 << (outputs - 1).bit_length())


def _block(pixels: int, most: int) -> int:
    """Pixels of a block, a power of two from 16 to `most`, so that the launch fills the GPU where it can."""
    block = most
    while block > 16 and pixels // block < WAVE:
        block //= 2
    return block


def _launch(
    program: str, grid: tuple[int, ...], images: Tensor, *arguments: Any, programs: Any = None, **constants: Any
) -> None:
    """Launch a program of `layers_kernels`, or of another module."""
    tensors = [value.contiguous() if isinstance(value, Tensor) else value for value in (images, *arguments)]
    with torch.cuda.device(images.device) if images.is_cuda else contextlib.nullcontext():
        getattr(programs or _programs(), program)[grid](*tensors, **constants, **FUSED, **overlapping(images))


def overlapping(images: Tensor) -> dict[str, Any]:
    """What a launch on these images takes, so that it may begin while the one before it runs."""
    overlaps = current().overlaps if images.is_cuda and _can_overlap(images.device.index) else AFTER
    return {"OVERLAPS": overlaps, **({"launch_pdl": True} if overlaps else {})}


@cache
def _can_overlap(device: int) -> bool:
    """Whether a GPU and Triton have programmatic dependent launch."""
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < (9, 0):
        return False
    try:
        options = importlib.import_module("triton.backends.nvidia.compiler").CUDAOptions
    except (ImportError, AttributeError):
        return False
    return "launch_pdl" in options.__dataclass_fields__ and _programs().gdc_wait is not None


@cache
def _programs() -> Any:
    return importlib.import_module("fastscnn.kernels.cuda.layers_kernels")
