"""A depthwise 3x3 convolution alone on a GPU, by Triton, in one of two forms that give the same bits.

One loads an input nine times, for each output that it is a neighbour of; the other walks down the rows and loads it
three times.
"""

import importlib
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

from fastscnn.kernels.cuda.choice import current
from fastscnn.kernels.cuda.layers import WAVE, _launch, _tiles


class Form(NamedTuple):
    """How the work of a depthwise convolution is shared out.

    Attributes:
        walks: Whether blocks walk down the rows.
        rows: Rows of the outputs of a block; powers of two, but for `rows` where it walks.
        columns: Columns of these.
        channels: Channels of these.
        warps: Of a block.
    """

    walks: bool
    rows: int
    columns: int
    channels: int
    warps: int


def can_walk(stride: int, dilation: int) -> bool:
    """Whether blocks may walk down the rows: where an input row serves several rows of outputs."""
    return stride == 1 or (stride == 2 and dilation == 1)


def form_of(pixels: int, inputs: int, stride: int, dilation: int) -> Form:
    """The form for so many pixels of output of all images and so many channels.

    Where blocks walk, five of them have the registers of a multiprocessor (sm_90), and they are as long as leaves
    `WAVE` of them.
    """
    if not (current().walks and can_walk(stride, dilation)):
        return Form(False, 8, 8, 64, 4)
    rows = 16
    while rows > 4 and pixels * _tiles(inputs, 64) // (rows * 8) < WAVE:
        rows //= 2
    return Form(True, rows, 8, 64, 4)


def depthwise(
    features: Tensor, taps: Tensor, taps_bias: Tensor, *, stride: int = 1, dilation: int = 1, highest: float = 0.0
) -> Tensor:
    """A depthwise 3x3 convolution and an activation.

    Args:
        features: [B, H, W, C].
        taps: float32 [9, C]; neither these nor the bias may be written by a launch that may still run.
        taps_bias: float32 [C].
        stride: Of the convolution.
        dilation: The same; it is padded with as many zeros.
        highest: Of the activation, as in `layers`.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), C].
    """
    count, height, width, inputs = features.shape
    rows, columns = -(-height // stride), -(-width // stride)
    form = form_of(count * rows * columns, inputs, stride, dilation)
    bands = _tiles(rows, form.rows)
    if form.walks:  # over rows that lie a dilation apart
        bands = dilation * _tiles(rows, dilation * form.rows)
    out = features.new_empty(count, rows, columns, inputs)
    _launch(
        "depthwise_rows_program" if form.walks else "depthwise_program",
        (bands * _tiles(columns, form.columns), count, _tiles(inputs, form.channels)),
        *(features, taps, taps_bias, out, height, width, rows, columns, inputs),
        programs=_programs(),
        STRIDE=stride,
        DILATION=dilation,
        TILE_ROWS=form.rows,
        TILE_COLUMNS=form.columns,
        INPUTS=form.channels,
        HIGHEST=highest,
        num_warps=form.warps,
    )
    return out


@cache
def _programs() -> Any:
    return importlib.import_module("fastscnn.kernels.cuda.depthwise_kernels")
