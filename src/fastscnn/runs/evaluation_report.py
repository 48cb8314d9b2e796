"""What the page of an evaluation shows, between what measures it and what writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PAGE = "report.html"
"""The page, beside `eval.json`."""
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ReportedFrame:
    """A frame with its pictures, RGB, uint8 [H, W, 3].

    Attributes:
        name: Of the frame.
        accuracy: Share of its labelled pixels that are right.
        confused: Label, prediction and their share of the wrong pixels: the most frequent confusions.
        picture: The frame itself.
        truth: Its labels in the colours of the classes.
        prediction: What was predicted, in the same colours.
        error: The wrong pixels in red on the frame in grey; ignored pixels are black.
    """

    name: str
    accuracy: float
    confused: Sequence[tuple[str, str, float]]
    picture: Picture
    truth: Picture
    prediction: Picture
    error: Picture


@dataclass(frozen=True)
class EvaluationReport:
    """The content of the page.

    Attributes:
        title: What was evaluated.
        content: That of `eval.json`; `report` has what is measured for the page alone.
        colors: Class name to RGB; the order is that of the confusion matrix.
        matrix: Pixels by label (rows) and prediction, over all frames.
        worst: The frames with the smallest share of right pixels, the worst first.
    """

    title: str
    content: Mapping[str, Any]
    colors: Mapping[str, tuple[int, int, int]]
    matrix: Sequence[Sequence[int]]
    worst: Sequence[ReportedFrame]
