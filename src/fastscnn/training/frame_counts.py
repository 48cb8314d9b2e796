"""What IoU is made of, frame by frame, and intervals from drawing the frames anew (bootstrap)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

DRAWS = 1000
"""How often the frames are drawn anew."""
SEED = 0
SHARE = 0.95
"""Of the draws that lie within an interval."""
CHUNK = 50
"""Draws that are computed together, which bounds the memory."""
Counts = npt.NDArray[np.int64]
"""Right, labelled and predicted pixels of each class; [..., 3, C]."""
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bootstrap:
    """Scores of the frames drawn anew; NaN where a draw has nothing to evaluate.

    Attributes:
        iou: Of each class, [DRAWS, C].
        accuracy: Share of the labelled pixels that are right, [DRAWS].
    """

    iou: Numbers
    accuracy: Numbers

    @property
    def miou(self) -> Numbers:
        """Mean over the classes that are not NaN, [DRAWS]."""
        known = np.isfinite(self.iou)
        total = np.where(known, self.iou, 0).sum(1)
        return _ratio(total, known.sum(1))


def counts_of(matrix: npt.NDArray[np.int64]) -> Counts:
    """The counts of a confusion matrix, [C, C] with a row for each label, to [3, C]."""
    return np.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)]).astype(np.int64)


def iou_of(counts: npt.NDArray[np.generic]) -> Numbers:
    """IoU of each class, [..., 3, C] to [..., C]; NaN for a class that neither occurs nor is predicted."""
    right, labelled, predicted = np.moveaxis(counts.astype(np.float64), -2, 0)
    union = labelled + predicted - right
    return _ratio(right, union)


def accuracy_of(counts: npt.NDArray[np.generic]) -> Numbers:
    """Share of the labelled pixels that are right, [..., 3, C] to [...]; NaN without any."""
    right, labelled = (counts[..., place, :].astype(np.float64).sum(-1) for place in (0, 1))
    return _ratio(right, labelled)


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Numbers:
    """The quotient; NaN where the whole is 0."""
    found: Numbers = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
    return found


def bootstrap(frames: Counts, *, draws: int = DRAWS, seed: int = SEED) -> Bootstrap:
    """Scores of as many frames, drawn with replacement.

    Args:
        frames: The counts of each frame, [N, 3, C].
        draws: How often they are drawn.
        seed: Of the drawing.
    """
    rng = np.random.default_rng(seed)
    count, _, classes = frames.shape
    flat = frames.reshape(count, -1).astype(np.float64)
    shares = np.full(count, 1 / count)
    parts = []
    for start in range(0, draws, CHUNK):
        times = rng.multinomial(count, shares, size=min(CHUNK, draws - start)).astype(np.float64)
        parts.append((times @ flat).reshape(-1, 3, classes))
    sums = np.concatenate(parts)
    return Bootstrap(iou_of(sums), accuracy_of(sums))


def interval(values: Numbers) -> tuple[float, float] | None:
    """Percentiles around the middle `SHARE` of the values that are not NaN; None where all are."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return float(low), float(high)
