"""The network's layers on a GPU, by Triton: each with all that follows it, in one pass over its input and output.

All take and give images whose channels lie side by side, [B, H, W, C], in half precision or float32; weights are in
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
REGISTERS = 128
"""Of a thread of a block of 64 pixels, so that four of them fit into a multiprocessor (sm_90)."""
OVERLAPS = True
"""Whether a launch may begin while the one before it ends, on a GPU and with a Triton that know of it."""


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
    beside: tuple[Tensor, Tensor] | None = None,
    head: tuple[Tensor, Tensor] | None = None,
    head_dtype: torch.dtype | None = None,
    arrivals: Tensor | None = None,
) -> Tensor:
    """A depthwise 3x3 convolution, an activation, a 1x1 convolution, additions, an activation, and a 1x1 convolution.

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
        beside: Features [B, H', W', M] and a weight [M, N]: a 1x1 convolution that is added before the second.
        head: Weight [N, K] and bias, float32 [K], of a 1x1 convolution of all that; K up to 256.
        head_dtype: Of the head's output; None for that of the features.
        arrivals: int32 [WAVE], zeros before and after; no two calls that have the same may run at one time. None: one
            is made for this call.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), N], or K.
    """
    count, height, width, inputs = features.shape
    rows, columns, outputs = -(-height // stride), -(-width // stride), weight.shape[1]
    block, chunk, chunks, splits = _shared_out(count * rows * columns, inputs, features.element_size())
    tile_rows = 8 if block == 64 else 4
    tiles = _tiles(rows, tile_rows) * _tiles(columns, block // tile_rows)
    if beside is not None or count * tiles > WAVE:  # many small images have more tiles than pixels fill
        chunks, splits = _tiles(inputs, chunk), 1
    shape = (count, rows, columns, outputs if head is None else head[0].shape[1])
    out = features.new_empty(shape, dtype=None if head is None else head_dtype)
    partial = out
    if splits > 1:
        partial = out.new_empty(count, tiles, splits, block, padded(outputs), dtype=torch.float32)
        if arrivals is None:
            arrivals = torch.zeros(WAVE, dtype=torch.int32, device=out.device)
    _launch(
        "depthwise_pointwise_program",
        (tiles, count, splits),
        *(features, taps, taps_bias, weight, bias, features if addend is None else addend),
        *(beside or (features, weight)),
        *(head or (weight, bias)),
        *(out, partial, out if arrivals is None else arrivals),
        *(height, width, rows, columns, inputs, outputs),
        *(0 if beside is None else beside[1].shape[0], shape[3], chunks, splits),
        STRIDE=stride,
        DILATION=dilation,
        TILE_ROWS=tile_rows,
        TILE_COLUMNS=block // tile_rows,
        OUTPUTS=padded(outputs),
        INPUTS=chunk,
        SHARES=splits > 1,
        BESIDE=0 if beside is None else 32,
        HEAD=0 if head is None else padded(shape[3]),
        ADDS=addend is not None,
        HIGHEST_BETWEEN=highest_between,
        HIGHEST=highest,
        PRECISION=precision(out.device),
        num_warps=4,
        num_stages=2,
        **_registers(out.device, block, padded(outputs)),
    )
    return out


def _shared_out(pixels: int, inputs: int, size: int = 2) -> tuple[int, int, int, int]:
    """Pixels of a block, its inputs at a time, how often, and blocks that share out the inputs of the same pixels.

    Below 64 pixels the matrix units have every warp filter the pixels of all, which only small maps are worth. Float32,
    of 4 bytes, takes twice the room.
    """
    block = 64 if pixels >= 4096 and size == 2 else 32 if pixels >= 256 else 16
    chunk = 64 if block == 32 and inputs % 64 == 0 and size == 2 else 32
    chunks = _tiles(inputs, chunk)
    splits = min(chunks, _tiles(WAVE, _tiles(pixels, block)))
    each = _tiles(chunks, splits)
    return block, chunk, each, _tiles(chunks, each)


def _registers(device: torch.device, block: int, outputs: int) -> dict[str, Any]:
    """The limit of registers, where a block's sums leave place for anything else."""
    nvidia = device.type == "cuda" and torch.version.hip is None
    return {"maxnreg": REGISTERS} if nvidia and block == 64 and outputs <= 128 else {}


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
        getattr(programs or _programs(), program)[grid](*tensors, **constants, **overlapping(images))


def overlapping(images: Tensor) -> dict[str, bool]:
    """What a launch on these images takes, so that it may begin while the one before it ends."""
    overlaps = OVERLAPS and images.is_cuda and _can_overlap(images.device.index)
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
