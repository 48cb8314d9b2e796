"""One file of the decoded store: a frame's pixels as they lie in memory, written once and then read by rows."""

import io
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.datasets.frames import STRICT, DataError, Frame, Image, Reading, read_frame
from fastscnn.utils.files import replaced

Stamp = tuple[int, ...]
"""Size in bytes and times in nanoseconds: they change when a file changes."""


class Names(NamedTuple):
    """The names of a frame in the store.

    Attributes:
        file: Name of its file.
        image: The image file that it is decoded from, below the data set's root.
        label: The label file; None where there is none.
    """

    file: str
    image: str
    label: str | None


class Stored(NamedTuple):
    """A frame in the store.

    Attributes:
        file: Name of its file: the image, uint8 [H, W, 3], RGB, and after it the train ids, uint8 [H, W], if any.
        image: The image file that it was decoded from, below the data set's root.
        label: The label file; None where there is none.
        height: Rows of the image.
        width: Columns of the image.
        sources: Stamps of the image and the label file before they were read.
        stamp: Stamp of the store's file.
        checksum: CRC-32 of its bytes.
    """

    file: str
    image: str
    label: str | None
    height: int
    width: int
    sources: tuple[Stamp, ...]
    stamp: Stamp
    checksum: int

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.height * self.width * (3 if self.label is None else 4)


def source_stamp(path: Path) -> Stamp:
    """Stamp of an image or a label file: size and time of its last change.

    Raises:
        DataError: The file is missing.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.", key="data.root", fix="Put the file back."
        ) from None
    return status.st_size, status.st_mtime_ns


def stored_stamp(status: os.stat_result) -> Stamp:
    """Stamp of a file of the store, including the time of the inode's change, which no program can set back."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def write_frame(folder: Path, frame: Frame, names: Names, classes: ClassTable, reading: Reading = STRICT) -> Stored:
    """Decode a frame and write its pixels to a file, which appears complete or not at all.

    Nothing is flushed to the disk, for speed: a file system makes a new file only as long as what it has written of it,
    so that the size shows whether a power cut left it incomplete.

    Raises:
        DataError: A file of the frame is missing, broken, or holds a value that is not in the table.
        OSError: The store cannot be written.
    """
    sources = tuple(source_stamp(file) for file in (frame.image, frame.label) if file is not None)
    pixels = [np.ascontiguousarray(part) for part in read_frame(frame, classes, reading) if part is not None]
    path = folder / names.file
    checksum = 0
    with replaced(path) as partial, partial.open("wb", buffering=0) as file:
        for part in pixels:
            left = part.reshape(-1).data
            checksum = zlib.crc32(left, checksum)
            while len(left):
                left = left[file.write(left) :]
    height, width = pixels[0].shape[:2]
    return Stored(*names, height, width, sources, stored_stamp(path.stat()), checksum)


def intact_stamp(path: Path, stored: Stored) -> Stamp | None:
    """Stamp of a file that holds what was stored, even if its times differ; None for any other file."""
    try:
        with path.open("rb", buffering=0) as file:
            stamp = stored_stamp(os.fstat(file.fileno()))
            return stamp if stamp[0] == stored.bytes and _checksum(file) == stored.checksum else None
    except OSError:
        return None


def arrays_of(stored: Stored, pixels: Image) -> tuple[Image, Image | None]:
    """Image, uint8 [H, W, 3], RGB, and train ids, uint8 [H, W], or None, as views of a frame's bytes."""
    height, width = stored.height, stored.width
    image = pixels[: 3 * height * width].reshape(height, width, 3)
    return image, None if stored.label is None else pixels[3 * height * width : stored.bytes].reshape(height, width)


def read_rows(path: Path, stored: Stored, pixels: Image, start: int, stop: int) -> None:
    """Read rows of a frame, and of its train ids, to their places in memory; no other row is read from the disk.

    They are read, not mapped: if a mapped file becomes shorter, the process that accesses it ends (SIGBUS).

    Args:
        path: The file.
        stored: Its expected content.
        pixels: Memory of the whole frame, uint8, of at least `stored.bytes`.
        start: First row.
        stop: Row after the last.

    Raises:
        DataError: The file is missing, or does not hold what was stored.
    """
    try:
        with path.open("rb", buffering=0) as file:
            stamp = stored_stamp(os.fstat(file.fileno()))
            _check_size(path, stored, stamp[0])
            if stamp != stored.stamp and _checksum(file) != stored.checksum:
                raise DataError(f"{path} does not hold the pixels that were decoded.", **_STORE)
            for array in arrays_of(stored, pixels):
                if array is not None:
                    begin, rows = (array.ctypes.data - pixels.ctypes.data), array[start:stop].reshape(-1).data
                    _read_at(path, stored, file, begin + start * array[0].size, rows)
    except OSError as error:
        raise DataError(f"{path} of the decoded store cannot be read: {error.strerror}.", **_STORE) from None


def read_train_ids(path: Path, stored: Stored) -> Image:
    """Read the train ids of a frame that has a label, without its image; uint8 [H, W].

    Raises:
        DataError: The file is gone, or is not as long as what was stored.
    """
    labels = np.empty((stored.height, stored.width), np.uint8)
    try:
        with path.open("rb", buffering=0) as file:
            _check_size(path, stored, os.fstat(file.fileno()).st_size)
            _read_at(path, stored, file, 3 * labels.size, labels.reshape(-1).data)
    except OSError as error:
        raise DataError(f"{path} of the decoded store cannot be read: {error.strerror}.", **_STORE) from None
    return labels


def _read_at(path: Path, stored: Stored, file: io.FileIO, place: int, target: memoryview) -> None:
    file.seek(place)
    while len(target):
        count = file.readinto(target)
        if not count:
            _check_size(path, stored, os.fstat(file.fileno()).st_size)
            raise DataError(f"{path} became shorter while it was read.", **_STORE)
        target = target[count:]


def _check_size(path: Path, stored: Stored, size: int) -> None:
    if size != stored.bytes:
        raise DataError(f"{path} holds {size:,} bytes instead of {stored.bytes:,}.", **_STORE)


def _checksum(file: io.FileIO) -> int:
    """CRC-32 of all bytes of a file."""
    file.seek(0)
    checksum, part = 0, bytearray(2**20)
    while count := file.readinto(part):
        checksum = zlib.crc32(memoryview(part)[:count], checksum)
    return checksum


_STORE = {"key": "data.store", "fix": "Start again, which checks the store first, or set data.store=off."}
