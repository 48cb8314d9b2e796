"""A depthwise 3x3 convolution in training as Triton programs, on images whose channels lie side by side.

A program makes tiles of a few rows and columns one after another, along the rows, so that most of what it loads is in
its multiprocessor's cache; its taps stay in registers. Sums are kept in float32. What a program has for the gradient of
the weights it leaves in memory of its own, and a second program adds up in float64, in the same order every time.

Weights are float32 [channels, 9]. Import this only where Triton is installed.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

SIZES = ["tiles", "total", "height", "width", "out_height", "out_width", "splits"]
"""Numbers that no program is compiled anew for."""


@triton.jit
def _place(tile, total, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The pixels of a tile, [ROWS * COLUMNS, 1]: image, row, column, and which of them there are."""
    across = tl.cdiv(columns, COLUMNS)
    down = tl.cdiv(rows, ROWS)
    lane = tl.arange(0, ROWS * COLUMNS)[:, None]
    y = tile // across % down * ROWS + lane // COLUMNS
    x = tile % across * COLUMNS + lane % COLUMNS
    there = (y < tl.where(tile < total, rows, 0)) & (x < columns)
    return (tile // (across * down)).to(tl.int64), y, x, there


@triton.jit
def _taps(weight, c, channels, FIRST: tl.constexpr, STEP: tl.constexpr):
    """Three taps of channels c: FIRST and those STEP and two STEPs after it."""
    named = c < channels
    left = tl.load(weight + c * 9 + FIRST, mask=named, other=0.0).to(tl.float32)
    middle = tl.load(weight + c * 9 + FIRST + STEP, mask=named, other=0.0).to(tl.float32)
    right = tl.load(weight + c * 9 + FIRST + 2 * STEP, mask=named, other=0.0).to(tl.float32)
    return left, middle, right


@triton.jit
def _pixel(images, y, x, c, there, height, width, channels):
    """Channels c of a pixel, float32; 0 outside of the image."""
    inside = there & (y >= 0) & (y < height) & (x >= 0) & (x < width) & (c < channels)
    return tl.load(images + (y * width + x) * channels + c, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _row(images, y, x, c, there, height, width, channels, DILATION: tl.constexpr):
    """Three pixels of a row, the middle one at x."""
    left = _pixel(images, y, x - DILATION, c, there, height, width, channels)
    middle = _pixel(images, y, x, c, there, height, width, channels)
    right = _pixel(images, y, x + DILATION, c, there, height, width, channels)
    return left, middle, right


@triton.jit(do_not_specialize=SIZES)
def convolve_program(
    features,
    weight,
    out,
    tiles,
    total,
    height,
    width,
    out_height,
    out_width,
    channels,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    FLIPS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """[B, H, W, C] to [B, H', W', C]; where it FLIPS the taps, the gradient of a convolution of stride 1."""
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    FIRST: tl.constexpr = 8 if FLIPS else 0
    STEP: tl.constexpr = -1 if FLIPS else 1
    a, b, d = _taps(weight, c, channels, FIRST, STEP)
    e, f, g = _taps(weight, c, channels, FIRST + 3 * STEP, STEP)
    h, i, j = _taps(weight, c, channels, FIRST + 6 * STEP, STEP)
    for number in range(0, tiles):
        tile = tl.program_id(0) * tiles + number
        image, y, x, there = _place(tile, total, out_height, out_width, ROWS, COLUMNS)
        images = features + image * height * width * channels
        source_y, source_x = y * STRIDE, x * STRIDE
        left, middle, right = _row(images, source_y - DILATION, source_x, c, there, height, width, channels, DILATION)
        sums = left * a + middle * b + right * d
        left, middle, right = _row(images, source_y, source_x, c, there, height, width, channels, DILATION)
        sums += left * e + middle * f + right * g
        left, middle, right = _row(images, source_y + DILATION, source_x, c, there, height, width, channels, DILATION)
        sums += left * h + middle * i + right * j
        target = out + image * out_height * out_width * channels + (y * out_width + x) * channels + c
        tl.store(target, sums.to(out.dtype.element_ty), mask=there & (c < channels))


@triton.jit(do_not_specialize=SIZES)
def spread_program(
    gradient,
    weight,
    out,
    tiles,
    total,
    height,
    width,
    out_height,
    out_width,
    channels,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """The gradient of a convolution's input, stride 2: four pixels of it to each of the output's.

    Args:
        gradient: Of the output, [B, ceil(H / 2), ceil(W / 2), C].
        out: [B, H, W, C]; height and width are these.
    """
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    a, b, d = _taps(weight, c, channels, 0, 1)
    e, f, g = _taps(weight, c, channels, 3, 1)
    h, i, j = _taps(weight, c, channels, 6, 1)
    for number in range(0, tiles):
        tile = tl.program_id(0) * tiles + number
        image, y, x, there = _place(tile, total, out_height, out_width, ROWS, COLUMNS)
        images = gradient + image * out_height * out_width * channels
        own = _pixel(images, y, x, c, there, out_height, out_width, channels)
        right = _pixel(images, y, x + 1, c, there, out_height, out_width, channels)
        below = _pixel(images, y + 1, x, c, there, out_height, out_width, channels)
        across = _pixel(images, y + 1, x + 1, c, there, out_height, out_width, channels)
        target = out + image * height * width * channels + (2 * y * width + 2 * x) * channels + c
        kind = out.dtype.element_ty
        there &= c < channels
        beside, under = there & (2 * x + 1 < width), there & (2 * y + 1 < height)
        tl.store(target, (own * f).to(kind), mask=there)
        tl.store(target + channels, (own * g + right * e).to(kind), mask=beside)
        target += width * channels
        tl.store(target, (own * i + below * b).to(kind), mask=under)
        tl.store(target + channels, (own * j + right * h + below * d + across * a).to(kind), mask=beside & under)


@triton.jit(do_not_specialize=SIZES)
def weight_gradient_program(
    features,
    gradient,
    parts,
    tiles,
    total,
    height,
    width,
    out_height,
    out_width,
    channels,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """What the tiles of a program have for the gradient of the weights.

    Args:
        features: [B, H, W, C].
        gradient: Of the output, [B, H', W', C].
        parts: float32 [programs, 9, C].
    """
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    a = tl.zeros([ROWS * COLUMNS, CHANNELS], tl.float32)
    b, d, e, f, g, h, i, j = a, a, a, a, a, a, a, a
    for number in range(0, tiles):
        tile = tl.program_id(0) * tiles + number
        image, y, x, there = _place(tile, total, out_height, out_width, ROWS, COLUMNS)
        own = _pixel(
            gradient + image * out_height * out_width * channels, y, x, c, there, out_height, out_width, channels
        )
        images = features + image * height * width * channels
        source_y, source_x = y * STRIDE, x * STRIDE
        left, middle, right = _row(images, source_y - DILATION, source_x, c, there, height, width, channels, DILATION)
        a += left * own
        b += middle * own
        d += right * own
        left, middle, right = _row(images, source_y, source_x, c, there, height, width, channels, DILATION)
        e += left * own
        f += middle * own
        g += right * own
        left, middle, right = _row(images, source_y + DILATION, source_x, c, there, height, width, channels, DILATION)
        h += left * own
        i += middle * own
        j += right * own
    target = parts + tl.program_id(0) * 9 * channels + c
    named = c < channels
    tl.store(target, tl.sum(a, 0, keep_dims=True), mask=named)
    tl.store(target + channels, tl.sum(b, 0, keep_dims=True), mask=named)
    tl.store(target + 2 * channels, tl.sum(d, 0, keep_dims=True), mask=named)
    tl.store(target + 3 * channels, tl.sum(e, 0, keep_dims=True), mask=named)
    tl.store(target + 4 * channels, tl.sum(f, 0, keep_dims=True), mask=named)
    tl.store(target + 5 * channels, tl.sum(g, 0, keep_dims=True), mask=named)
    tl.store(target + 6 * channels, tl.sum(h, 0, keep_dims=True), mask=named)
    tl.store(target + 7 * channels, tl.sum(i, 0, keep_dims=True), mask=named)
    tl.store(target + 8 * channels, tl.sum(j, 0, keep_dims=True), mask=named)


@triton.jit(do_not_specialize=SIZES)
def together_program(parts, out, splits, channels, SPLITS: tl.constexpr, SUMS: tl.constexpr):
    """The gradient of the weights, float32 [channels, 9], from what `weight_gradient_program` wrote."""
    n = tl.program_id(0) * SUMS + tl.arange(0, SUMS)[None, :]
    wanted = n < 9 * channels
    total = tl.zeros([SPLITS, SUMS], tl.float64)
    for first in range(0, splits, SPLITS):
        part = first + tl.arange(0, SPLITS)[:, None]
        values = tl.load(parts + part * 9 * channels + n, mask=(part < splits) & wanted, other=0.0)
        total += values.to(tl.float64)
    tl.store(out + n % channels * 9 + n // channels, tl.sum(total, 0, keep_dims=True).to(tl.float32), mask=wanted)
