"""The exact fused upsampling: labels, probabilities and loss without the full-size logits in memory."""

from fastscnn.kernels.reference import HardPixels
from fastscnn.kernels.regions import upsample_dice, upsample_lovasz
from fastscnn.kernels.upsample import (
    upsample_confidence,
    upsample_cross_entropy,
    upsample_cross_entropy_and_weight,
    upsample_labels,
    upsample_probabilities,
)

__all__ = [
    "HardPixels",
    "upsample_confidence",
    "upsample_cross_entropy",
    "upsample_cross_entropy_and_weight",
    "upsample_dice",
    "upsample_labels",
    "upsample_lovasz",
    "upsample_probabilities",
]
