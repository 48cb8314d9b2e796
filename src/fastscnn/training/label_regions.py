"""Where labels are hard to predict: the band around their changes, and objects by size."""

import cv2
import numpy as np
import numpy.typing as npt

BAND = 5
"""Pixels, in any direction, within which another label makes a pixel one near a boundary."""
SIDES = (8, 16, 32, 64, 128)
"""Sides of the squares, pixels, whose areas divide the sizes of objects."""
FOUND = 0.5
"""Share of an object's pixels that must be right for it to count as found."""
Labels = npt.NDArray[np.uint8]


def near_boundary(labels: Labels, band: int = BAND) -> npt.NDArray[np.bool_]:
    """Pixels with another label within a square of `2 * band + 1` pixels around them; ignored ones are a label too.

    Args:
        labels: Train ids, [H, W].
        band: Pixels.
    """
    window = np.ones((2 * band + 1, 2 * band + 1), np.uint8)
    near: npt.NDArray[np.bool_] = cv2.erode(labels, window) != cv2.dilate(labels, window)
    return near


class ObjectSizes:
    """Objects of the truth by class and size: connected regions of one label, over eight neighbours.

    Attributes:
        objects: Number of objects, int64 [C, S] for S sizes.
        found: Those of which at least `FOUND` of the pixels are right.
        pixels: Their pixels.
        right: Pixels that are right.

    Args:
        num_classes: Number of classes.
        ignore_index: Label of the pixels that are ignored.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index
        shape = (num_classes, len(SIDES) + 1)
        self.objects, self.found, self.pixels, self.right = (np.zeros(shape, np.int64) for _ in range(4))

    def add(self, labels: Labels, predictions: Labels) -> None:
        """Add a frame; train ids, [H, W]."""
        for label in np.unique(labels[labels != self.ignore_index]).tolist():
            inside = (labels == label).astype(np.uint8)
            x, y, width, height = cv2.boundingRect(inside)
            part = np.s_[y : y + height, x : x + width]
            count, regions = cv2.connectedComponents(inside[part], connectivity=8)
            areas = np.bincount(regions.ravel(), minlength=count)[1:]
            right = np.bincount(regions[predictions[part] == label], minlength=count)[1:]
            sizes = np.searchsorted([side**2 for side in SIDES], areas, side="right")
            for table, values in (
                (self.objects, np.ones_like(areas)),
                (self.found, right >= FOUND * areas),
                (self.pixels, areas),
                (self.right, right),
            ):
                np.add.at(table[label], sizes, values)
