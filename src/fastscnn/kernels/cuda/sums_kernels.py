"""What is added up after and between the passes of the fused cross-entropy, as Triton programs.

Import this only where Triton is installed.
"""

# mypy: ignore-errors

import triton
import triton.language as tl

SIZES = ["classes", "height", "width", "pieces_y", "pieces_x"]
STRIDES = ["stride_image", "stride_class", "stride_row", "stride_column"]


@triton.jit(do_not_specialize=SIZES + STRIDES)
def gather_program(
    corners,
    gradient,
    classes,
    height,
    width,
    pieces_y,
    pieces_x,
    stride_image,
    stride_class,
    stride_row,
    stride_column,
    BLOCK: tl.constexpr,
):
    """The gradient of the logits, BLOCK of them: what the pieces of the four cells around each have for it.

    Args:
        corners: As `loss_program` writes them.
        gradient: float32 [B, C, h, w] with any strides.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    image = tl.program_id(1).to(tl.int64)
    wanted = at < classes * height * width
    column = at % width
    row = at // width % height
    c = at // (width * height)
    across = width * pieces_x
    corners += image * height * pieces_y * 4 * classes * across
    total = tl.zeros([BLOCK], tl.float64)
    for corner in tl.static_range(4):
        cell_row = row - corner // 2
        cell = column - corner % 2
        there = wanted & (cell_row >= 0) & (cell >= 0)
        for piece in range(0, pieces_y * pieces_x):
            line = (cell_row * pieces_y + piece // pieces_x).to(tl.int64)
            place = ((line * 4 + corner) * classes + c) * across + cell * pieces_x + piece % pieces_x
            total += tl.load(corners + place, mask=there, other=0.0).to(tl.float64)
    target = image * stride_image + c.to(tl.int64) * stride_class + row * stride_row + column * stride_column
    tl.store(gradient + target, total.to(tl.float32), mask=wanted)


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
