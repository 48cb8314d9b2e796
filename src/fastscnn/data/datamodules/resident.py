"""Training frames that lie on the device: a batch is cut out of them there, and only what was drawn travels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.datasets.frame_dataset import FrameDataset, frame_seed
from fastscnn.data.datasets.frames import Augment, Frame
from fastscnn.data.store.files import read_rows
from fastscnn.data.store.stored_frames import StoredFrames
from fastscnn.data.transforms.batch_crop import CropDrawer, crop_batch, has_batch_form

FIELDS, PLACES = "crop_fields", "crop_places"
"""Of a batch that is yet to be cut: see `batch_crop`."""
KINDS = ("cuda",)
"""Devices that frames are brought to."""
PART = 2**28
"""Bytes that are read before they are copied."""


def why_not_resident(
    augment: Augment, frames: Sequence[Frame], stored: StoredFrames | None, device: torch.device
) -> str | None:
    """Why training frames cannot lie on a device, as the end of a sentence; None where they can."""
    if device.type not in KINDS:
        return "there is no GPU"
    if not has_batch_form(augment):
        return "this augmentation has no form for it"
    if any(frame.label is None for frame in frames):
        return "a frame has no label"
    if stored is None:
        return "the frames are not in the store (data.store)"
    needed, free = sum(stored.stored[frame].bytes for frame in frames), _free(device)
    if needed > free // 2:
        return f"they take {needed / 1e9:,.2f} GB, and half of its free memory is {free / 2e9:,.2f} GB"
    return None


class ResidentFrames(FrameDataset):
    """Frames whose pixels lie on a device. A batch holds what was drawn of each until `cut` makes it images and labels.

    The samples, their order and their pixels are those of a `FrameDataset` with the same arguments.

    Args:
        frames: As `FrameDataset` takes them.
        classes: Likewise.
        augment: One that `has_batch_form`.
        seed: Likewise.
        read: Where the frames are stored.
        device: Where they are to lie.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        classes: ClassTable,
        augment: Augment,
        seed: int,
        read: StoredFrames,
        device: torch.device,
    ) -> None:
        super().__init__(frames, classes, augment, seed, read)
        self._drawer = CropDrawer(augment)  # type: ignore[arg-type]
        stored = [read.stored[frame] for frame in frames]
        self._shapes = [(one.height, one.width) for one in stored]
        ends = np.cumsum([one.bytes for one in stored])
        self._begins: list[int] = [0, *ends[:-1].tolist()]
        self.pixels = torch.empty(int(ends[-1]), dtype=torch.uint8, device=device)
        self._bring(read, device)

    def batch(self, keys: Sequence[int | tuple[int, int]]) -> dict[str, Any]:
        """What is drawn of the samples, with their indices, names and sources."""
        drawn = [self._draw(key) for key in keys]
        found = [self.frames[index] for index, _ in drawn]
        fields, places = zip(*(crop for _, crop in drawn), strict=True)
        return {
            "name": [frame.name for frame in found],
            "source": [frame.source for frame in found],
            "index": torch.tensor([index for index, _ in drawn]),
            FIELDS: torch.from_numpy(np.stack(fields)),
            PLACES: torch.from_numpy(np.stack(places)),
        }

    def cut(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch as a `FrameDataset` gives it, on the device.

        Args:
            batch: Of `batch`, its tensors on the device already.
        """
        images, labels = crop_batch(self.pixels, batch[FIELDS], batch[PLACES], self._drawer.size)
        rest = {name: value for name, value in batch.items() if name not in (FIELDS, PLACES)}
        return rest | {"image": images, "label": labels}

    def _draw(self, key: int | tuple[int, int]) -> tuple[int, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        seed = frame_seed(self.seed, epoch, index)
        return index, self._drawer.draw(seed, self._begins[index], self._shapes[index])

    def _bring(self, read: StoredFrames, device: torch.device) -> None:
        """Read the files one after the other into the memory of a part, and copy it when it is full."""
        begins = [*self._begins, self.pixels.numel()]
        first = 0
        while first < len(self.frames):
            last = first + 1
            while last < len(self.frames) and begins[last + 1] - begins[first] <= PART:
                last += 1
            part = np.empty(begins[last] - begins[first], np.uint8)
            for number in range(first, last):
                stored = read.stored[self.frames[number]]
                here = part[begins[number] - begins[first] : begins[number + 1] - begins[first]]
                read_rows(read.folder / stored.file, stored, here, 0, stored.height)
            self.pixels[begins[first] : begins[last]].copy_(torch.from_numpy(part))
            first = last


def is_uncut(batch: Any) -> bool:
    """Whether a batch holds what was drawn, and no pixels yet."""
    return isinstance(batch, Mapping) and FIELDS in batch


def _free(device: torch.device) -> int:
    """Bytes of a device's memory that are free, with those that torch keeps and does not use."""
    if device.type != "cuda":
        return 2**40
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused
