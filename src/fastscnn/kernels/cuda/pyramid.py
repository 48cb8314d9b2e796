"""Pyramid pooling on a GPU, by Triton: three launches, and the map is read twice and written once.

The last convolution is linear in what is concatenated, so that each stage's share of it is computed on its bins and
then upsampled.
"""

import importlib
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastscnn.kernels.cuda.layers import WAVE, _launch, _tiles, padded, precision

SPLITS = 16
"""Blocks that share out the pixels of a map, at most: a power of two."""
ACROSS = 128
"""Inputs and outputs that a block of the context takes at a time, at most."""
MOST_PLACES, MOST_REDUCED = 128, 128
"""What the programs keep in registers."""


def applies(bins: tuple[int, ...], reduced: int) -> bool:
    """Whether the programs have place for these bins and for so many channels of all stages together."""
    return sum(side * side for side in bins) <= MOST_PLACES and reduced <= MOST_REDUCED


def pyramid_pooling(
    features: Tensor,
    bins: tuple[int, ...],
    reduce: Tensor,
    reduce_bias: Tensor,
    spread: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    highest_between: float,
    highest: float,
) -> Tensor:
    """Averages over bins, 1x1 convolutions, and a last one on the map and the upsampled averages.

    Args:
        features: [B, H, W, C].
        bins: Bins a side of each stage.
        reduce: float32 [C, R]: the convolutions of all stages side by side.
        reduce_bias: float32 [places, R]; minus infinity where a place is not of the channel's stage.
        spread: float32 [R, N]: the last convolution's share of the stages' channels.
        weight: [C, N]: its share of the map, of the features' type.
        bias: float32 [N].
        highest_between: Of the stages' activation, as in `layers`; there must be one.
        highest: Of the last activation.

    Returns:
        [B, H, W, N].
    """
    count, height, width, channels = features.shape
    reduced, outputs = spread.shape
    places = padded(sum(side * side for side in bins))
    bounds, table = _places(bins, height, width, places, features.device)
    each = 64 * _tiles(_tiles(height * width, 64), SPLITS)
    splits = _tiles(height * width, each)
    shares = features.new_empty(count, splits, places, channels, dtype=torch.float32)
    options: dict[str, Any] = {"PLACES": places, "PRECISION": precision(features.device), "programs": _programs()}
    _launch(
        "pool_program",
        (splits, _tiles(channels, 32), count),
        *(features, bounds, shares, height * width, width, channels, each),
        PIXELS=64,
        CHANNELS=32,
        num_warps=8,
        **options,
    )
    context = features.new_empty(count, places, outputs, dtype=torch.float32)
    _launch(
        "context_program",
        (places, count),
        *(shares, reduce, _filled(reduce_bias, places), spread, context, splits, channels, reduced, outputs),
        SPLITS=SPLITS,
        INPUTS=min(ACROSS, padded(channels)),
        REDUCED=padded(reduced),
        OUTPUTS=min(ACROSS, padded(outputs)),
        HIGHEST=highest_between,
        programs=_programs(),
        num_warps=8,
    )
    out = features.new_empty(count, height, width, outputs)
    across = min(64, padded(outputs))
    block = 64 if count * height * width * _tiles(outputs, across) >= 64 * WAVE else 32
    _launch(
        "project_program",
        (_tiles(height * width, block), _tiles(outputs, across), count),
        *(features, weight, bias, context, table, out, height, width, channels, outputs),
        PIXELS=block,
        OUTPUTS=across,
        INPUTS=32,
        HIGHEST=highest,
        num_warps=4,
        **options,
    )
    return out


def upsample(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear upsampling with half-pixel centres, [B, h, w, C] to [B, H, W, C]; sums are float32."""
    count, height, width, channels = features.shape
    out = features.new_empty(count, *size, channels)
    across = min(128, padded(channels))
    pixels = 2048 // across
    _launch(
        "upsample_program",
        (_tiles(size[0] * size[1], pixels), count, _tiles(channels, across)),
        *(features, out, height, width, *size, channels),
        *(float(np.float32(side) / np.float32(target)) for side, target in zip((height, width), size, strict=True)),
        PIXELS=pixels,
        CHANNELS=across,
        programs=_programs(),
        num_warps=4,
    )
    return out


def _filled(reduce_bias: Tensor, places: int) -> Tensor:
    """Rows of minus infinity up to so many places; as it is where it has them."""
    if len(reduce_bias) == places:
        return reduce_bias
    missing = reduce_bias.new_full((places - len(reduce_bias), reduce_bias.shape[1]), -torch.inf)
    return torch.cat([reduce_bias, missing])


@cache
def _places(bins: tuple[int, ...], height: int, width: int, places: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`bounds` and `table` of the programs; kept for good, as captured graphs read them."""
    found = [(row, column, side) for side in bins for row in range(side) for column in range(side)]
    table = found + [(-1, -1, 1)] * (places - len(found))
    bounds = [
        (row * height // side, column * width // side, -(-(row + 1) * height // side), -(-(column + 1) * width // side))
        for row, column, side in found
    ] + [(0, 0, 0, 0)] * (places - len(found))
    return tuple(torch.tensor(rows, dtype=torch.int32).to(device) for rows in (bounds, table))  # type: ignore[return-value]


@cache
def _programs() -> Any:
    return importlib.import_module("fastscnn.kernels.cuda.pyramid_kernels")
