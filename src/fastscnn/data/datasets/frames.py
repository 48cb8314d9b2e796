"""Frames on disk: reading and checking their files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.datasets.colors import ColorMap
from fastscnn.utils import images
from fastscnn.utils.errors import RequestError
from fastscnn.utils.images import MAX_PIXELS, ImageFileError, check_image_file
from fastscnn.utils.values import check_choice, check_whole

Image = npt.NDArray[np.uint8]
Augment = Callable[..., tuple[Image, Image]]
"""From an image, its label and a seed to a training frame; see `augment.Augmentation`."""
EXIF = ("refuse", "apply", "ignore")
Read = Callable[["Frame"], tuple[Image, Image | None]]
"""Gives a frame's image, uint8 [H, W, 3], RGB, and its train ids, uint8 [H, W], or None without a label."""


class DataError(RequestError):
    """A data set, a file or a setting of it is wrong: names the key or the file, and the fix."""


@dataclass(frozen=True)
class Frame:
    """One image and its label on disk.

    Attributes:
        name: Unique name of the frame in messages and predictions, such as `frankfurt_000000_000294`. Frames of the
            same file name are distinguished by their folders, such as `frankfurt/000294`.
        image: The image file.
        label: The label file; None where the split has no labels.
        source: The set that the frame comes from, such as `fine`, `coarse` or `camvid`.
    """

    name: str
    image: Path
    label: Path | None
    source: str


@dataclass(frozen=True)
class Reading:
    """How the files of a frame are read.

    Attributes:
        exif: What to do with an image that has an EXIF orientation, which its label does not have: `refuse` it,
            `apply` the orientation (the label was drawn on the upright picture), or `ignore` it (the label was drawn
            on the picture as it is stored).
        max_pixels: The largest picture that is decoded.
        colors: Where label files hold colours: the value of each; None where they hold the values.
    """

    exif: str = "refuse"
    max_pixels: int = MAX_PIXELS
    colors: ColorMap | None = None

    def __post_init__(self) -> None:
        check_choice("data.exif", self.exif, EXIF)
        check_whole("data.max_pixels", self.max_pixels, 1)

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width that an image has when it is read, from its header.

        Raises:
            DataError: The file is missing, not an image, too large, or refused because of its orientation.
        """
        with data_errors():
            header = check_image_file(path, self.max_pixels, setting="data.max_pixels")
        if header.orientation != 1 and self.exif == "refuse":
            raise DataError(
                f"{path} has EXIF orientation {header.orientation}: viewers turn it, and its label may fit the picture "
                "either as it is stored or as a viewer shows it.",
                key="data.exif",
                fix="Set data.exif=apply to turn it, or data.exif=ignore to use it as it is stored.",
            )
        turned = self.exif == "apply" and header.orientation >= 5
        return (header.width, header.height) if turned else (header.height, header.width)

    def image(self, path: Path) -> Image:
        """Read an image as RGB; uint8 [H, W, 3].

        Raises:
            DataError: As `size`; or the image is incomplete.
        """
        if self.exif == "refuse":
            self.size(path)
        with data_errors():
            turn = self.exif == "apply"
            return images.read_rgb(path, upright=turn, max_pixels=self.max_pixels, setting="data.max_pixels")

    def label(self, path: Path) -> Image:
        """Read the values of a label file; uint8 [H, W].

        Raises:
            DataError: It is missing, or is not a complete image of one index, or one colour, for each pixel.
            ValueError: A pixel has a colour that stands for no value.
        """
        limit: dict[str, Any] = {"max_pixels": self.max_pixels, "setting": "data.max_pixels"}
        with data_errors():
            if self.colors is None:
                return images.read_label(path, **limit)
            colored = images.read_rgb(path, upright=False, **limit)
        return self.colors.values(colored)


STRICT = Reading()
"""How files are read by default."""


def read_image(path: Path) -> Image:
    """Read an image as RGB, as it is stored, whatever its EXIF data says; uint8 [H, W, 3].

    Raises:
        DataError: The file is missing or is not a complete image.
    """
    return Reading("ignore").image(path)


def read_label(path: Path, classes: ClassTable, reading: Reading = STRICT) -> Image:
    """Read a label file as train ids; uint8 [H, W], 255 where ignored.

    Raises:
        DataError: The file is missing, is not a complete image of one index (or colour) for each pixel, or holds a
            value that is not in the table.
    """
    try:
        return classes.encode(reading.label(path))
    except ValueError as error:
        raise DataError(
            f"{path}: {error}.", key="data", fix="Replace the file, or choose the data option that it belongs to."
        ) from None


def read_label_of(frame: Frame, classes: ClassTable, reading: Reading = STRICT) -> Image:
    """Read the label file of a frame that has one, see `read_label`."""
    assert frame.label is not None
    return read_label(frame.label, classes, reading)


def read_frame(frame: Frame, classes: ClassTable, reading: Reading = STRICT) -> tuple[Image, Image | None]:
    """Read a frame's files: RGB, uint8 [H, W, 3], and train ids, uint8 [H, W], or None where it has no label.

    Raises:
        DataError: A file is missing or wrong, or the two differ in size.
    """
    image = reading.image(frame.image)
    if frame.label is None:
        return image, None
    label = read_label(frame.label, classes, reading)
    if image.shape[:2] != label.shape:
        raise DataError(
            f"{frame.image} is {_size(image)} and its label {frame.label} is {_size(label)}: an image and its "
            "label must have the same size.",
            key="data.root",
            fix="Replace the wrong one.",
        )
    return image, label


@contextmanager
def data_errors() -> Iterator[None]:
    """Raise `DataError` for an image file that cannot be read."""
    try:
        yield
    except ImageFileError as error:
        raise DataError(f"{error.path} {error.found}", key=error.setting or "data.root", fix=error.fix) from None


def _size(pixels: Image) -> str:
    height, width = pixels.shape[:2]
    return f"{height}x{width}"
