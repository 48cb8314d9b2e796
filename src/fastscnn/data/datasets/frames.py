"""From a frame on disk to a sample: reading, checking, augmenting."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

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


class FrameDataset(Dataset[dict[str, Any]]):
    """Frames as samples; a key is an index, or (epoch, index) as `EpochSampler` gives them.

    A sample holds `image` (uint8 [3, H, W], RGB), `label` (uint8 [H, W], train ids, 255 ignored; left out
    where the frame has none), `index` (int), `name` and `source`. The augmentation is drawn from (seed, epoch, index)
    alone, so any number of workers and a resumed run see the same pixels. `read` reads a frame, by default its files;
    `focus` gives, by a frame's index, the pixels around which an augmentation that `focuses` may crop.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        classes: ClassTable,
        augment: Augment | None = None,
        seed: int = 0,
        read: Read | None = None,
        focus: Callable[[int], Any] | None = None,
    ) -> None:
        self.frames = frames
        self.classes = classes
        self.augment = augment
        self.seed = seed
        self.focus = focus
        self.read = read or partial(read_frame, classes=classes)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        image, label, sample = self._frame(key)
        if label is not None:
            sample["label"] = torch.from_numpy(np.ascontiguousarray(label))
        sample["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return sample

    def batch(self, keys: Sequence[int | tuple[int, int]]) -> dict[str, Any]:
        """Samples as a batch: all pixels in one buffer, which a worker process shares with the training process.

        Images are in channels_last order.

        Raises:
            DataError: A file is wrong, or the frames differ in size.
        """
        pixels: list[Tensor] = []
        samples: list[dict[str, Any]] = []
        for place, key in enumerate(keys):
            image, label, sample = self._frame(key)
            found = [image] if label is None else [image, label]
            pixels = pixels or [shared_bytes((len(keys), *array.shape)) for array in found]
            if [buffer.shape[1:] for buffer in pixels] != [array.shape for array in found]:
                first = self.frames[keys[0][1] if isinstance(keys[0], tuple) else keys[0]].name
                raise DataError(
                    f"{first} and {sample['name']} cannot share a batch: their sizes differ, or one has no label.",
                    key="data.crop_size",
                    fix="Set data.crop_size=[H,W] with augment=paper or none, or label every frame.",
                )
            for buffer, array in zip(pixels, found, strict=True):
                buffer[place].numpy()[...] = array
            samples.append(sample)
        batch: dict[str, Any] = {name: [sample[name] for sample in samples] for name in ("name", "source")}
        batch["index"] = torch.tensor([sample["index"] for sample in samples])
        batch["image"] = pixels[0].permute(0, 3, 1, 2)
        return batch | ({"label": pixels[1]} if len(pixels) > 1 else {})

    def _frame(self, key: int | tuple[int, int]) -> tuple[Image, Image | None, dict[str, Any]]:
        """Image, label and the other values of a sample."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        frame = self.frames[index]
        seed = frame_seed(self.seed, epoch, index)
        by_rows = getattr(self.read, "by_rows", None)
        focus = {"focus": self.focus(index)} if self.focus else {}
        if frame.label and by_rows and self.augment and getattr(self.augment, "reads_rows", False):
            image, label, load = by_rows(frame)
            image, label = self.augment(image, label, seed, load, **focus)
        else:
            image, label = self.read(frame)
            if label is not None and self.augment is not None:
                image, label = self.augment(image, label, seed, **focus)
        return image, label, {"index": index, "name": frame.name, "source": frame.source}


def shared_bytes(shape: tuple[int, ...]) -> Tensor:
    """An uninitialised tensor of uint8; a worker process passes it to the main one without a copy."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    new_shared: Any = getattr(torch.UntypedStorage, "_new_shared", None)
    pixels: Any = torch.empty(0 if new_shared else shape, dtype=torch.uint8)
    made: Tensor = pixels.set_(new_shared(math.prod(shape)), 0, shape) if new_shared else pixels.share_memory_()
    return made


def frame_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of one frame's augmentation in one epoch; 64 bits."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)[0])


def _size(pixels: Image) -> str:
    height, width = pixels.shape[:2]
    return f"{height}x{width}"
