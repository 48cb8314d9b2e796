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
    """Before a program touches what others wrote: wait until the launch before has ended, and let the next one begin.

    Where OVERLAPS is not 0 (programmatic dependent launch, Hopper) the blocks of the next launch are in place, and
    wait, by the time that those of this one end. They come once all blocks of this one have got here, so that they
    take no place away: before these wait (1), so that the launch after the next may come as well, or afterwards (2).
    """
    if OVERLAPS == 1:
        gdc_launch_dependents()
    if OVERLAPS > 0:
        gdc_wait()
    if OVERLAPS == 2:
        gdc_launch_dependents()


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
    n = tl.arange(0, OUTPUTS)
    weights = tl.load(
        weight + tap[:, None] * outputs + n[None, :], mask=(tap < 27)[:, None] & (n < outputs)[None, :], other=0.0
    )
    total = tl.zeros([TILE_ROWS * TILE_COLUMNS, OUTPUTS], tl.float32)
    total += tl.load(bias + n, mask=n < outputs, other=0.0)[None, :]
    _begin(OVERLAPS)
    address = image * height * width * 3 + ((source_y * width + source_x) * 3 + (tap % 3)[None, :])
    values = tl.load(images + address, mask=inside, other=0).to(tl.float32)
    values = values * tl.load(factor + tap % 3)[None, :] + tl.load(offset + tap % 3)[None, :]
    values = tl.where(inside, values, 0.0).to(out.dtype.element_ty)
    total = _activate(tl.dot(values, weights, total, input_precision=PRECISION), HIGHEST)
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
    target = pixel[:, None] * outputs + n[None, :]
    wanted = (pixel < pixels)[:, None] & (n < outputs)[None, :]
    total = tl.zeros([PIXELS, OUTPUTS], tl.float32)
    total += tl.load(bias + n, mask=n < outputs, other=0.0)[None, :]
    added = total
    _begin(OVERLAPS)
    if ADDS:
        added = tl.load(addend + target, mask=wanted, other=0.0)  # so early that nothing waits for it
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
    if ADDS:
        total += added.to(tl.float32)
    tl.store(out + target, _activate(total, HIGHEST).to(out.dtype.element_ty), mask=wanted)
