"""Frames as samples and as batches: read, augmented, and put into one buffer."""

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.datasets.frames import Augment, DataError, Frame, Image, Read, read_frame

Key = int | tuple[int, int]
"""An index, or (epoch, index) as `EpochSampler` gives them."""
Arrays = tuple[Image, Image | None, dict[str, Any]]
"""Image, uint8 [H, W, 3], label, uint8 [H, W], or None, and the other values of a sample."""


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

    def __getitem__(self, key: Key) -> dict[str, Any]:
        image, label, sample = self.arrays(key)
        if label is not None:
            sample["label"] = torch.from_numpy(np.ascontiguousarray(label))
        sample["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return sample

    def batch(self, keys: Sequence[Key]) -> dict[str, Any]:
        """Samples as a batch, see `BatchInParts`.

        Raises:
            DataError: A file is wrong, or the frames differ in size.
        """
        batch = BatchInParts(len(keys))
        for place, key in enumerate(keys):
            batch.put(place, *self.arrays(key))
        return batch.finished()

    def arrays(self, key: Key) -> Arrays:
        """A sample as arrays, which stay as they are until the next call."""
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


class BatchInParts:
    """A batch whose samples come in any order, from one or several threads: all pixels in one buffer.

    A worker process shares the buffer with the training process. Images are in channels_last order.

    Args:
        size: How many samples there will be.
        pinned: Whether the buffer lies in memory that a GPU reads by itself.
    """

    def __init__(self, size: int, *, pinned: bool = False) -> None:
        self._samples: list[dict[str, Any]] = [{}] * size
        self._pixels: list[Tensor] = []
        self._first = ""
        self._pinned = pinned
        self._lock = threading.Lock()

    def put(self, place: int, image: Image, label: Image | None, sample: dict[str, Any]) -> None:
        """Copy a sample into the batch.

        Raises:
            DataError: It differs in size from another, or one of them has no label.
        """
        found = [image] if label is None else [image, label]
        with self._lock:
            if not self._pixels:
                shapes = [(len(self._samples), *array.shape) for array in found]
                self._pixels = [_bytes(shape, self._pinned) for shape in shapes]
                self._first = sample["name"]
        if [buffer.shape[1:] for buffer in self._pixels] != [array.shape for array in found]:
            raise DataError(
                f"{self._first} and {sample['name']} cannot share a batch: their sizes differ, or one has no label.",
                key="data.crop_size",
                fix="Set data.crop_size=[H,W] with augment=paper or none, or label every frame.",
            )
        for buffer, array in zip(self._pixels, found, strict=True):
            buffer[place].numpy()[...] = array
        self._samples[place] = sample

    def finished(self) -> dict[str, Any]:
        """The batch, once all its samples are there."""
        batch: dict[str, Any] = {name: [sample[name] for sample in self._samples] for name in ("name", "source")}
        batch["index"] = torch.tensor([sample["index"] for sample in self._samples])
        batch["image"] = self._pixels[0].permute(0, 3, 1, 2)
        return batch | ({"label": self._pixels[1]} if len(self._pixels) > 1 else {})


def _bytes(shape: tuple[int, ...], pinned: bool) -> Tensor:
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True) if pinned else shared_bytes(shape)


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
