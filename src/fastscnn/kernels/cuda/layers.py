"""The network's layers on a GPU, by Triton: each with all that follows it, in one pass over its input and output.

All take and give images whose channels lie side by side, [B, H, W, C], in half precision; weights are in
that type too, biases and depthwise taps float32. `highest` is the activation's end: 0 for none, infinity for ReLU, 6
for ReLU6.
"""

import contextlib
import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor

WAVE = 264
"""Blocks that a launch should have at least: two to each multiprocessor of an H100."""


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
        OUTPUTS=_padded(outputs),
        TILE_ROWS=8,
        TILE_COLUMNS=16,
        HIGHEST=highest,
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
    across = min(64, _padded(outputs))
    block = _block(pixels * _tiles(outputs, across), 128)
    _launch(
        "pointwise_program",
        (_tiles(pixels, block), _tiles(outputs, across)),
        *(features, weight, bias, features if addend is None else addend, out, pixels, inputs, outputs),
        PIXELS=block,
        OUTPUTS=across,
        INPUTS=32 if inputs % 64 else 64,
        ADDS=addend is not None,
        HIGHEST=highest,
        num_warps=4,
    )
    return out


def depthwise_pointwise(
    features: Tensor,
    taps: Tensor,
    taps_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: int = 1,
    dilation: int = 1,
    highest_between: float = 0.0,
    highest: float = 0.0,
    addend: Tensor | None = None,
) -> Tensor:
    """A depthwise 3x3 convolution, an activation, a 1x1 convolution, an addition and an activation.

    Args:
        features: [B, H, W, C].
        taps: float32 [9, C].
        taps_bias: float32 [C].
        weight: [C, N], N up to 256.
        bias: float32 [N].
        stride: Of the depthwise convolution.
        dilation: The same; it is padded with as many zeros.
        highest_between: The first activation, see above.
        highest: The second.
        addend: [B, H', W', N] of any float type, added before the second.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), N].
    """
    count, height, width, inputs = features.shape
    rows, columns, outputs = -(-height // stride), -(-width // stride), weight.shape[1]
    out = features.new_empty(count, rows, columns, outputs)
    block = _block(count * rows * columns, 64)
    tile_rows = 8 if block == 64 else 4
    _launch(
        "depthwise_pointwise_program",
        (_tiles(rows, tile_rows) * _tiles(columns, block // tile_rows), count),
        *(features, taps, taps_bias, weight, bias, features if addend is None else addend, out),
        *(height, width, rows, columns, inputs, outputs),
        STRIDE=stride,
        DILATION=dilation,
        TILE_ROWS=tile_rows,
        TILE_COLUMNS=block // tile_rows,
        OUTPUTS=_padded(outputs),
        INPUTS=64 if inputs % 64 == 0 and block == 16 else 32,
        ADDS=addend is not None,
        HIGHEST_BETWEEN=highest_between,
        HIGHEST=highest,
        num_warps=4,
        num_stages=2,
    )
    return out


def _tiles(size: int, tile: int) -> int:
    return -(-size // tile)


def _padded(outputs: int) -> int:
    """The power of two that holds so many, 16 or more, as the matrix units want it."""
    return max(16, 1 << (outputs - 1).bit_length())


def _block(pixels: int, most: int) -> int:
    """Pixels of a block, a power of two from 16 to `most`, so that the launch fills the GPU where it can."""
    block = most
    while block > 16 and pixels // block < WAVE:
        block //= 2
    return block


def _launch(program: str, grid: tuple[int, int], images: Tensor, *arguments: Any, **constants: Any) -> None:
    tensors = [value.contiguous() if isinstance(value, Tensor) else value for value in (images, *arguments)]
    with torch.cuda.device(images.device) if images.is_cuda else contextlib.nullcontext():
        getattr(_programs(), program)[grid](*tensors, **constants)


@cache
def _programs() -> Any:
    return importlib.import_module("fastscnn.kernels.cuda.layers_kernels")
