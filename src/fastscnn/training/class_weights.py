"""Weights of the classes in the loss, from how often the training set shows them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastscnn.data.datamodules.build import TrainingData
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.utils.errors import RequestError

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


def enet(counts: Counts) -> Shares:
    """1 / ln(1.02 + share of the labelled pixels) (Paszke et al. 2016, ENet)."""
    weights: Shares = 1 / np.log(1.02 + _shares(counts))
    return weights


def median(counts: Counts) -> Shares:
    """Median frequency over frequency (Eigen and Fergus 2015, SegNet).

    A class's frequency is its share of the labelled pixels of the frames that show it.
    """
    frame = counts.sum(axis=1, keepdims=True)
    shown = (frame * (counts > 0)).sum(axis=0)
    frequencies = counts.sum(axis=0) / np.maximum(shown, 1)
    there = frequencies > 0
    middle = np.median(frequencies[there]) if there.any() else 0.0
    weights: Shares = np.where(there, middle / np.where(there, frequencies, 1), 0)
    return weights


def sqrt(counts: Counts) -> Shares:
    """1 / root of the share of the labelled pixels, 1 on average."""
    shares = _shares(counts)
    there = shares > 0
    weights: Shares = np.where(there, 1 / np.sqrt(np.where(there, shares, 1)), 0)
    return weights / (weights[there].mean() if there.any() else 1)


METHODS: dict[str, Callable[[Counts], Shares]] = {"enet": enet, "median": median, "sqrt": sqrt}
"""What `loss.class_weights` may say: from pixels of each class in each frame, [frames, classes], to the weights."""


class ClassWeights(NamedTuple):
    """Weights that were computed from the training set.

    Attributes:
        method: A name of `METHODS`.
        pixels: Class to its pixels in the training set.
        weights: Class to its weight; 0 where it never occurs.
    """

    method: str
    pixels: Mapping[str, int]
    weights: Mapping[str, float]

    def record(self) -> dict[str, Any]:
        """What the run's record says of them."""
        return {"method": self.method, "pixels": dict(self.pixels), "weights": dict(self.weights)}

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {weight:.2f}" for name, weight in self.weights.items())
        return f"class weights ({self.method}, {sum(self.pixels.values()):,} labelled pixels): {shown}"


def check_class_weights(setting: object) -> None:
    """Check `loss.class_weights` before the data is read.

    Raises:
        RequestError: It is a word that names no method; lists are checked by the loss.
    """
    if isinstance(setting, str) and setting not in METHODS:
        raise RequestError(
            f"loss.class_weights={setting} is not null, a list of numbers or one of {', '.join(METHODS)}.",
            key="loss.class_weights",
            fix="Set loss.class_weights=enet, or give one number for each class.",
        )


def weigh_classes(loss: dict[str, Any], data: TrainingData) -> ClassWeights | None:
    """Put numbers in the place of a word in `loss.class_weights`: a checkpoint says what it was trained with.

    Args:
        loss: The `loss` config, which is changed; None comes back where it holds no such word.
        data: What is trained on.
    """
    setting = loss.get("class_weights")
    if not isinstance(setting, str) or not isinstance(data, SegmentationData):
        return None
    weighed = class_weights(setting, data)
    loss["class_weights"] = list(weighed.weights.values())
    return weighed


def class_weights(setting: str, data: SegmentationData) -> ClassWeights:
    """Compute the weights of a method over the frames that are trained on.

    Raises:
        DataError: A label file is missing or broken.
    """
    counts = data.class_pixels.counts
    names, pixels = data.classes.names, counts.sum(axis=0)
    weights = np.where(pixels > 0, METHODS[setting](counts), 0)
    return ClassWeights(setting, dict(zip(names, pixels.tolist(), strict=True)), _named(names, weights))


def _named(names: Sequence[str], weights: Shares) -> dict[str, float]:
    return {name: round(float(weight), 6) for name, weight in zip(names, weights, strict=True)}


def _shares(counts: Counts) -> Shares:
    pixels = counts.sum(axis=0)
    shares: Shares = pixels / max(int(pixels.sum()), 1)
    return shares
