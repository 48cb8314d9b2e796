"""The fused upsampling as Triton programs: what one block of a GPU computes.

They blend in the order of torch's own CUDA kernel (aten/src/ATen/native/cuda/UpSampleBilinear2d.cu): positions in
float32, columns before rows, the same fused multiply-adds. Import this only where Triton is installed.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

from fastscnn.kernels.cuda.layers_kernels import _begin


@triton.jit
def _neighbours(target, scale, size):
    """Of outputs along one side: the neighbours before and after among `size` inputs, and the share of the latter."""
    source = tl.maximum(tl.fma(target.to(tl.float32) + 0.5, scale, -0.5), 0.0)
    before = tl.minimum(source.to(tl.int32), size - 1)
    return before, tl.minimum(before + 1, size - 1), source - before.to(tl.float32)


@triton.jit
def _blend(plane, above, below, left, right, low, share, wanted):
    """Bilinear values at outputs whose four neighbours lie at these offsets from the start of a class's plane."""
    upper_left = tl.load(plane + (above + left), mask=wanted, other=0.0).to(tl.float32)
    upper_right = tl.load(plane + (above + right), mask=wanted, other=0.0).to(tl.float32)
    lower_left = tl.load(plane + (below + left), mask=wanted, other=0.0).to(tl.float32)
    lower_right = tl.load(plane + (below + right), mask=wanted, other=0.0).to(tl.float32)
    upper = tl.fma(share, upper_right, (1.0 - share) * upper_left)
    lower = tl.fma(1.0 - share, lower_left, share * lower_right)
    return tl.fma(1.0 - low, upper, low * lower)


@triton.jit
def _extremes(cells, start, classes, stride_class, CHUNK: tl.constexpr):
    """Lowest and highest logit of each of CHUNK classes among the cells at these addresses; a NaN counts as lowest."""
    c = start + tl.arange(0, CHUNK)
    named = c < classes
    values = tl.load(cells[None, :] + c[:, None] * stride_class, mask=named[:, None], other=float("-inf"))
    values = values.to(tl.float32)
    values = tl.where(values == values, values, float("-inf"))
    return tl.min(values, 1), tl.max(values, 1)


