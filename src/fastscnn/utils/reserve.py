"""A file whose last state can be written even on a full disk: room for it is taken in advance."""

import contextlib
import errno
import os
from pathlib import Path

from fastscnn.utils.files import remove, write_bytes

ROOM = 2**16
"""Bytes that are reserved at first: several times the size of a run's record."""


class ReservedFile:
    """A small file that is never incomplete, with a reserve beside it, `.NAME.reserve`.

    Each state is written to a new file, which replaces the one before. If that fails, as on a full disk, `write_last`
    writes into the reserve, whose blocks are allocated already, and renames it.

    Attributes:
        path: The file.
        reserve: The file that holds the space until `release`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reserve = path.with_name(f".{path.name}.reserve")

    def take(self, size: int = ROOM) -> None:
        """Reserve space for this many bytes, and at least `ROOM`.

        Raises:
            OSError: The disk is full; what was reserved before remains.
        """
        there = self._room()
        if there >= max(size, ROOM):
            return
        try:
            with self.reserve.open("ab") as file:
                _allocate(file.fileno(), there, max(2 * size, ROOM))
                os.fsync(file.fileno())
        except OSError:
            if not there:
                self.release()
            raise

    def write(self, data: bytes) -> None:
        """Write a state, and reserve space for one of twice the size.

        Raises:
            OSError: It cannot be written; the previous state is unchanged.
        """
        write_bytes(self.path, data, durable=True)
        with contextlib.suppress(OSError):
            self.take(2 * len(data))

    def write_last(self, data: bytes) -> None:
        """Write the last state, even on a full disk, and free the reserve.

        Raises:
            OSError: The reserve cannot be written either, as on a disk that became read-only, or it is too small.
        """
        try:
            write_bytes(self.path, data, durable=True)
        except OSError:
            if self._room() < len(data):
                raise
            with self.reserve.open("r+b") as file:
                file.write(data)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
            self.reserve.replace(self.path)
        self.release()

    def release(self) -> None:
        """Free the reserve."""
        with contextlib.suppress(OSError):
            remove(self.reserve)

    def _room(self) -> int:
        try:
            return self.reserve.stat().st_size
        except OSError:
            return 0


def _allocate(descriptor: int, start: int, end: int) -> None:
    """Allocate the blocks of the bytes from `start`, the end of the file, to `end`."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, start, end - start)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
    os.write(descriptor, bytes(end - start))
