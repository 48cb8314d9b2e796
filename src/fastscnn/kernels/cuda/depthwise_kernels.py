"""A depthwise 3x3 convolution as Triton programs: two that give the same bits, and what a larger program takes of it.

On images whose channels lie side by side (NHWC); see `layers_kernels`. Import this only where Triton is installed.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from fastscnn.kernels.cuda.layers_kernels import _activate, _begin, _pixels


@triton.jit
def _filter(
    features,
    taps,
    taps_bias,
    y,
    x,
    k,
    height,
    width,
    inputs,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    HIGHEST: tl.constexpr,
):
    """The depthwise convolution of channels k at the outputs (y, x), with its bias and activation, in float32."""
    named = k < inputs
    filtered = tl.zeros([y.shape[0], k.shape[0]], tl.float32)
    filtered += tl.load(taps_bias + k, mask=named, other=0.0)[None, :]
    for tap in tl.static_range(9):
        source_y = y * STRIDE + (tap // 3 - 1) * DILATION
        source_x = x * STRIDE + (tap % 3 - 1) * DILATION
        inside = (source_y >= 0) & (source_y < height) & (source_x >= 0) & (source_x < width)
        values = tl.load(
            features + ((source_y * width + source_x) * inputs)[:, None] + k[None, :],
            mask=inside[:, None] & named[None, :],
            other=0.0,
        )
        filtered += values.to(tl.float32) * tl.load(taps + tap * inputs + k, mask=named, other=0.0)[None, :]
    return _activate(filtered, HIGHEST)


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width"])
def depthwise_program(
    features,
    taps,
    taps_bias,
    out,
    height,
    width,
    out_height,
    out_width,
    inputs,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    INPUTS: tl.constexpr,
    HIGHEST: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """A depthwise 3x3 convolution alone, taps [9, inputs]; a block makes INPUTS channels of its pixels."""
    y, x, image = _pixels(out_width, TILE_ROWS, TILE_COLUMNS)
    k = tl.program_id(2) * INPUTS + tl.arange(0, INPUTS)
    features += image * height * width * inputs
    _begin(OVERLAPS)
    filtered = _filter(features, taps, taps_bias, y, x, k, height, width, inputs, STRIDE, DILATION, HIGHEST)
    target = (image * out_height * out_width + y * out_width + x)[:, None] * inputs + k[None, :]
    there = (y < out_height) & (x < out_width)
    tl.store(out + target, filtered.to(out.dtype.element_ty), mask=there[:, None] & (k < inputs)[None, :])


@triton.jit
def _row_of_taps(taps, k, inputs):
    """Three taps of channels k, [1, channels] each."""
    named = k < inputs
    left = tl.load(taps + k, mask=named, other=0.0)[None, :]
    middle = tl.load(taps + inputs + k, mask=named, other=0.0)[None, :]
    right = tl.load(taps + 2 * inputs + k, mask=named, other=0.0)[None, :]
    return left, middle, right


@triton.jit
def _with_row(total, left, middle, right, left_tap, middle_tap, right_tap):
    """A sum with the products of an input row, added in the order of the taps."""
    total += left * left_tap
    total += middle * middle_tap
    total += right * right_tap
    return total


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width"])
def depthwise_rows_program(
    features,
    taps,
    taps_bias,
    out,
    height,
    width,
    out_height,
    out_width,
    inputs,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    INPUTS: tl.constexpr,
    HIGHEST: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """As `depthwise_program`, bit for bit, by blocks that walk down the rows: an input is loaded 3 times instead of 9.

    An input row is the last of one output row's three, the middle one of the next and the first of the one after, and
    a block has the sums of these three at hand. With a DILATION it walks over rows that lie so far apart, and other
    blocks over those between.

    Args:
        taps, taps_bias: No launch that may still run writes these: they are loaded before the one before has ended.
        STRIDE: Any where DILATION is 1, and else 1.
    """
    tiles = tl.cdiv(out_width, TILE_COLUMNS)
    band = tl.program_id(0) // tiles
    first = band // DILATION * (DILATION * TILE_ROWS) + band % DILATION
    x = tl.program_id(0) % tiles * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    image = tl.program_id(1).to(tl.int64)
    k = tl.program_id(2) * INPUTS + tl.arange(0, INPUTS)
    named = (k < inputs)[None, :]
    source_x = x * STRIDE
    at = source_x[:, None] * inputs + k[None, :]
    features += image * height * width * inputs
    out += image * out_height * out_width * inputs + x[:, None] * inputs + k[None, :]
    bias = tl.zeros([TILE_COLUMNS, INPUTS], tl.float32) + tl.load(taps_bias + k, mask=k < inputs, other=0.0)[None, :]
    first_left, first_middle, first_right = _row_of_taps(taps, k, inputs)
    next_left, next_middle, next_right = _row_of_taps(taps + 3 * inputs, k, inputs)
    last_left, last_middle, last_right = _row_of_taps(taps + 6 * inputs, k, inputs)
    one_row = bias
    two_rows = bias
    _begin(OVERLAPS)
    for step in tl.static_range(STRIDE * (TILE_ROWS - 1) + 3):
        source_y = first * STRIDE + (step - 1) * DILATION
        columns = tl.where((source_y >= 0) & (source_y < height), width, 0)  # none of a row that is not there
        has_left = ((source_x >= DILATION) & (source_x - DILATION < columns))[:, None] & named
        has_middle = (source_x < columns)[:, None] & named
        has_right = (source_x + DILATION < columns)[:, None] & named
        row = features + source_y * width * inputs + at
        left = tl.load(row - DILATION * inputs, mask=has_left, other=0.0).to(tl.float32)
        middle = tl.load(row, mask=has_middle, other=0.0).to(tl.float32)
        right = tl.load(row + DILATION * inputs, mask=has_right, other=0.0).to(tl.float32)
        if step >= 2 and (step - 2) % STRIDE == 0:
            filtered = _with_row(two_rows, left, middle, right, last_left, last_middle, last_right)
            y = first + (step - 2) // STRIDE * DILATION
            values = _activate(filtered, HIGHEST).to(out.dtype.element_ty)
            wanted = (x < tl.where(y < out_height, out_width, 0))[:, None] & named
            tl.store(out + y * out_width * inputs, values, mask=wanted)
        if step >= 1 and (step - 1) % STRIDE == 0:
            two_rows = _with_row(one_row, left, middle, right, next_left, next_middle, next_right)
        if step % STRIDE == 0:
            one_row = _with_row(bias, left, middle, right, first_left, first_middle, first_right)
