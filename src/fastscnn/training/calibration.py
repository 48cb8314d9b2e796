"""How well the probabilities of an evaluation tell how often it is right, and the temperature that makes them do so."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from fastscnn.kernels import upsample_cross_entropy_and_weight

BINS = 15
"""Of equal width, as in Guo et al. 2017."""
TEMPERATURES = tuple(float(value) for value in np.geomspace(0.25, 8, 26))
"""What is tried; the best is found between them."""


class Calibration(Metric):
    """Pixels by the probability of their label, and how many of them are right; ignored pixels are left out.

    Args:
        ignore_index: Label of the pixels that are ignored.
    """

    full_state_update = False
    pixels: Tensor
    right: Tensor
    confidence: Tensor

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        for name, dtype in (("pixels", torch.int64), ("right", torch.int64), ("confidence", torch.float64)):
            self.add_state(name, torch.zeros(BINS, dtype=dtype), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, confidence: Tensor, labels: Tensor) -> None:
        """Add frames: predictions and labels, integer [B, H, W], and the probability of each prediction."""
        labelled = labels != self.ignore_index
        shares = confidence[labelled].double()
        right = (predictions == labels)[labelled]
        which = ((shares * BINS).ceil().long() - 1).clamp_(0, BINS - 1)
        self.pixels += torch.bincount(which, minlength=BINS)
        self.right += torch.bincount(which[right], minlength=BINS)
        self.confidence += torch.bincount(which, shares, minlength=BINS)

    def compute(self) -> dict[str, Any]:
        """`ece`, the mean distance between probability and share of right pixels, from 0 to 1; and `bins`.

        A bin has its mean `confidence`, its `accuracy` and its `pixels`; empty ones are left out.
        """
        pixels, right, confidence = (values.tolist() for values in (self.pixels, self.right, self.confidence))
        bins = [
            {"confidence": total / count, "accuracy": hits / count, "pixels": count}
            for count, hits, total in zip(pixels, right, confidence, strict=True)
            if count
        ]
        gaps = (one["pixels"] * abs(one["confidence"] - one["accuracy"]) for one in bins)
        return {"ece": sum(gaps) / sum(pixels) if bins else float("nan"), "bins": bins}


class TemperatureFit:
    """The temperature at which the labelled pixels have the smallest cross-entropy (Guo et al. 2017).

    Args:
        ignore_index: Label of the pixels that are ignored.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index
        self.losses = np.zeros(len(TEMPERATURES))

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add frames: logits [B, C, h, w] and labels [B, H, W]; each temperature is one fused step."""
        for index, temperature in enumerate(TEMPERATURES):
            mean, weight = upsample_cross_entropy_and_weight(logits.float() / temperature, labels, self.ignore_index)
            self.losses[index] += float(mean) * float(weight)

    def temperature(self) -> float:
        """The lowest point of a parabola through the best three in log(temperature)."""
        best = int(self.losses.argmin())
        if best in (0, len(TEMPERATURES) - 1):
            return TEMPERATURES[best]
        before, here, after = self.losses[best - 1 : best + 2]
        step = np.log(TEMPERATURES[1] / TEMPERATURES[0])
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
        return float(TEMPERATURES[best] * np.exp(shift * step))
