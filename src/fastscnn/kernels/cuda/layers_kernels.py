"""The network's layers as Triton programs, on images whose channels lie side by side (NHWC).

Each program makes one tile of outputs with all that belongs to it: normalisation, bias, addition, activation. Sums are
kept in float32; PRECISION is how float32 is multiplied where a layer is float32.
Import this only where Triton is installed.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # before Triton 3.5: OVERLAPS is never on
    gdc_launch_dependents = gdc_wait = None


@triton.jit
def _begin(OVERLAPS: tl.constexpr):
    """Before a program touches what others wrote: let the next launch begin, and wait until the one before has ended.

    Where OVERLAPS (programmatic dependent launch, Hopper) the blocks of the next launch are in place, and wait, by the
    time that those of this one end. It begins once all blocks of this one have begun, so that it takes no place away.
    """
    if OVERLAPS:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def _activate(values, HIGHEST: tl.constexpr):
    """The activation that ends at HIGHEST: none at 0, ReLU at infinity, ReLU6 at 6."""
    if HIGHEST > 0:
        values = tl.maximum(values, 0.0)
        if float("inf") > HIGHEST:
            values = tl.minimum(values, HIGHEST)
    return values


@triton.jit
def _pixels(columns, TILE_ROWS: tl.constexpr, TILE_COLUMNS: tl.constexpr):
    """Rows and columns of the outputs of this program's tile, and its image."""
    tiles = tl.cdiv(columns, TILE_COLUMNS)
    pixel = tl.arange(0, TILE_ROWS * TILE_COLUMNS)
    y = tl.program_id(0) // tiles * TILE_ROWS + pixel // TILE_COLUMNS
    x = tl.program_id(0) % tiles * TILE_COLUMNS + pixel % TILE_COLUMNS
    return y, x, tl.program_id(1).to(tl.int64)


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width"])
def stem_program(
    images,
    factor,
    offset,
    weight,
    bias,
    out,
    height,
    width,
    out_height,
    out_width,
    outputs,
    OUTPUTS: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    HIGHEST: tl.constexpr,
    PRECISION: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """RGB [B, H, W, 3], normalised by factor and offset, and a 3x3 convolution of stride 2, weight [27, outputs]."""
    y, x, image = _pixels(out_width, TILE_ROWS, TILE_COLUMNS)
    tap = tl.arange(0, 32)
    source_y = 2 * y[:, None] - 1 + (tap // 9)[None, :]
    source_x = 2 * x[:, None] - 1 + (tap // 3 % 3)[None, :]
    inside = (source_y >= 0) & (source_y < height) & (source_x >= 0) & (source_x < width) & (tap < 27)[None, :]
    _begin(OVERLAPS)
    address = image * height * width * 3 + ((source_y * width + source_x) * 3 + (tap % 3)[None, :])
    values = tl.load(images + address, mask=inside, other=0).to(tl.float32)
    values = values * tl.load(factor + tap % 3)[None, :] + tl.load(offset + tap % 3)[None, :]
    values = tl.where(inside, values, 0.0).to(out.dtype.element_ty)
    n = tl.arange(0, OUTPUTS)
    weights = tl.load(
        weight + tap[:, None] * outputs + n[None, :], mask=(tap < 27)[:, None] & (n < outputs)[None, :], other=0.0
    )
    total = tl.dot(values, weights, input_precision=PRECISION) + tl.load(bias + n, mask=n < outputs, other=0.0)[None, :]
    total = _activate(total, HIGHEST)
    target = (image * out_height * out_width + y * out_width + x)[:, None] * outputs + n[None, :]
    wanted = ((y < out_height) & (x < out_width))[:, None] & (n < outputs)[None, :]
    tl.store(out + target, total.to(out.dtype.element_ty), mask=wanted)


@triton.jit(do_not_specialize=["pixels"])
def pointwise_program(
    features,
    weight,
    bias,
    addend,
    out,
    pixels,
    inputs,
    outputs,
    PIXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    ADDS: tl.constexpr,
    HIGHEST: tl.constexpr,
    PRECISION: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """[pixels, inputs] times weight [inputs, outputs], with an addend [pixels, outputs] or none."""
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    n = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    total = tl.zeros([PIXELS, OUTPUTS], tl.float32)
    _begin(OVERLAPS)
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
    total += tl.load(bias + n, mask=n < outputs, other=0.0)[None, :]
    target = pixel[:, None] * outputs + n[None, :]
    wanted = (pixel < pixels)[:, None] & (n < outputs)[None, :]
    if ADDS:
        total += tl.load(addend + target, mask=wanted, other=0.0).to(tl.float32)
    tl.store(out + target, _activate(total, HIGHEST).to(out.dtype.element_ty), mask=wanted)


@triton.jit
def _finish(
    total,
    bias,
    addend,
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
    """Bias, addend and activation of a tile's sums, a further 1x1 convolution where HEAD is not 0, and the output."""
    n = tl.arange(0, OUTPUTS)
    target = pixel[:, None] * outputs + n[None, :]
    wanted = there[:, None] & (n < outputs)[None, :]
    if ADDS:
        total += tl.load(addend + target, mask=wanted, other=0.0).to(tl.float32)
    total += tl.load(bias + n, mask=n < outputs, other=0.0)[None, :]
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
    features += image * height * width * inputs
    pixel = image * out_height * out_width + y * out_width + x
    there = (y < out_height) & (x < out_width)
    total = tl.zeros([TILE_ROWS * TILE_COLUMNS, OUTPUTS], tl.float32)
    _begin(OVERLAPS)
    for chunk in range(0, chunks):
        k = (split * chunks + chunk) * INPUTS + tl.arange(0, INPUTS)
        named = k < inputs
        filtered = tl.zeros([TILE_ROWS * TILE_COLUMNS, INPUTS], tl.float32)
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
        weights = tl.load(
            weight + k[:, None] * outputs + n[None, :], mask=named[:, None] & (n < outputs)[None, :], other=0.0
        )
        values = _activate(filtered, HIGHEST_BETWEEN).to(weight.dtype.element_ty)
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
            *(total, bias, addend, head, head_bias, out, pixel, there, outputs, head_outputs),
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
            for each in range(0, splits):
                found += tl.load(partial + each * size, cache_modifier=".cg")
            _finish(
                *(found, bias, addend, head, head_bias, out, pixel, there, outputs, head_outputs),
                *(OUTPUTS, HEAD, ADDS, HIGHEST, PRECISION),
            )
            tl.store(arrivals + tile, 0)
