"""Label tables: what the values of a label file mean, and which classes the network predicts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

IGNORE_INDEX = 255


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set, in the order of their train ids.

    The model, the metrics and the pictures take the class count, the names, the colours and the ignored label from
    here.

    Attributes:
        name: Name of the data set in messages.
        names: Class names; the position is the train id.
        colors: RGB, 0 to 255, of each class.
        file_values: The value that a label file holds for each class.
        ignored_values: Values of a label file that are valid, but ignored in training and evaluation.
        categories: Category of each class, in the same order; empty where the data set has none.
    """

    name: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    file_values: tuple[int, ...]
    ignored_values: tuple[int, ...]
    categories: tuple[str, ...] = ()
    ignore_index: int = field(default=IGNORE_INDEX)

    @property
    def num_classes(self) -> int:
        """Number of the classes that are trained and evaluated."""
        return len(self.names)

    @cached_property
    def train_ids(self) -> npt.NDArray[np.int16]:
        """Train id of each of the 256 file values: `ignore_index` where ignored, -1 where unknown; int16 [256]."""
        table = np.full(256, -1, np.int16)
        table[list(self.ignored_values)] = self.ignore_index
        table[list(self.file_values)] = np.arange(self.num_classes)
        return table

    @property
    def unknown_value(self) -> int:
        """The value of a label file for pixels without a class: the first that is ignored, else one of no class."""
        free = (value for value in (255, *range(255)) if value not in self.file_values)
        return self.ignored_values[0] if self.ignored_values else next(free)

    @cached_property
    def palette(self) -> npt.NDArray[np.uint8]:
        """RGB of each train id, black for all others; uint8 [256, 3]."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: self.num_classes] = self.colors
        return palette

    @cached_property
    def category_names(self) -> tuple[str, ...]:
        """Each category once, in the order of its first class."""
        return tuple(dict.fromkeys(self.categories))

    def encode(self, file_labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Map a label file's values to train ids; uint8 [H, W] to uint8 [H, W].

        Raises:
            ValueError: A value is not in the table; names the values.
        """
        ids = self.train_ids[file_labels]
        if ids.min(initial=0) < 0:
            unknown = np.unique(file_labels[ids < 0]).tolist()
            raise ValueError(f"label value {_listed(unknown)} is not in the {self.name} table")
        return ids.astype(np.uint8)

    def decode(self, train_ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Map train ids to the values of a label file; uint8 [H, W] to uint8 [H, W], `unknown_value` where ignored."""
        table = np.full(256, self.unknown_value, np.uint8)
        table[: self.num_classes] = self.file_values
        return table[train_ids]

    def colorize(self, train_ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Paint train ids; uint8 [H, W] to RGB uint8 [H, W, 3], black where ignored."""
        return self.palette.take(train_ids, axis=0)


def _listed(values: Sequence[int]) -> str:
    first = ", ".join(str(value) for value in values[:5])
    return first if len(values) <= 5 else f"{first} and {len(values) - 5} more"


def _cityscapes() -> ClassTable:
    """The 19 evaluated classes, from the official table (cityscapesscripts.helpers.labels).

    Label id -1 (license plate) is stored as 255 in a uint8 label file.
    """
    from cityscapesscripts.helpers.labels import labels

    evaluated = sorted((label for label in labels if not label.ignoreInEval), key=lambda label: label.trainId)
    return ClassTable(
        name="Cityscapes",
        names=tuple(label.name for label in evaluated),
        colors=tuple(label.color for label in evaluated),
        file_values=tuple(label.id for label in evaluated),
        ignored_values=tuple(label.id % 256 for label in labels if label.ignoreInEval),
        categories=tuple(label.category for label in evaluated),
    )


CITYSCAPES = _cityscapes()

CAMVID = ClassTable(
    name="CamVid",
    names=(
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign symbol",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    colors=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    file_values=tuple(range(11)),
    ignored_values=(11,),
)
