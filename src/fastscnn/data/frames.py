"""From a frame on disk to a sample: reading, checking, augmenting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from fastscnn.data.classes import ClassTable
from fastscnn.errors import RequestError

Image = npt.NDArray[np.uint8]
Augment = Callable[[Image, Image, int], tuple[Image, Image]]


class DataError(RequestError):
    """A request about data that cannot be met: one sentence that names the key or the file, and the fix.

    A DataLoader raises a worker's error again as `type(error)(text with the worker's traceback)`; only the
    sentence is kept of it, so that `str(error)` is the same whatever the number of workers.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught DataError in "):
            message = message.rsplit("DataError: ", 1)[-1].strip()
        super().__init__(message)


@dataclass(frozen=True)
class Frame:
    """One image and its label on disk.

    Attributes:
        name: The frame in messages and predictions, such as `frankfurt_000000_000294`.
        image: The image file.
        label: The label file; None where the split has no labels.
        source: What the frame was taken from, such as `fine`, `coarse` or `camvid`.
    """

    name: str
    image: Path
    label: Path | None
    source: str


def read_image(path: Path) -> Image:
    """Read an image as RGB; uint8 [H, W, 3].

    Raises:
        DataError: The file is missing or is no whole image.
    """
    pixels = _decoded(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)  # as the label lies on disk
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def read_label(path: Path, classes: ClassTable) -> Image:
    """Read a label file as train ids; uint8 [H, W], 255 where ignored.

    Raises:
        DataError: The file is missing, is no whole image, is not single-channel 8-bit, or holds a value that
            is not in the table.
    """
    values = _decoded(path, cv2.IMREAD_UNCHANGED)
    if values.ndim != 2 or values.dtype != np.uint8:
        channels = 1 if values.ndim == 2 else values.shape[2]
        raise DataError(
            f"{path} holds {channels} channel(s) of {values.dtype}: a label is a single-channel 8-bit PNG of"
            " ids. Use the id file, not the colour picture."
        )
    try:
        return classes.encode(values.astype(np.uint8, copy=False))
    except ValueError as error:
        raise DataError(f"{path}: {error}. Replace the file, or choose the data option it belongs to.") from None


def _decoded(path: Path, flags: int) -> npt.NDArray[Any]:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Put the file back.") from None
    pixels = cv2.imdecode(data, flags) if data.size else None
    if pixels is None:
        raise DataError(f"{path} is no whole image ({data.size:,} bytes). Copy or download it again.")
    return pixels


class FrameDataset(Dataset[dict[str, Any]]):
    """Frames as samples; a key is an index, or (epoch, index) as `EpochSampler` gives them.

    A sample holds `image` (uint8 [3, H, W], RGB), `label` (uint8 [H, W], train ids, 255 ignored; left out
    where the frame has none), `index` (int), `name` and `source`. The augmentation is drawn from (seed, epoch, index)
    alone, so any number of workers and a resumed run see the same pixels.
    """

    def __init__(
        self, frames: Sequence[Frame], classes: ClassTable, augment: Augment | None = None, seed: int = 0
    ) -> None:
        self.frames = frames
        self.classes = classes
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        frame = self.frames[index]
        image = read_image(frame.image)
        sample: dict[str, Any] = {"index": index, "name": frame.name, "source": frame.source}
        if frame.label is not None:
            label = read_label(frame.label, self.classes)
            if image.shape[:2] != label.shape:
                raise DataError(
                    f"{frame.image} is {_size(image)} and its label {frame.label} is {_size(label)}: an image"
                    " and its label must be of one size. Replace the wrong one."
                )
            if self.augment is not None:
                image, label = self.augment(image, label, frame_seed(self.seed, epoch, index))
            sample["label"] = torch.from_numpy(np.ascontiguousarray(label))
        sample["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return sample


def frame_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of one frame's augmentation in one epoch; 64 bits."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)[0])


def _size(pixels: Image) -> str:
    height, width = pixels.shape[:2]
    return f"{height}x{width}"
