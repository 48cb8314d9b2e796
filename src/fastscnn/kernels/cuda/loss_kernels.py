"""The fused cross-entropy as Triton programs: what one block of a GPU computes.

A cell is what lies between four neighbouring logits, and holds the outputs that are blended of these four: about a
scale by a scale of them going up, one or none going down. Every output is in one cell, and so computed once, and a
cell changes the gradient of its four logits alone. Cells two rows and two columns apart share no logit: four launches,
of the even and odd rows and columns, add up the gradient in place, in the same order every time, without atomics.

Import this only where Triton is installed.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

LOWEST = tl.constexpr(-1e38)
"""Stands for the logits of classes that do not exist; finite, so that no blend of it is undefined."""


@triton.jit
def _source(target, scale, size):
    """Where outputs along one side lie among `size` inputs: the neighbour before, and the share of the one after.

    As torch's CUDA kernel computes them (aten/src/ATen/native/cuda/UpSampleBilinear2d.cu).
    """
    source = tl.maximum(tl.fma(target.to(tl.float32) + 0.5, scale, -0.5), 0.0)
    before = tl.minimum(source.to(tl.int32), size - 1)
    return before, source - before.to(tl.float32)


@triton.jit
def _first_output(cell, scale, size, target):
    """The first of `target` outputs along one side that is in this cell or in one after it.

    The position is found but for one by division, and by looking at its neighbours from there.
    """
    guess = ((cell.to(tl.float32) + 0.5) / scale - 0.5).to(tl.int32)
    first = guess - 1
    for step in tl.static_range(-1, 2):
        first += (_source(guess + step, scale, size)[0] < cell).to(tl.int32)
    return tl.where(cell <= 0, 0, tl.minimum(first, target))


@triton.jit
def _corner(plane, classes, c, wanted):
    values = tl.load(plane, mask=wanted, other=0.0).to(tl.float32)
    return tl.where(c < classes, values, LOWEST)


@triton.jit
def _add(gradient, values, wanted, ADDS: tl.constexpr):
    if ADDS:
        values += tl.load(gradient, mask=wanted, other=0.0)
    tl.store(gradient, values, mask=wanted)


@triton.jit(
    do_not_specialize=["stride_class", "stride_column", "gradient_class", "gradient_column", "first_row", "first_cell"]
)
def loss_program(
    logits,
    labels,
    weight,
    difficulty,
    threshold,
    gradient,
    sums,
    classes,
    height,
    width,
    out_height,
    out_width,
    scale_y,
    scale_x,
    ignore_index,
    smoothing,
    stride_image,
    stride_class,
    stride_row,
    stride_column,
    gradient_image,
    gradient_class,
    gradient_row,
    gradient_column,
    first_row,
    first_cell,
    CHUNK: tl.constexpr,
    CELLS: tl.constexpr,
    STEP: tl.constexpr,
    WEIGHS: tl.constexpr,
    SMOOTHS: tl.constexpr,
    JUDGES: tl.constexpr,
    CHOOSES: tl.constexpr,
    DERIVES: tl.constexpr,
    ADDS: tl.constexpr,
):
    """The loss, summed over the outputs of CELLS cells of one row of cells, and its gradient.

    STEP is the distance of the rows of cells of a launch, and of the cells of a row; `first_row` and `first_cell` are
    where they begin.

    Args:
        weight: float32 [C]; read where WEIGHS.
        difficulty: float32 [B, H, W]: minus the logarithm of the true class's probability; below 0 where there is no
            label. Written where JUDGES; read where CHOOSES.
        threshold: float32 [2]: CHOOSES leaves out what is less difficult than the first, and counts the second of what
            is just as difficult.
        gradient: float32 [B, C, h, w], written where DERIVES; where ADDS, added to.
        sums: float32 [programs, 2]: the sum of the losses and of their pixels' weights.
    """
    tiles = tl.cdiv(tl.cdiv(width - first_cell, STEP), CELLS)
    row = first_row + tl.program_id(0) // tiles * STEP
    cell = first_cell + (tl.program_id(0) % tiles * CELLS + tl.arange(0, CELLS)) * STEP
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, CHUNK)[:, None]
    wanted = (c < classes) & (cell < width)[None, :]
    left = (cell * stride_column)[None, :]
    right = (tl.minimum(cell + 1, width - 1) * stride_column)[None, :]
    upper = logits + image * stride_image + row * stride_row + c * stride_class
    lower = logits + image * stride_image + tl.minimum(row + 1, height - 1) * stride_row + c * stride_class
    upper_left = _corner(upper + left, classes, c, wanted)
    upper_right = _corner(upper + right, classes, c, wanted)
    lower_left = _corner(lower + left, classes, c, wanted)
    lower_right = _corner(lower + right, classes, c, wanted)

    spread = smoothing / classes
    of_classes = tl.zeros([CHUNK, 1], tl.float32)
    if SMOOTHS:
        of_classes = tl.where(c < classes, spread, 0.0)
        if WEIGHS:
            of_classes *= tl.load(weight + c, mask=c < classes, other=0.0)
    of_all = tl.sum(of_classes, 0)

    total = tl.zeros([CELLS], tl.float32)
    weighed = tl.zeros([CELLS], tl.float32)
    from_upper_left = tl.zeros([CHUNK, CELLS], tl.float32)
    from_upper_right = tl.zeros([CHUNK, CELLS], tl.float32)
    from_lower_left = tl.zeros([CHUNK, CELLS], tl.float32)
    from_lower_right = tl.zeros([CHUNK, CELLS], tl.float32)
    start = _first_output(cell, scale_x, width, out_width)
    stop = _first_output(cell + 1, scale_x, width, out_width)
    most = tl.max(stop - start, 0)
    for y in range(
        _first_output(row, scale_y, height, out_height), _first_output(row + 1, scale_y, height, out_height)
    ):
        y = tl.full([], 0, tl.int32) + y
        # What is after the last logit is the last one again.
        low = tl.where(row < height - 1, _source(y, scale_y, height)[1], 0.0)
        at_left = tl.fma(low, lower_left, (1.0 - low) * upper_left)
        at_right = tl.fma(low, lower_right, (1.0 - low) * upper_right)
        from_left = tl.zeros([CHUNK, CELLS], tl.float32)
        from_right = tl.zeros([CHUNK, CELLS], tl.float32)
        line = (image * out_height + y) * out_width
        for phase in range(0, most):
            x = start + phase
            inside = x < stop
            share = tl.where(cell < width - 1, _source(x, scale_x, width)[1], 0.0)
            share = tl.where(inside, share, 0.0)[None, :]
            label = tl.load(labels + line + x, mask=inside, other=0)
            counts = inside & (label != ignore_index)
            known = (label >= 0) & (label < classes)
            label = label.to(tl.int32)
            if CHOOSES:
                hard = tl.load(difficulty + line + x, mask=inside, other=0.0)
                least = tl.load(threshold)
                counts &= (hard >= least) | (hard != hard)
                part = tl.where(hard == least, tl.load(threshold + 1), 1.0)

            value = tl.fma(share, at_right, (1.0 - share) * at_left)
            value -= tl.max(value, 0)[None, :]
            power = tl.exp(value)
            normalizer = tl.sum(power, 0)
            logarithm = tl.log(normalizer)
            true = c == label[None, :]
            loss = tl.maximum(logarithm - tl.sum(tl.where(true, value, 0.0), 0), 0.0, tl.PropagateNan.ALL)
            loss = tl.where(known, loss, float("nan"))
            if JUDGES:
                tl.store(difficulty + line + x, tl.where(counts, loss, -1.0), mask=inside)
            importance = tl.where(counts, 1.0, 0.0)
            if WEIGHS:
                importance = tl.load(weight + label, mask=counts & known, other=0.0)
            if CHOOSES:
                weighed += importance * part
            else:
                weighed += importance
            importance *= 1.0 - smoothing
            loss *= importance
            if SMOOTHS:
                loss += of_all * logarithm - tl.sum(tl.where(c < classes, of_classes * value, 0.0), 0)
            if CHOOSES:
                loss *= part
            total += tl.where(counts, loss, 0.0)
            if DERIVES:
                importance = tl.where(counts & (known == 0), float("nan"), importance)
                probability = power * (1.0 / normalizer)[None, :]
                slope = (probability - tl.where(true, 1.0, 0.0)) * importance[None, :]
                if SMOOTHS:
                    slope += of_all[None, :] * probability - of_classes
                if CHOOSES:
                    slope *= part[None, :]
                slope = tl.where(counts[None, :], slope, 0.0)
                from_left = tl.fma(1.0 - share, slope, from_left)
                from_right = tl.fma(share, slope, from_right)
        if DERIVES:
            from_upper_left = tl.fma(1.0 - low, from_left, from_upper_left)
            from_upper_right = tl.fma(1.0 - low, from_right, from_upper_right)
            from_lower_left = tl.fma(low, from_left, from_lower_left)
            from_lower_right = tl.fma(low, from_right, from_lower_right)

    sums += (image * tl.num_programs(0) + tl.program_id(0)) * 2
    tl.store(sums, tl.sum(total, 0))
    tl.store(sums + 1, tl.sum(weighed, 0))
    if DERIVES:
        upper = gradient + image * gradient_image + row * gradient_row + c * gradient_class
        left = (cell * gradient_column)[None, :]
        right = left + gradient_column
        beside = wanted & (cell < width - 1)[None, :]
        _add(upper + left, from_upper_left, wanted, ADDS)
        _add(upper + right, from_upper_right, beside, ADDS)
        if row < height - 1:
            _add(upper + gradient_row + left, from_lower_left, wanted, ADDS)
            _add(upper + gradient_row + right, from_lower_right, beside, ADDS)


@triton.jit
def digits_program(difficulty, chosen, counts, size, BLOCK: tl.constexpr, SHIFT: tl.constexpr, DIGITS: tl.constexpr):
    """How many numbers have each digit, among those from 0 up whose higher digits are the chosen ones.

    Args:
        difficulty: float32 [size]; from 0 up its bits are ordered as it is.
        chosen: int32 [1]: the higher digits.
        counts: int32 [DIGITS], added to; whole numbers, so that their order does not matter.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    bits = tl.load(difficulty + at, mask=at < size, other=-1.0).to(tl.int32, bitcast=True)
    digits = bits >> SHIFT
    counted = (bits >= 0) & (digits // DIGITS == tl.load(chosen))
    found = tl.histogram(digits & (DIGITS - 1), DIGITS, mask=counted)
    tl.atomic_add(counts + tl.arange(0, DIGITS), found, mask=found > 0, sem="relaxed")