@triton.jit
def labels_program(
    logits,
    out,
    classes,
    height,
    width,
    out_height,
    out_width,
    scale_y,
    scale_x,
    stride_image,
    stride_class,
    stride_row,
    stride_column,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    NEAR: tl.constexpr,
    NEAR_COLUMNS: tl.constexpr,
    WHOLE: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """Labels of one tile of ROWS x COLUMNS outputs of one image.

    A blend lies between the values that it blends: among the NEAR logits of a class that the tile reaches, NEAR_COLUMNS
    to a row, a class whose highest is below another's lowest wins nowhere in the tile and is left out. Classes with
    infinite or undefined logits stay in. NEAR is 0 where the tile reaches too many to look through. WHOLE is where one
    CHUNK holds all classes.
    """
    tiles = tl.cdiv(out_width, COLUMNS)
    first_y = tl.program_id(0) // tiles * ROWS
    first_x = tl.program_id(0) % tiles * COLUMNS
    image = tl.program_id(1).to(tl.int64)
    logits += image * stride_image
    y = first_y + tl.arange(0, ROWS)
    x = first_x + tl.arange(0, COLUMNS)
    above, below, low = _neighbours(y, scale_y, height)
    left, right, share = _neighbours(x, scale_x, width)
    above = (above * stride_row)[:, None]
    below = (below * stride_row)[:, None]
    left = (left * stride_column)[None, :]
    right = (right * stride_column)[None, :]
    low = low[:, None]
    share = share[None, :]
    inside = (y < out_height)[:, None] & (x < out_width)[None, :]

    _begin(OVERLAPS)
    floor = tl.full([], float("-inf"), tl.float32)
    cells = logits + tl.zeros([1], tl.int32)
    if NEAR > 0:
        near = tl.arange(0, NEAR)
        top = _neighbours(first_y, scale_y, height)[0]
        start = _neighbours(first_x, scale_x, width)[0]
        row = tl.minimum(top + near // NEAR_COLUMNS, height - 1)
        column = tl.minimum(start + near % NEAR_COLUMNS, width - 1)
        cells = logits + row * stride_row + column * stride_column
        if WHOLE:
            lowest, highest = _extremes(cells, 0, classes, stride_class, CHUNK)
            floor = tl.max(lowest, 0)
        else:
            for chunk in range(0, classes, CHUNK):
                lowest_of_chunk, _ = _extremes(cells, chunk, classes, stride_class, CHUNK)
                floor = tl.maximum(floor, tl.max(lowest_of_chunk, 0))

    best = tl.full([ROWS, COLUMNS], float("-inf"), tl.float32)
    label = tl.zeros([ROWS, COLUMNS], tl.int32)
    plane = logits
    for chunk in range(0, classes, CHUNK):
        candidates = tl.full([], -1, tl.int32)
        if NEAR > 0:
            if not WHOLE:
                lowest, highest = _extremes(cells, chunk, classes, stride_class, CHUNK)
            candidate = (highest >= floor) | (lowest == float("-inf"))
            candidates = tl.sum(candidate.to(tl.int32) << tl.arange(0, CHUNK), 0)
        for c in range(chunk, tl.minimum(chunk + CHUNK, classes)):
            if (candidates >> (c - chunk)) & 1 != 0:
                value = _blend(plane, above, below, left, right, low, share, inside)
                better = (value > best) | ((value != value) & (best == best))
                best = tl.where(better, value, best)
                label = tl.where(better, c, label)
            plane += stride_class
    offset = y[:, None] * out_width + x[None, :]
    tl.store(out + image * out_height * out_width + offset, label.to(tl.uint8), mask=inside)


@triton.jit(do_not_specialize=["stride_class", "stride_column"])
def probabilities_program(
    logits,
    out,
    classes,
    height,
    width,
    out_height,
    out_width,
    scale_y,
    scale_x,
    stride_image,
    stride_class,
    stride_row,
    stride_column,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Probabilities of all of up to CHUNK classes in one tile of ROWS x COLUMNS outputs of one image.

    The columns of a pair of logit rows are blended once, for all output rows between the two.
    """
    tiles = tl.cdiv(out_width, COLUMNS)
    first_y = tl.program_id(0) // tiles * ROWS
    x = tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS)
    image = tl.program_id(1)
    c = tl.arange(0, CHUNK)[:, None]
    wanted = (c < classes) & (x < out_width)[None, :]
    left, right, share = _neighbours(x, scale_x, width)
    left = (left * stride_column)[None, :]
    right = (right * stride_column)[None, :]
    share = share[None, :]
    logits += image.to(tl.int64) * stride_image
    upper = tl.zeros([CHUNK, COLUMNS], tl.float32)
    lower = tl.zeros([CHUNK, COLUMNS], tl.float32)
    row = tl.full([], -1, tl.int32)
    for y in range(first_y, tl.minimum(first_y + ROWS, out_height)):
        above, below, low = _neighbours(tl.full([], 0, tl.int32) + y, scale_y, height)
        if above != row:
            row = above
            upper_row = logits + above * stride_row
            lower_row = logits + below * stride_row
            first = tl.load(upper_row + (left + c * stride_class), mask=wanted, other=0.0).to(tl.float32)
            second = tl.load(upper_row + (right + c * stride_class), mask=wanted, other=0.0).to(tl.float32)
            upper = tl.fma(share, second, (1.0 - share) * first)
            first = tl.load(lower_row + (left + c * stride_class), mask=wanted, other=0.0).to(tl.float32)
            second = tl.load(lower_row + (right + c * stride_class), mask=wanted, other=0.0).to(tl.float32)
            lower = tl.fma(1.0 - share, first, share * second)
        value = tl.where(c < classes, tl.fma(1.0 - low, upper, low * lower), float("-inf"))
        value = tl.exp(value - tl.max(value, 0)[None, :])
        line = (image * classes + c) * out_height + y
        share_of_all = value * (1.0 / tl.sum(value, 0))[None, :]
        tl.store(out + (line.to(tl.int64) * out_width + x[None, :]), share_of_all, mask=wanted)


@triton.jit(do_not_specialize=["stride_class", "stride_column"])
def probabilities_of_many_program(
    logits,
    out,
    classes,
    height,
    width,
    out_height,
    out_width,
    scale_y,
    scale_x,
    stride_image,
    stride_class,
    stride_row,
    stride_column,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The same for any number of classes, CHUNK at a time: their highest and their sum first, then the shares of it."""
    tiles = tl.cdiv(out_width, COLUMNS)
    first_y = tl.program_id(0) // tiles * ROWS
    x = tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS)
    image = tl.program_id(1).to(tl.int64)
    inside = (x < out_width)[None, :]
    left, right, share = _neighbours(x, scale_x, width)
    left = (left * stride_column)[None, :]
    right = (right * stride_column)[None, :]
    share = share[None, :]
    logits += image * stride_image
    out += image * classes * out_height * out_width
    for y in range(first_y, tl.minimum(first_y + ROWS, out_height)):
        above, below, low = _neighbours(tl.full([], 0, tl.int32) + y, scale_y, height)
        above = above * stride_row
        below = below * stride_row
        highest = tl.full([COLUMNS], float("-inf"), tl.float32)
        total = tl.zeros([COLUMNS], tl.float32)
        for chunk in range(0, classes, CHUNK):
            c = (chunk + tl.arange(0, CHUNK))[:, None]
            value = _blend(logits + c * stride_class, above, below, left, right, low, share, (c < classes) & inside)
            value = tl.where(c < classes, value, float("-inf"))
            before = highest
            highest = tl.maximum(highest, tl.max(value, 0))
            shift = tl.where(highest == float("-inf"), 0.0, highest)
            total = total * tl.exp(before - shift) + tl.sum(tl.exp(value - shift[None, :]), 0)
        for chunk in range(0, classes, CHUNK):
            c = (chunk + tl.arange(0, CHUNK))[:, None]
            wanted = (c < classes) & inside
            value = _blend(logits + c * stride_class, above, below, left, right, low, share, wanted)
            value = tl.exp(value - highest[None, :]) / total[None, :]
            offset = c.to(tl.int64) * out_height * out_width + y * out_width + x[None, :]
            tl.store(out + offset, value, mask=wanted)


@triton.jit(do_not_specialize=["stride_class", "stride_column"])
def confidence_program(
    logits,
    out,
    classes,
    height,
    width,
    out_height,
    out_width,
    scale_y,
    scale_x,
    stride_image,
    stride_class,
    stride_row,
    stride_column,
    labels,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Labels of one tile of ROWS x COLUMNS outputs of one image, and the probability of each; CHUNK classes at a time.

    The probability is 1 over the sum of all classes' exponentials, relative to the highest.
    """
    tiles = tl.cdiv(out_width, COLUMNS)
    first_y = tl.program_id(0) // tiles * ROWS
    x = tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS)
    image = tl.program_id(1).to(tl.int64)
    inside = (x < out_width)[None, :]
    left, right, share = _neighbours(x, scale_x, width)
    left = (left * stride_column)[None, :]
    right = (right * stride_column)[None, :]
    share = share[None, :]
    logits += image * stride_image
    for y in range(first_y, tl.minimum(first_y + ROWS, out_height)):
        above, below, low = _neighbours(tl.full([], 0, tl.int32) + y, scale_y, height)
        above = above * stride_row
        below = below * stride_row
        highest = tl.full([COLUMNS], float("-inf"), tl.float32)
        total = tl.zeros([COLUMNS], tl.float32)
        label = tl.zeros([COLUMNS], tl.int32)
        for chunk in range(0, classes, CHUNK):
            c = (chunk + tl.arange(0, CHUNK))[:, None]
            value = _blend(logits + c * stride_class, above, below, left, right, low, share, (c < classes) & inside)
            value = tl.where(c < classes, value, float("-inf"))
            top = tl.max(value, 0)
            first = tl.min(tl.where(value == top[None, :], c, 256), 0)
            label = tl.where(top > highest, first, label)
            before = highest
            highest = tl.maximum(highest, top)
            shift = tl.where(highest == float("-inf"), 0.0, highest)
            total = total * tl.exp(before - shift) + tl.sum(tl.exp(value - shift[None, :]), 0)
        offset = (image * out_height + y) * out_width + x
        tl.store(labels + offset, label.to(tl.uint8), mask=x < out_width)
        tl.store(out + offset, 1.0 / total, mask=x < out_width)
