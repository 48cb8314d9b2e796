"""Pictures of labels: in colours, laid over the image, with a legend."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fastscnn.data.datasets.classes import ClassTable

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
    blended = cv2.addWeighted(image, 1 - opacity, classes.colorize(labels), opacity, 0)
    return np.asarray(blended, np.uint8)


def occurring(labels: Picture, classes: ClassTable) -> list[int]:
    """Train ids of the classes that labels hold, the one with the most pixels first."""
    counts = np.bincount(labels.reshape(-1), minlength=256)[: classes.num_classes]
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
    picture = overlay(image, labels, classes, opacity)
    height = picture.shape[0]
    if kind == "side_by_side":
        picture = np.concatenate([image, picture], axis=1)
    strip = legend(picture.shape[1], height, occurring(labels, classes) if named is None else named, classes)
    return np.concatenate([picture, strip])
