"""Pyramid pooling as three Triton programs, and the upsampling after it, on images with channels side by side (NHWC).

A place is one bin of one stage: 50 of them for 1, 2, 3 and 6 bins a side. Import this only where Triton is installed.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from fastscnn.kernels.cuda.layers_kernels import _activate, _begin


@triton.jit(do_not_specialize=["pixels", "width", "each"])
def pool_program(
    features,
    bounds,
    shares,
    pixels,
    width,
    channels,
    each,
    PLACES: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """What `each` pixels of one image have in the average of each place, of CHANNELS channels.

    It is a product with ones where a place is.

    Args:
        features: [B, pixels, channels], `width` of the pixels to a row.
        bounds: int32 [PLACES, 4]: first row, first column of a place, and those after its last; empty beyond the last
            place.
        shares: float32 [B, splits, PLACES, channels], which add up to the averages.
    """
    split = tl.program_id(0)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    image = tl.program_id(2).to(tl.int64)
    place = tl.arange(0, PLACES)
    top = tl.load(bounds + place * 4)
    left = tl.load(bounds + place * 4 + 1)
    bottom = tl.load(bounds + place * 4 + 2)
    right = tl.load(bounds + place * 4 + 3)
    area = tl.maximum((bottom - top) * (right - left), 1).to(tl.float32)
    features += image * pixels * channels
    total = tl.zeros([PLACES, CHANNELS], tl.float32)
    _begin(OVERLAPS)
    for first in range(split * each, tl.minimum(split * each + each, pixels), PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        row = (pixel // width)[None, :]
        column = (pixel % width)[None, :]
        inside = (row >= top[:, None]) & (row < bottom[:, None]) & (column >= left[:, None]) & (column < right[:, None])
        values = tl.load(
            features + pixel[:, None] * channels + c[None, :],
            mask=(pixel < pixels)[:, None] & (c < channels)[None, :],
            other=0.0,
        )
        total = tl.dot(inside.to(values.dtype), values, total, input_precision=PRECISION)
    target = ((image * tl.num_programs(0) + split) * PLACES + place)[:, None] * channels + c[None, :]
    tl.store(shares + target, total / area[:, None], mask=(c < channels)[None, :])


@triton.jit(do_not_specialize=["splits"])
def context_program(
    shares,
    reduce,
    reduce_bias,
    spread,
    context,
    splits,
    channels,
    reduced,
    outputs,
    SPLITS: tl.constexpr,
    INPUTS: tl.constexpr,
    REDUCED: tl.constexpr,
    OUTPUTS: tl.constexpr,
    HIGHEST: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """What a place adds to the outputs, before it is upsampled: two products of a vector and a matrix, in float32.

    Args:
        shares: float32 [B, splits, places, channels], up to SPLITS splits, which add up to the places' averages.
        reduce: float32 [channels, reduced]: the 1x1 convolutions of all stages side by side.
        reduce_bias: float32 [places, reduced]; minus infinity where a place is not of the channel's stage.
        spread: float32 [reduced, outputs]: the last convolution's share of those channels.
        context: float32 [B, places, outputs].
    """
    place = tl.program_id(0)
    places = tl.num_programs(0)
    image = tl.program_id(1).to(tl.int64)
    split = tl.arange(0, SPLITS)[:, None]
    r = tl.arange(0, REDUCED)
    products = tl.zeros([INPUTS, REDUCED], tl.float32)
    _begin(OVERLAPS)
    for first in range(0, channels, INPUTS):
        k = first + tl.arange(0, INPUTS)
        values = tl.load(
            shares + ((image * splits + split) * places + place) * channels + k[None, :],
            mask=(split < splits) & (k < channels)[None, :],
            other=0.0,
        )
        weights = tl.load(
            reduce + k[:, None] * reduced + r[None, :],
            mask=(k < channels)[:, None] & (r < reduced)[None, :],
            other=0.0,
        )
        products += tl.sum(values, 0)[:, None] * weights
    hidden = tl.sum(products, 0) + tl.load(reduce_bias + place * reduced + r, mask=r < reduced, other=0.0)
    hidden = _activate(hidden, HIGHEST)
    for first in range(0, outputs, OUTPUTS):
        n = first + tl.arange(0, OUTPUTS)
        weights = tl.load(
            spread + r[:, None] * outputs + n[None, :], mask=(r < reduced)[:, None] & (n < outputs)[None, :], other=0.0
        )
        found = tl.sum(hidden[:, None] * weights, 0)
        tl.store(context + (image * places + place) * outputs + n, found, mask=n < outputs)


@triton.jit
def _of_bin(output, length, bins, number):
    """How much of an output along one side of a map, [PIXELS, 1], a bin has, [1, PLACES], upsampled bilinearly."""
    scale = bins.to(tl.float32) / length.to(tl.float32)
    source = tl.maximum((output.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    before = tl.minimum(source.to(tl.int32), bins - 1)
    share = source - before.to(tl.float32)
    own = tl.where(number == before, 1.0 - share, 0.0)
    return own + tl.where(number == tl.minimum(before + 1, bins - 1), share, 0.0)


@triton.jit(do_not_specialize=["height", "width"])
def project_program(
    features,
    weight,
    bias,
    context,
    table,
    out,
    height,
    width,
    inputs,
    outputs,
    PLACES: tl.constexpr,
    PIXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    HIGHEST: tl.constexpr,
    PRECISION: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """A 1x1 convolution of [B, height, width, inputs], and what the places add to it.

    Args:
        weight: [inputs, outputs].
        context: float32 [B, PLACES, outputs].
        table: int32 [PLACES, 3]: a place's row and column among the bins of its stage, and how many they are a side; a
            row of minus 1 beyond the last place.
    """
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    n = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    image = tl.program_id(2).to(tl.int64)
    place = tl.arange(0, PLACES)
    pixels = height * width
    bins = tl.load(table + place * 3 + 2)[None, :]
    of_places = _of_bin((pixel // width)[:, None], height, bins, tl.load(table + place * 3)[None, :])
    of_places *= _of_bin((pixel % width)[:, None], width, bins, tl.load(table + place * 3 + 1)[None, :])
    features += image * pixels * inputs
    total = tl.zeros([PIXELS, OUTPUTS], tl.float32)
    total += tl.load(bias + n, mask=n < outputs, other=0.0)[None, :]
    _begin(OVERLAPS)
    added = tl.load(
        context + (image * PLACES + place)[:, None] * outputs + n[None, :], mask=(n < outputs)[None, :], other=0.0
    )
    for first in range(0, inputs, INPUTS):
        k = first + tl.arange(0, INPUTS)
        values = tl.load(
            features + pixel[:, None] * inputs + k[None, :],
            mask=(pixel < pixels)[:, None] & (k < inputs)[None, :],
            other=0.0,
        )
        weights = tl.load(
            weight + k[:, None] * outputs + n[None, :], mask=(k < inputs)[:, None] & (n < outputs)[None, :], other=0.0
        )
        total = tl.dot(values, weights, total, input_precision=PRECISION)
    total = tl.dot(of_places, added, total, input_precision=PRECISION)
    target = (image * pixels + pixel)[:, None] * outputs + n[None, :]
    wanted = (pixel < pixels)[:, None] & (n < outputs)[None, :]
    tl.store(out + target, _activate(total, HIGHEST).to(out.dtype.element_ty), mask=wanted)


@triton.jit
def _neighbours(target, scale, size):
    """As torch finds them: see `labels_kernels._neighbours`."""
    source = tl.maximum(tl.fma(target.to(tl.float32) + 0.5, scale, -0.5), 0.0)
    before = tl.minimum(source.to(tl.int32), size - 1)
    return before, tl.minimum(before + 1, size - 1), source - before.to(tl.float32)


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width"])
def upsample_program(
    features,
    out,
    height,
    width,
    out_height,
    out_width,
    channels,
    scale_y,
    scale_x,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """Bilinear with half-pixel centres: [B, height, width, C] to [B, out_height, out_width, C]."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    image = tl.program_id(1).to(tl.int64)
    y = pixel // out_width
    above, below, low = _neighbours(y, scale_y, height)
    left, right, share = _neighbours(pixel % out_width, scale_x, width)
    c = (tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    wanted = (y < out_height)[:, None] & (c < channels)
    features += image * height * width * channels
    low, share = low[:, None], share[:, None]
    _begin(OVERLAPS)
    upper_left = tl.load(features + ((above * width + left) * channels)[:, None] + c, mask=wanted, other=0.0)
    upper_right = tl.load(features + ((above * width + right) * channels)[:, None] + c, mask=wanted, other=0.0)
    lower_left = tl.load(features + ((below * width + left) * channels)[:, None] + c, mask=wanted, other=0.0)
    lower_right = tl.load(features + ((below * width + right) * channels)[:, None] + c, mask=wanted, other=0.0)
    upper = (1.0 - share) * upper_left.to(tl.float32) + share * upper_right.to(tl.float32)
    lower = (1.0 - share) * lower_left.to(tl.float32) + share * lower_right.to(tl.float32)
    value = (1.0 - low) * upper + low * lower
    target = (image * out_height * out_width + pixel)[:, None] * channels + c
    tl.store(out + target, value.to(out.dtype.element_ty), mask=wanted)
