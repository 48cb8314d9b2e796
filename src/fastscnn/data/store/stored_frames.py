"""Reads the frames of the decoded store, whole or by rows."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from fastscnn.data.datasets.frames import Frame, Image
from fastscnn.data.store.files import Stored, arrays_of, read_rows, read_train_ids
from fastscnn.data.transforms.crop import LoadRows


class StoredFrames:
    """Reads frames, or some of their rows, from the store; can be sent to worker processes.

    Raises:
        DataError: When a frame is read, its file is not what was stored.
    """

    def __init__(self, folder: Path, stored: Mapping[Frame, Stored]) -> None:
        self.folder = folder
        self.stored = stored
        self._memory = np.empty(0, np.uint8)

    def __copy__(self) -> "StoredFrames":
        """One with memory of its own, for another thread."""
        return StoredFrames(self.folder, self.stored)

    def __call__(self, frame: Frame) -> tuple[Image, Image | None]:
        """Image, uint8 [H, W, 3], RGB, and train ids, uint8 [H, W], or None without a label."""
        stored = self.stored[frame]
        pixels = np.empty(stored.bytes, np.uint8)
        read_rows(self.folder / stored.file, stored, pixels, 0, stored.height)
        return arrays_of(stored, pixels)

    def label(self, frame: Frame) -> Image:
        """Train ids of a frame that has a label, without its image; uint8 [H, W]."""
        stored = self.stored[frame]
        return read_train_ids(self.folder / stored.file, stored)

    def key(self, frame: Frame) -> str:
        """A name of the frame and its content."""
        stored = self.stored[frame]
        return f"{stored.file} {stored.checksum:08x}"

    def by_rows(self, frame: Frame) -> tuple[Image, Image | None, LoadRows]:
        """Image and train ids as `__call__` gives them, but not yet read, and a function that reads rows into them.

        The next frame uses the same memory, which saves the page faults of a new one.
        """
        stored = self.stored[frame]
        if self._memory.size < stored.bytes:
            self._memory = np.empty(stored.bytes, np.uint8)
        image, label = arrays_of(stored, self._memory)
        return image, label, partial(read_rows, self.folder / stored.file, stored, self._memory)
