"""The fused cross-entropy as Triton programs: what one block of a GPU computes.

A cell is what lies between four neighbouring logits, and holds the outputs that are blended of these four: about a
scale by a scale of them going up, one or none going down. A large cell is cut into pieces of about 8 by 8 outputs.
Every output is in one piece, and so computed once, and a piece changes the gradient of its four logits alone. It
leaves what it has for them in memory of its own, and a second program adds up what the pieces around each logit have
for it: no atomics, and the same order every time.

Sums stay close to float64's: the loss is added in float64, and of the gradient a thread adds up to about 8 numbers of a
row and then about 8 rows in float32, and what is longer in float64. Positions are exact fractions of whole numbers.

Import this only where Triton is installed.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

LOWEST = tl.constexpr(-1e38)
"""Stands for the logits of classes that do not exist; finite, so that no blend of it is undefined."""


@triton.jit
def _first_output(cell, size, target):
    """The first of `target` outputs along one side that is in this cell of `size`, or in one after it."""
    first = tl.maximum(tl.cdiv((2 * cell + 1) * target - size, 2 * size), 0)
    return tl.where(cell <= 0, 0, tl.minimum(first, target))


@triton.jit
def _share(output, cell, size, target):
    """How much of an output in this cell belongs to the logit after it; what is before the first logit is the first.

    What is after the last logit is the last one.
    """
    beyond = tl.maximum((2 * output + 1) * size - (2 * cell + 1) * target, 0)
    return tl.where(cell < size - 1, beyond.to(tl.float32) / (2 * target).to(tl.float32), 0.0)


@triton.jit
def _outputs(piece, pieces, size, target):
    """Of a piece of a cell: the cell, its first output along one side, and the one after its last."""
    cell = piece // pieces
    start = _first_output(cell, size, target)
    stop = _first_output(cell + 1, size, target)
    length = tl.cdiv(stop - start, pieces)
    start += piece % pieces * length
    return cell, start, tl.minimum(start + length, stop)


@triton.jit
def _classes(part: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr):
    """The classes of a part, [N, 1]."""
    if part == 0:
        return tl.arange(0, FIRST)[:, None]
    else:
        return FIRST + tl.arange(0, SECOND)[:, None]


@triton.jit
def _exp(values, NVIDIA: tl.constexpr):
    """The exponential; what is below the smallest normal number is 0 on an NVIDIA GPU, which saves a third of it."""
    if NVIDIA:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=r,r", [values * 1.4426950408889634], tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp(values)


@triton.jit
def _corner(plane, c, classes, wanted):
    values = tl.load(plane, mask=wanted, other=0.0)
    return tl.where(c < classes, values, LOWEST)


SIZES = ["classes", "height", "width", "out_height", "out_width", "ignore_index", "pieces_y", "pieces_x"]
"""Numbers that no program is compiled anew for: it would not be faster."""


@triton.jit(do_not_specialize=SIZES)
def loss_program(
    logits,
    labels,
    weight,
    difficulty,
    threshold,
    corners,
    sums,
    classes,
    height,
    width,
    out_height,
    out_width,
    ignore_index,
    smoothing,
    pieces_y,
    pieces_x,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    CELLS: tl.constexpr,
    WEIGHS: tl.constexpr,
    SMOOTHS: tl.constexpr,
    JUDGES: tl.constexpr,
    CHOOSES: tl.constexpr,
    DERIVES: tl.constexpr,
    NVIDIA: tl.constexpr,
):
    """The loss, summed over the outputs of CELLS pieces of one row of pieces, and what is left for its gradient.

    The classes are taken as FIRST and SECOND of them, both powers of two, the latter or 0: together as few as hold
    them all. A thread has all classes of a piece, or some threads share them.

    Args:
        logits: float32 [B, C, h, w].
        weight: float32 [C]; read where WEIGHS.
        difficulty: float32 [B, H, W]: minus the logarithm of the true class's probability; below 0 where there is no
            label. Written where JUDGES; read where CHOOSES.
        threshold: float32 [2]: CHOOSES leaves out what is less difficult than the first, and counts the second of what
            is just as difficult.
        corners: float32 [B, h * pieces_y, 4, C, w * pieces_x], written where DERIVES: the gradient of each piece's
            logits, those above left, above right, below left and below right.
        sums: float64 [programs, 2]: the sum of the losses and of their pixels' weights.
    """
    PARTS: tl.constexpr = 1 if SECOND == 0 else 2
    tiles = tl.cdiv(width * pieces_x, CELLS)
    piece_row = tl.program_id(0) // tiles
    piece = tl.program_id(0) % tiles * CELLS + tl.arange(0, CELLS)[None, :]
    image = tl.program_id(1).to(tl.int64)
    row, first_y, stop_y = _outputs(piece_row, pieces_y, height, out_height)
    cell, start, stop = _outputs(piece, pieces_x, width, out_width)
    present = piece < width * pieces_x
    stop = tl.where(present, stop, start)
    most = tl.max(tl.max(stop - start, 1), 0)
    plane = height * width
    upper = logits + image * classes * plane + row * width
    lower = upper + tl.where(row < height - 1, width, 0)
    # Threads lie along the cells: without the hint Triton lays them along the classes, and moves every value later.
    left = tl.max_contiguous(cell, [1, 2])
    right = tl.max_contiguous(tl.minimum(cell + 1, width - 1), [1, 2])

    of_all = tl.zeros([1, 1], tl.float32)
    spread = ()
    from_upper_left = ()
    from_upper_right = ()
    from_lower_left = ()
    from_lower_right = ()
    for part in tl.static_range(PARTS):
        of_part = _classes(part, FIRST, SECOND)
        of_classes = of_part * 0.0
        if SMOOTHS:
            of_classes = tl.where(of_part < classes, smoothing / classes, 0.0)
            if WEIGHS:
                of_classes *= tl.load(weight + of_part, mask=of_part < classes, other=0.0)
            of_all += tl.sum(of_classes, 0, keep_dims=True)
        spread += (of_classes,)
        if DERIVES:
            zeros = of_part * tl.zeros([1, CELLS], tl.float32)
            from_upper_left += (zeros,)
            from_upper_right += (zeros,)
            from_lower_left += (zeros,)
            from_lower_right += (zeros,)

    total = tl.zeros([1, CELLS], tl.float64)
    weighed = tl.zeros([1, CELLS], tl.float64)
    for y in range(first_y, stop_y):
        low = _share(tl.full([], 0, tl.int32) + y, row, height, out_height)
        at_left = ()
        to_right = ()
        from_left = ()
        from_right = ()
        for part in tl.static_range(PARTS):
            k = _classes(part, FIRST, SECOND)
            wanted = (k < classes) & present
            upper_left = _corner(upper + (k * plane + left), k, classes, wanted)
            upper_right = _corner(upper + (k * plane + right), k, classes, wanted)
            lower_left = _corner(lower + (k * plane + left), k, classes, wanted)
            lower_right = _corner(lower + (k * plane + right), k, classes, wanted)
            blended = tl.fma(low, lower_left, (1.0 - low) * upper_left)
            at_left += (blended,)
            to_right += (tl.fma(low, lower_right, (1.0 - low) * upper_right) - blended,)
            if DERIVES:
                from_left += (k * tl.zeros([1, CELLS], tl.float32),)
                from_right += (k * tl.zeros([1, CELLS], tl.float32),)
        line = (image * out_height + y) * out_width
        for phase in range(0, most):
            x = start + phase
            inside = x < stop
            share = tl.where(inside, _share(x, cell, width, out_width), 0.0)
            label = tl.load(labels + line + x, mask=inside, other=0)
            counts = inside & (label != ignore_index)
            known = (label >= 0) & (label < classes)
            label = label.to(tl.int32)
            if CHOOSES:
                hard = tl.load(difficulty + line + x, mask=inside, other=0.0)
                least = tl.load(threshold)
                counts &= (hard >= least) | (hard != hard)
                counted = tl.where(hard == least, tl.load(threshold + 1), 1.0)

            values = ()
            highest = tl.zeros([1, CELLS], tl.float32)
            for part in tl.static_range(PARTS):
                value = tl.fma(share, to_right[part], at_left[part])
                values += (value,)
                if part == 0:
                    highest = tl.max(value, 0, keep_dims=True)
                else:
                    highest = tl.maximum(highest, tl.max(value, 0, keep_dims=True))
            powers = ()
            normalizer = tl.zeros([1, CELLS], tl.float32)
            of_true = tl.zeros([1, CELLS], tl.float32)
            smoothed = tl.zeros([1, CELLS], tl.float32)
            for part in tl.static_range(PARTS):
                c = _classes(part, FIRST, SECOND)
                value = values[part] - highest
                power = _exp(value, NVIDIA)
                powers += (power,)
                normalizer += tl.sum(power, 0, keep_dims=True)
                of_true += tl.sum(tl.where(c == label, value, 0.0), 0, keep_dims=True)
                if SMOOTHS:
                    smoothed += tl.sum(tl.where(c < classes, spread[part] * value, 0.0), 0, keep_dims=True)
            logarithm = tl.log(normalizer)
            loss = tl.maximum(logarithm - of_true, 0.0, tl.PropagateNan.ALL)
            loss = tl.where(known, loss, float("nan"))
            if JUDGES:
                tl.store(difficulty + line + x, tl.where(counts, loss, -1.0), mask=inside)
            importance = tl.where(counts, 1.0, 0.0)
            if WEIGHS:
                importance = tl.load(weight + label, mask=counts & known, other=0.0)
            if CHOOSES:
                weighed += (importance * counted).to(tl.float64)
            else:
                weighed += importance.to(tl.float64)
            importance *= 1.0 - smoothing
            loss *= importance
            if SMOOTHS:
                loss += of_all * logarithm - smoothed
            if CHOOSES:
                loss *= counted
            total += tl.where(counts, loss, 0.0).to(tl.float64)
            if DERIVES:
                importance = tl.where(counts & (known == 0), float("nan"), importance)
                scale = 1.0 / normalizer
                scale = tl.fma(scale, tl.fma(-normalizer, scale, 1.0), scale)  # divisions are approximate
                lefts = from_left
                rights = from_right
                from_left = ()
                from_right = ()
                for part in tl.static_range(PARTS):
                    c = _classes(part, FIRST, SECOND)
                    probability = powers[part] * scale
                    slope = (probability - tl.where(c == label, 1.0, 0.0)) * importance
                    if SMOOTHS:
                        slope += of_all * probability - spread[part]
                    if CHOOSES:
                        slope *= counted
                    slope = tl.where(counts, slope, 0.0)
                    from_left += (tl.fma(1.0 - share, slope, lefts[part]),)
                    from_right += (tl.fma(share, slope, rights[part]),)
        if DERIVES:
            above_left, above_right, below_left, below_right = (
                from_upper_left,
                from_upper_right,
                from_lower_left,
                from_lower_right,
            )
            from_upper_left = ()
            from_upper_right = ()
            from_lower_left = ()
            from_lower_right = ()
            for part in tl.static_range(PARTS):
                from_upper_left += (tl.fma(1.0 - low, from_left[part], above_left[part]),)
                from_upper_right += (tl.fma(1.0 - low, from_right[part], above_right[part]),)
                from_lower_left += (tl.fma(low, from_left[part], below_left[part]),)
                from_lower_right += (tl.fma(low, from_right[part], below_right[part]),)

    sums += (image * tl.num_programs(0) + tl.program_id(0)) * 2
    tl.store(sums, tl.sum(tl.sum(total, 1), 0))
    tl.store(sums + 1, tl.sum(tl.sum(weighed, 1), 0))
    if DERIVES:
        across = width * pieces_x
        corners += (image * height * pieces_y + piece_row) * 4 * classes * across
        for part in tl.static_range(PARTS):
            stored = _classes(part, FIRST, SECOND)
            kept = (stored < classes) & present
            target = corners + stored * across + piece
            tl.store(target, from_upper_left[part], mask=kept)
            tl.store(target + classes * across, from_upper_right[part], mask=kept)
            tl.store(target + 2 * classes * across, from_lower_left[part], mask=kept)
            tl.store(target + 3 * classes * across, from_lower_right[part], mask=kept)
