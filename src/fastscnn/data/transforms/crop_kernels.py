"""The crops of a batch as a Triton program: see `batch_crop`. Import this only where Triton is installed."""

# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def crop_program(
    pixels,
    fields,
    places,
    images,
    labels,
    height,
    width,
    fill_red,
    fill_green,
    fill_blue,
    FIELDS: tl.constexpr,
    ONE: tl.constexpr,
    FILL_LABEL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block of the pixels of one crop: its image, interpolated and coloured, and its labels.

    Args:
        pixels: uint8: of each frame the image [H, W, 3] and then the labels [H, W].
        fields: int64 [B, FIELDS]: see `batch_crop`.
        places: int32 [B, height + width]: of each row and each column the frame's that is nearest; below 0: none.
        images: uint8 [B, height, width, 3].
        labels: uint8 [B, height, width].
    """
    image = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    wanted = at < height * width
    row = at // width
    column = at % width

    field = fields + image * FIELDS
    begin = tl.load(field)
    frame_height = tl.load(field + 1)
    stride = tl.load(field + 2)
    frame = pixels + begin

    place = places + image * (height + width)
    near_row = tl.load(place + row, mask=wanted, other=-1)
    near_column = tl.load(place + height + column, mask=wanted, other=-1)
    inside = (near_row >= 0) & (near_column >= 0)
    label = tl.load(
        frame + 3 * frame_height * stride + near_row.to(tl.int64) * stride + near_column, mask=inside, other=FILL_LABEL
    )

    flips = tl.load(field + 11)
    column = tl.where(flips > 0, width - 1 - column, column)
    upper, lower, low = _between(field + 3, row, ONE)
    left, right, share = _between(field + 7, column, ONE)
    upper_left = frame + (upper * stride + left) * 3
    upper_right = frame + (upper * stride + right) * 3
    lower_left = frame + (lower * stride + left) * 3
    lower_right = frame + (lower * stride + right) * 3

    out = image * height * width + at
    tl.store(labels + out, label, mask=wanted)
    for channel in tl.static_range(3):
        a = tl.load(upper_left + channel, mask=inside, other=0).to(tl.int32)
        b = tl.load(upper_right + channel, mask=inside, other=0).to(tl.int32)
        c = tl.load(lower_left + channel, mask=inside, other=0).to(tl.int32)
        d = tl.load(lower_right + channel, mask=inside, other=0).to(tl.int32)
        above = a * (ONE - share) + b * share
        below = c * (ONE - share) + d * share
        value = ((((ONE - low) * (above >> 4)) >> 16) + ((low * (below >> 4)) >> 16) + 2) >> 2
        if channel == 0:
            value = tl.where(inside, value, fill_red)
        elif channel == 1:
            value = tl.where(inside, value, fill_green)
        else:
            value = tl.where(inside, value, fill_blue)
        first = tl.load(field + 12 + channel).to(tl.int32)
        then = tl.load(field + 15 + channel).to(tl.int32)
        value = tl.minimum(tl.maximum(value + first, 0), 255)
        value = tl.minimum(tl.maximum(value + then, 0), 255)
        tl.store(images + out * 3 + channel, value.to(tl.uint8), mask=wanted)


@triton.jit
def _between(span, place, ONE: tl.constexpr):
    """The two places of a frame that a place of the crop lies between, and the share of the second, of `ONE`."""
    start = tl.load(span)
    length = tl.load(span + 1)
    out_start = tl.load(span + 2)
    out_length = tl.load(span + 3)
    scale = length.to(tl.float32) / out_length.to(tl.float32)
    position = ((place - out_start).to(tl.float32) + 0.5) * scale - 0.5
    position = tl.minimum(tl.maximum(position, 0.0), (length - 1).to(tl.float32))
    first = tl.floor(position).to(tl.int64)
    second = tl.minimum(first + 1, length - 1)
    share = ((position - first.to(tl.float32)) * ONE + 0.5).to(tl.int32)
    return start + first, start + second, share
