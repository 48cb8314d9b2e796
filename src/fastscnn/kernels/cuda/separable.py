"""A depthwise 3x3 convolution and the 1x1 convolution after it on a GPU, by Triton, in one launch or in two.

In one launch what is between the two stays on the multiprocessor. But a block then filters its channels one part after
another and waits for each, which only large maps of few channels are worth: of many channels the depthwise convolution
is a launch of its own, with a block for each part.
"""

import importlib
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastscnn.kernels.cuda.depthwise import depthwise
from fastscnn.kernels.cuda.layers import WAVE, _launch, _tiles, padded, precision

APART = 48
"""Channels from which the depthwise convolution is a launch of its own (benchmarks/gpu_layers.py, on an H200)."""
REGISTERS = 128
"""Of a thread of a block that filters 64 pixels, so that four of them fit into a multiprocessor (sm_90)."""
FEWEST = 32
"""Blocks that a product should have at least."""
FOR_OTHERS = 16 << 10
"""Bytes of shared memory for what is not loaded ahead, such as the last convolution's weights."""


class Shares(NamedTuple):
    """How the work of a 1x1 convolution is shared out.

    Attributes:
        block: Pixels of a block.
        chunk: Inputs at a time.
        chunks: How often, in a block.
        splits: Blocks that share out the inputs of the same pixels.
        stages: Of the pipeline of loads.
        warps: Of a block.
    """

    block: int
    chunk: int
    chunks: int
    splits: int
    stages: int = 2
    warps: int = 4


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
        taps: float32 [9, C]; neither these nor their bias may be written by a launch that may still run.
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
    apart = inputs >= APART
    if apart:
        geometry = {"stride": stride, "dilation": dilation}
        features = depthwise(features, taps, taps_bias, **geometry, highest=highest_between)
        height, width = rows, columns
    shares = (product_shares if apart else filter_shares)(count * rows * columns, inputs, features.element_size())
    block, chunk, chunks, splits = shares[:4]
    tile_rows = 8 if block >= 64 else 4
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
        programs=_programs(),
        STRIDE=1 if apart else stride,
        DILATION=1 if apart else dilation,
        TILE_ROWS=tile_rows,
        TILE_COLUMNS=block // tile_rows,
        OUTPUTS=padded(outputs),
        INPUTS=chunk,
        FILTERS=not apart,
        SHARES=splits > 1,
        BESIDE=0 if beside is None else 32,
        HEAD=0 if head is None else padded(shape[3]),
        ADDS=addend is not None,
        HIGHEST_BETWEEN=highest_between,
        HIGHEST=highest,
        PRECISION=precision(out.device),
        num_warps=shares.warps,
        num_stages=_stages(out, shares, features.element_size(), padded(outputs), beside is not None),
        **({} if apart else _registers(out.device, block, padded(outputs))),
    )
    return out


def filter_shares(pixels: int, inputs: int, size: int = 2) -> Shares:
    """For blocks that filter what they multiply, of `size` bytes a number.

    Below 64 pixels the matrix units have every warp filter the pixels of all, which only small maps are worth. Float32,
    of 4 bytes, takes twice the room.
    """
    block = 64 if pixels >= 4096 and size == 2 else 32 if pixels >= 256 else 16
    chunk = 64 if block == 32 and inputs % 64 == 0 and size == 2 else 32
    return _split(inputs, block, chunk, _tiles(WAVE, _tiles(pixels, block)))


def product_shares(pixels: int, inputs: int, size: int = 2) -> Shares:
    """For blocks that only multiply, of `size` bytes a number.

    Large blocks that load far ahead are the quickest (benchmarks/gpu_layers.py), also where they leave many
    multiprocessors idle; smaller ones are taken where there would be fewer than `FEWEST`.
    """
    wide = size != 2
    block = 32 if wide else 64
    while block > 16 and _tiles(pixels, block) < FEWEST:
        block //= 2
    long = inputs > 128 and not wide
    chunk = 64 if long and inputs % 64 == 0 else 32
    splits = max(1, FEWEST // _tiles(pixels, block))
    return _split(inputs, block, chunk, splits)._replace(stages=4 if long else 2)


def _split(inputs: int, block: int, chunk: int, most: int) -> Shares:
    """At most so many splits, of as many chunks each."""
    chunks = _tiles(inputs, chunk)
    each = _tiles(chunks, min(chunks, most))
    return Shares(block, chunk, each, _tiles(chunks, each))


def _stages(out: Tensor, shares: Shares, size: int, outputs: int, beside: bool) -> int:
    """The stages that fit into a multiprocessor's shared memory; `beside`, 32 inputs more are loaded ahead."""
    stage = (shares.block + outputs) * (shares.chunk + 32 * beside) * size
    room = _shared_memory(out.device) - FOR_OTHERS
    return next((stages for stages in (shares.stages, 2) if stages * stage <= room), 1)


@cache
def _shared_memory(device: torch.device) -> int:
    """Bytes that a block may have at most; as of the smallest GPU where it is not known."""
    known = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return int(getattr(known, "shared_memory_per_block_optin", 1 << 16))


def _registers(device: torch.device, block: int, outputs: int) -> dict[str, Any]:
    """The limit of registers, where a block's sums leave place for anything else."""
    nvidia = device.type == "cuda" and torch.version.hip is None
    return {"maxnreg": REGISTERS} if nvidia and block == 64 and outputs <= 128 else {}


@cache
def _programs() -> Any:
    return importlib.import_module("fastscnn.kernels.cuda.separable_kernels")
