"""Pictures of labels: in colours, laid over the image, with a legend."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.utils.compiling import compiled

Picture = npt.NDArray[np.uint8]
SHADE, INK = (32, 32, 32), (240, 240, 240)
"""Background and letters of the legend, RGB."""


def overlay(image: Picture, labels: Picture, classes: ClassTable, opacity: float = 0.5) -> Picture:
    """Class colours laid over an image.

    Args:
        image: RGB, uint8 [H, W, 3].
        labels: Train ids, uint8 [H, W].
        classes: Gives the colours.
        opacity: Share of the colours, 0 to 1.

    Returns:
        RGB, uint8 [H, W, 3].
    """
    painted = np.empty_like(image)
    _paint(image, labels, _blends(classes, opacity), painted)
    return painted


def occurring(labels: Picture, classes: ClassTable) -> list[int]:
    """Train ids of the classes that labels hold, the one with the most pixels first."""
    counts = _counted(labels.reshape(-1))[: classes.num_classes]
    order: list[int] = np.argsort(-counts, kind="stable").tolist()
    return [train_id for train_id in order if counts[train_id]]


def legend(width: int, height: int, train_ids: Sequence[int], classes: ClassTable) -> Picture:
    """A strip that names classes beside their colours, as wide as a picture, in as many rows as it takes.

    Args:
        width: Of the picture, pixels; of the strip as well.
        height: Of the picture, pixels; the letters are made for it.
        train_ids: The classes, in this order.
        classes: Gives names and colours.

    Returns:
        RGB, uint8 [rows, width, 3].
    """
    scale = max(0.35, min(width, 2 * height) / 1100)
    thickness = max(1, round(scale * 1.5))
    line, pad = round(34 * scale), round(12 * scale)
    font: Any = cv2.FONT_HERSHEY_SIMPLEX
    places: list[tuple[int, int, int]] = []
    x, row = pad, 0
    for train_id in train_ids:
        (text, _), _ = cv2.getTextSize(classes.names[train_id], font, scale, thickness)
        needed = line + text + 2 * pad
        if x > pad and x + needed > width:
            x, row = pad, row + 1
        places.append((train_id, x, row))
        x += needed
    strip = np.full(((row + 1) * line + 2 * pad, width, 3), SHADE, np.uint8)
    for train_id, left, number in places:
        top = pad + number * line
        box = round(line * 0.62)
        middle = top + line // 2
        corner = (left, middle - box // 2)
        cv2.rectangle(strip, corner, (left + box, middle + box // 2), classes.colors[train_id], cv2.FILLED)
        cv2.rectangle(strip, corner, (left + box, middle + box // 2), INK, 1)
        origin = (left + box + pad // 2, middle + round(10 * scale))
        cv2.putText(strip, classes.names[train_id], origin, font, scale, INK, thickness, cv2.LINE_AA)
    return strip


def drawn(
    kind: str,
    image: Picture,
    labels: Picture,
    classes: ClassTable,
    opacity: float = 0.5,
    named: Sequence[int] | None = None,
) -> Picture:
    """One of the pictures that can be chosen.

    Args:
        kind: `color`, `overlay` (with a legend below) or `side_by_side` (the image, the overlay, and a legend below).
        image: RGB, uint8 [H, W, 3].
        labels: Train ids, uint8 [H, W].
        classes: Gives names and colours.
        opacity: Share of the colours in an overlay, 0 to 1.
        named: Classes of the legend; None: those that occur.

    Returns:
        RGB, uint8.
    """
    if kind == "color":
        return classes.colorize(labels)
    height, width = labels.shape
    left = width if kind == "side_by_side" else 0
    strip = legend(left + width, height, occurring(labels, classes) if named is None else named, classes)
    picture = np.empty((height + len(strip), left + width, 3), np.uint8)
    picture[:height, :left] = image[:, :left]
    _paint(image, labels, _blends(classes, opacity), picture[:height, left:])
    picture[height:] = strip
    return picture


@lru_cache(maxsize=4)
def _blends(classes: ClassTable, opacity: float) -> Picture:
    """Each value of each channel under the colour of each label: uint8 [256 labels, 3, 256 values]."""
    values = np.broadcast_to(np.arange(256, dtype=np.uint8), (256, 3, 256)).copy()
    colors = np.broadcast_to(classes.palette[:, :, None], values.shape).copy()
    return np.asarray(cv2.addWeighted(values, 1 - opacity, colors, opacity, 0), np.uint8)


@compiled
def _paint(image: Any, labels: Any, blends: Any, out: Any) -> None:
    """Look up each pixel [H, W, 3] in the blends of its label."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            blend = blends[labels[y, x]]
            for channel in range(3):
                out[y, x, channel] = blend[channel, image[y, x, channel]]


@compiled
def _counted(labels: Any) -> Any:
    """How often each value occurs, int64 [256]: neighbours are mostly equal, and a run is added up at once."""
    counts = np.zeros(256, np.int64)
    start = 0
    for place in range(1, labels.size):
        if labels[place] != labels[place - 1]:
            counts[labels[start]] += place - start
            start = place
    if labels.size:
        counts[labels[start]] += labels.size - start
    return counts
