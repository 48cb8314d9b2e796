"""A depthwise 3x3 convolution and the 1x1 convolution after it as Triton programs, in one launch or in two.

On images whose channels lie side by side (NHWC); see `layers_kernels`. Import this only where Triton is installed.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from fastscnn.kernels.cuda.depthwise_kernels import _filter
from fastscnn.kernels.cuda.layers_kernels import _activate, _begin, _pixels


@triton.jit
def _finish(
    total,
    added,
    head,
    head_bias,
    out,
    pixel,
    there,
    outputs,
    head_outputs,
    OUTPUTS: tl.constexpr,
    HEAD: tl.constexpr,
    ADDS: tl.constexpr,
    HIGHEST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What is added to a tile's sums, activation, a further 1x1 convolution where HEAD is not 0, and the output."""
    n = tl.arange(0, OUTPUTS)
    target = pixel[:, None] * outputs + n[None, :]
    wanted = there[:, None] & (n < outputs)[None, :]
    if ADDS:
        total += added.to(tl.float32)
    total = _activate(total, HIGHEST)
    if HEAD > 0:
        h = tl.arange(0, HEAD)
        weights = tl.load(
            head + n[:, None] * head_outputs + h[None, :],
            mask=(n < outputs)[:, None] & (h < head_outputs)[None, :],
            other=0.0,
        )
        total = tl.dot(total.to(head.dtype.element_ty), weights, input_precision=PRECISION)
        total += tl.load(head_bias + h, mask=h < head_outputs, other=0.0)[None, :]
        target = pixel[:, None] * head_outputs + h[None, :]
        wanted = there[:, None] & (h < head_outputs)[None, :]
    tl.store(out + target, total.to(out.dtype.element_ty), mask=wanted)


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width", "chunks", "splits"])
def depthwise_pointwise_program(
    features,
    taps,
    taps_bias,
    weight,
    bias,
    addend,
    beside,
    beside_weight,
    head,
    head_bias,
    out,
    partial,
    arrivals,
    height,
    width,
    out_height,
    out_width,
    inputs,
    outputs,
    beside_inputs,
    head_outputs,
    chunks,
    splits,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    FILTERS: tl.constexpr,
    SHARES: tl.constexpr,
    BESIDE: tl.constexpr,
    HEAD: tl.constexpr,
    ADDS: tl.constexpr,
    HIGHEST_BETWEEN: tl.constexpr,
    HIGHEST: tl.constexpr,
    PRECISION: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """A depthwise 3x3 convolution, taps [9, inputs], and the 1x1 after it, weight [inputs, outputs].

    The block computes all outputs of its pixels, so that what is between the two stays on the multiprocessor, and so
    does what a further 1x1 convolution takes. A small image has too few pixels for all multiprocessors: its inputs are
    shared out among `splits` blocks, `chunks` times INPUTS to each. The block that is done last adds up what they
    found, in their order, so that the result is always the same.

    Where FILTERS is not set the features are those that `depthwise` has left, of the output's size.

    Args:
        beside: [B, out_height, out_width, beside_inputs], and its weight [beside_inputs, outputs]: a 1x1 convolution
            that is added, BESIDE inputs at a time; none where that is 0, and none where SHARES.
        head: [outputs, head_outputs]: a 1x1 convolution of the output; none where HEAD is 0.
        partial: float32 [B, tiles, splits, pixels of a tile, OUTPUTS]; where SHARES, which is where there are splits.
        arrivals: int32 [B * tiles], zeros, and zeros afterwards: how many blocks of a tile are done.
    """
    y, x, image = _pixels(out_width, TILE_ROWS, TILE_COLUMNS)
    split = tl.program_id(2)
    n = tl.arange(0, OUTPUTS)
    if FILTERS:
        features += image * height * width * inputs
    pixel = image * out_height * out_width + y * out_width + x
    there = (y < out_height) & (x < out_width)
    target = pixel[:, None] * outputs + n[None, :]
    wanted = there[:, None] & (n < outputs)[None, :]
    total = tl.zeros([TILE_ROWS * TILE_COLUMNS, OUTPUTS], tl.float32)
    total += tl.load(bias + n, mask=n < tl.where(split == 0, outputs, 0), other=0.0)[None, :]
    added = total
    _begin(OVERLAPS)
    if ADDS and not SHARES:
        added = tl.load(addend + target, mask=wanted, other=0.0)  # so early that nothing waits for it
    for chunk in range(0, chunks):
        k = (split * chunks + chunk) * INPUTS + tl.arange(0, INPUTS)
        named = k < inputs
        if FILTERS:
            values = _filter(
                *(features, taps, taps_bias, y, x, k, height, width, inputs, STRIDE, DILATION, HIGHEST_BETWEEN),
            ).to(weight.dtype.element_ty)
        else:
            values = tl.load(
                features + pixel[:, None] * inputs + k[None, :], mask=there[:, None] & named[None, :], other=0.0
            )
        weights = tl.load(
            weight + k[:, None] * outputs + n[None, :], mask=named[:, None] & (n < outputs)[None, :], other=0.0
        )
        total = tl.dot(values, weights, total, input_precision=PRECISION)
    if BESIDE > 0:
        for first in range(0, beside_inputs, BESIDE):
            m = first + tl.arange(0, BESIDE)
            values = tl.load(
                beside + pixel[:, None] * beside_inputs + m[None, :],
                mask=there[:, None] & (m < beside_inputs)[None, :],
                other=0.0,
            )
            weights = tl.load(
                beside_weight + m[:, None] * outputs + n[None, :],
                mask=(m < beside_inputs)[:, None] & (n < outputs)[None, :],
                other=0.0,
            )
            total = tl.dot(values, weights, total, input_precision=PRECISION)
    if not SHARES:
        _finish(
            *(total, added, head, head_bias, out, pixel, there, outputs, head_outputs),
            *(OUTPUTS, HEAD, ADDS, HIGHEST, PRECISION),
        )
    else:
        tile = image * tl.num_programs(0) + tl.program_id(0)
        size: tl.constexpr = TILE_ROWS * TILE_COLUMNS * OUTPUTS
        partial += tile * splits * size + tl.arange(0, TILE_ROWS * TILE_COLUMNS)[:, None] * OUTPUTS + n[None, :]
        tl.store(partial + split * size, total)
        tl.debug_barrier()  # all of the block has written before one thread says so
        if tl.atomic_add(arrivals + tile, 1, sem="acq_rel") == splits - 1:
            found = tl.zeros([TILE_ROWS * TILE_COLUMNS, OUTPUTS], tl.float32)
            late = found
            if ADDS:
                late = tl.load(addend + target, mask=wanted, other=0.0)
            for each in range(0, splits):
                found += tl.load(partial + each * size, cache_modifier=".cg")
            _finish(
                *(found, late, head, head_bias, out, pixel, there, outputs, head_outputs),
                *(OUTPUTS, HEAD, ADDS, HIGHEST, PRECISION),
            )
            tl.store(arrivals + tile, 0)
