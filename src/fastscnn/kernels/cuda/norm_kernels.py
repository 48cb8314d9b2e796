"""BatchNorm of a training step with its activation as Triton programs, on images whose channels lie side by side.

Rows are pixels and columns are channels. A program takes so many tiles of rows one after another and leaves what it
added up in memory of its own; a second program puts these parts together, in float64 and the same order every time.
Parts are sums of distances from a number among the values, so that little is lost where the mean is large and the
deviation small. Import this only where Triton is installed.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

SIZES = ["rows", "tiles", "splits"]
"""Numbers that no program is compiled anew for."""


@triton.jit
def _activate(values, HIGHEST: tl.constexpr):
    """None at HIGHEST 0, ReLU at infinity, ReLU6 at 6; a maximum would hide what is undefined, a failed training."""
    if HIGHEST > 0:
        values = tl.where(values < 0, 0.0, values)
        if float("inf") > HIGHEST:
            values = tl.where(values > HIGHEST, HIGHEST, values)
    return values


@triton.jit
def _share(part, rows, tiles, ROWS: tl.constexpr):
    """The first row of a part, int64, and its number of rows."""
    first = part.to(tl.int64) * tiles * ROWS
    return first, tl.minimum(rows - first, tiles * ROWS).to(tl.int32)


@triton.jit
def _tile(number, count, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Rows and channels of a tile, [ROWS, 1] and [1, CHANNELS], and which of them there are."""
    row = number * ROWS + tl.arange(0, ROWS)[:, None]
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return row, c, (row < count) & (c < channels)


@triton.jit
def _channel(values, channels, CHANNELS: tl.constexpr):
    """A number for each channel, float32 [1, CHANNELS]."""
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return tl.load(values + c, mask=c < channels, other=0.0).to(tl.float32)


@triton.jit
def _derivative(gradient, centred, scale, shift, HIGHEST: tl.constexpr, DTYPE: tl.constexpr):
    """The gradient before the activation: none where the output, as it was written, is at one of its ends."""
    if HIGHEST > 0:
        output = (centred * scale + shift).to(DTYPE).to(tl.float32)
        gradient = tl.where(output <= 0, 0.0, gradient)
        if float("inf") > HIGHEST:
            gradient = tl.where(output >= HIGHEST, 0.0, gradient)
    return gradient


@triton.jit(do_not_specialize=SIZES)
def statistics_program(features, parts, rows, channels, tiles, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Mean, and sum of squared distances from it, of each channel in one part of the rows.

    Args:
        features: [rows, channels].
        parts: float32 [programs, 3, channels]: a number near the mean, how far the mean lies above it, and the sum.
    """
    part = tl.program_id(0)
    first, count = _share(part, rows, tiles, ROWS)
    features += first * channels
    row, c, there = _tile(0, count, channels, ROWS, CHANNELS)
    values = tl.load(features + row * channels + c, mask=there, other=0.0).to(tl.float32)
    # The first tile's mean is so near that a part of n tiles loses a factor n of float32 at most, whatever its values.
    near = tl.sum(values, 0, keep_dims=True) / tl.minimum(count, ROWS).to(tl.float32)
    distance = tl.where(there, values - near, 0.0)
    total, squares = distance, distance * distance
    for tile in range(1, tl.cdiv(count, ROWS)):
        row, c, there = _tile(tile, count, channels, ROWS, CHANNELS)
        values = tl.load(features + row * channels + c, mask=there, other=0.0).to(tl.float32)
        distance = tl.where(there, values - near, 0.0)
        total += distance
        squares += distance * distance
    off = tl.sum(total, 0, keep_dims=True) / count.to(tl.float32)
    spread = tl.sum(squares, 0, keep_dims=True) - off * off * count.to(tl.float32)
    spread = tl.where(spread < 0, 0.0, spread)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    target = parts + part * 3 * channels + c
    tl.store(target, near, mask=c < channels)
    tl.store(target + channels, off, mask=c < channels)
    tl.store(target + 2 * channels, spread, mask=c < channels)


@triton.jit
def _part(parts, first, rows, channels, tiles, splits, c, ROWS: tl.constexpr, SPLITS: tl.constexpr):
    """Of some parts, float64 [SPLITS, CHANNELS]: means, sums of squares, numbers of rows; 0 where there is no part."""
    part = first + tl.arange(0, SPLITS)[:, None]
    there = (part < splits) & (c < channels)
    at = parts + part * 3 * channels + c
    mean = tl.load(at, mask=there, other=0.0).to(tl.float64)
    mean += tl.load(at + channels, mask=there, other=0.0).to(tl.float64)
    spread = tl.load(at + 2 * channels, mask=there, other=0.0).to(tl.float64)
    count = tl.minimum(rows - part.to(tl.int64) * tiles * ROWS, tiles * ROWS)
    return mean, spread, tl.where(there, count, 0).to(tl.float64)


@triton.jit(do_not_specialize=SIZES)
def moments_program(
    parts,
    mean,
    inverse,
    running_mean,
    running_variance,
    tracked,
    rows,
    channels,
    tiles,
    splits,
    eps,
    momentum,
    ROWS: tl.constexpr,
    SPLITS: tl.constexpr,
    CHANNELS: tl.constexpr,
    CUMULATIVE: tl.constexpr,
):
    """Mean and inverse deviation of each channel over all parts; the running statistics move.

    Args:
        parts: As `statistics_program` writes them.
        mean: float32 [channels].
        inverse: The same: one over the square root of the variance and `eps`.
        running_mean: float32 [channels].
        running_variance: The same.
        tracked: int64: batches so far, without this one; read where CUMULATIVE.
        momentum: How far the running statistics move; CUMULATIVE moves them to the mean of all batches.
    """
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    total = tl.zeros([SPLITS, CHANNELS], tl.float64)
    for first in range(0, splits, SPLITS):
        own, _, count = _part(parts, first, rows, channels, tiles, splits, c, ROWS, SPLITS)
        total += own * count
    centre = tl.sum(total, 0, keep_dims=True) / rows
    total = tl.zeros([SPLITS, CHANNELS], tl.float64)
    for first in range(0, splits, SPLITS):
        own, spread, count = _part(parts, first, rows, channels, tiles, splits, c, ROWS, SPLITS)
        total += spread + (own - centre) * (own - centre) * count
    variance = tl.sum(total, 0, keep_dims=True)
    wanted = c < channels
    tl.store(mean + c, centre.to(tl.float32), mask=wanted)
    tl.store(inverse + c, (1 / tl.sqrt(variance / rows + eps)).to(tl.float32), mask=wanted)
    if CUMULATIVE:  # noqa: SIM108 - chosen where it is compiled
        share = 1 / (tl.load(tracked) + 1).to(tl.float64)
    else:
        share = momentum
    old = tl.load(running_mean + c, mask=wanted, other=0.0).to(tl.float64)
    tl.store(running_mean + c, (old + (centre - old) * share).to(tl.float32), mask=wanted)
    old = tl.load(running_variance + c, mask=wanted, other=0.0).to(tl.float64)
    tl.store(running_variance + c, (old + (variance / (rows - 1) - old) * share).to(tl.float32), mask=wanted)


@triton.jit(do_not_specialize=SIZES)
def normalise_program(
    features,
    mean,
    inverse,
    weight,
    bias,
    tracked,
    out,
    rows,
    channels,
    tiles,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    HIGHEST: tl.constexpr,
):
    """Normalised and activated, in the features' type; counts the batch, now that the running statistics have moved.

    The last rows come first: of what the statistics read last, something may still lie in the cache.
    """
    part = tl.num_programs(0) - 1 - tl.program_id(0)
    first, count = _share(part, rows, tiles, ROWS)
    features += first * channels
    out += first * channels
    centre = _channel(mean, channels, CHANNELS)
    scale = _channel(inverse, channels, CHANNELS) * _channel(weight, channels, CHANNELS)
    shift = _channel(bias, channels, CHANNELS)
    for tile in range(0, tl.cdiv(count, ROWS)):
        row, c, there = _tile(tile, count, channels, ROWS, CHANNELS)
        values = tl.load(features + row * channels + c, mask=there, other=0.0).to(tl.float32)
        values = _activate((values - centre) * scale + shift, HIGHEST)
        tl.store(out + row * channels + c, values.to(out.dtype.element_ty), mask=there)
    if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
        tl.store(tracked, tl.load(tracked) + 1)


@triton.jit(do_not_specialize=SIZES)
def sums_program(
    features,
    gradient,
    mean,
    inverse,
    weight,
    bias,
    parts,
    rows,
    channels,
    stride,
    tiles,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    HIGHEST: tl.constexpr,
):
    """In one part of the rows: the sum of the gradient before the activation, and of it times the distance to the mean.

    Args:
        features: [rows, channels].
        gradient: Of the output, [rows, channels], its rows `stride` apart.
        parts: float32 [programs, 2, channels].
    """
    part = tl.program_id(0)
    first, count = _share(part, rows, tiles, ROWS)
    features += first * channels
    gradient += first * stride
    centre = _channel(mean, channels, CHANNELS)
    scale = _channel(inverse, channels, CHANNELS) * _channel(weight, channels, CHANNELS)
    shift = _channel(bias, channels, CHANNELS)
    total = tl.zeros([ROWS, CHANNELS], tl.float32)
    product = tl.zeros([ROWS, CHANNELS], tl.float32)
    for tile in range(0, tl.cdiv(count, ROWS)):
        row, c, there = _tile(tile, count, channels, ROWS, CHANNELS)
        values = tl.load(features + row * channels + c, mask=there, other=0.0).to(tl.float32) - centre
        own = tl.load(gradient + row * stride + c, mask=there, other=0.0).to(tl.float32)
        own = _derivative(own, values, scale, shift, HIGHEST, features.dtype.element_ty)
        total += own
        product += own * values
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    parts += part * 2 * channels
    tl.store(parts + c, tl.sum(total, 0, keep_dims=True), mask=c < channels)
    tl.store(parts + channels + c, tl.sum(product, 0, keep_dims=True), mask=c < channels)


@triton.jit(do_not_specialize=SIZES)
def affine_program(
    parts, inverse, weight_gradient, bias_gradient, channels, splits, SPLITS: tl.constexpr, CHANNELS: tl.constexpr
):
    """The gradients of weight and bias, float32 [channels], from what `sums_program` wrote."""
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    total = tl.zeros([SPLITS, CHANNELS], tl.float64)
    product = tl.zeros([SPLITS, CHANNELS], tl.float64)
    for first in range(0, splits, SPLITS):
        part = first + tl.arange(0, SPLITS)[:, None]
        there = (part < splits) & (c < channels)
        at = parts + part * 2 * channels + c
        total += tl.load(at, mask=there, other=0.0).to(tl.float64)
        product += tl.load(at + channels, mask=there, other=0.0).to(tl.float64)
    wanted = c < channels
    product = tl.sum(product, 0, keep_dims=True) * tl.load(inverse + c, mask=wanted, other=0.0).to(tl.float64)
    tl.store(bias_gradient + c, tl.sum(total, 0, keep_dims=True).to(tl.float32), mask=wanted)
    tl.store(weight_gradient + c, product.to(tl.float32), mask=wanted)


@triton.jit(do_not_specialize=SIZES)
def derive_program(
    features,
    gradient,
    mean,
    inverse,
    weight,
    bias,
    weight_gradient,
    bias_gradient,
    out,
    rows,
    channels,
    stride,
    tiles,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    HIGHEST: tl.constexpr,
):
    """The gradient of the features, in their type, [rows, channels]; the last rows first, as `normalise_program`."""
    part = tl.num_programs(0) - 1 - tl.program_id(0)
    first, count = _share(part, rows, tiles, ROWS)
    features += first * channels
    out += first * channels
    gradient += first * stride
    centre, deviation = _channel(mean, channels, CHANNELS), _channel(inverse, channels, CHANNELS)
    scale = deviation * _channel(weight, channels, CHANNELS)
    shift = _channel(bias, channels, CHANNELS)
    along = _channel(weight_gradient, channels, CHANNELS) * deviation / rows.to(tl.float32)
    level = _channel(bias_gradient, channels, CHANNELS) / rows.to(tl.float32)
    for tile in range(0, tl.cdiv(count, ROWS)):
        row, c, there = _tile(tile, count, channels, ROWS, CHANNELS)
        values = tl.load(features + row * channels + c, mask=there, other=0.0).to(tl.float32) - centre
        own = tl.load(gradient + row * stride + c, mask=there, other=0.0).to(tl.float32)
        own = _derivative(own, values, scale, shift, HIGHEST, features.dtype.element_ty)
        own = (own - level - values * along) * scale
        tl.store(out + row * channels + c, own.to(out.dtype.element_ty), mask=there)
