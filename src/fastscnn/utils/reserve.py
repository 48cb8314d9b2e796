"""A file whose last state can be written even on a full disk: room for it is taken in advance."""

import contextlib
import errno
import os
from pathlib import Path

from fastscnn.utils.files import remove, write_bytes

ROOM = 2**16
"""Bytes that are taken at first: several times what a run's record needs."""


class ReservedFile:
    """A small file that is always whole, with a reserve beside it, `.NAME.reserve`.

    A state is written to a new file that takes the place of the one before, as everywhere. Where that fails, as on a
    full disk, `write_last` writes into the reserve, whose blocks the disk has given already, and renames that.

    Attributes:
        path: The file.
        reserve: The file that holds the room, until `release`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reserve = path.with_name(f".{path.name}.reserve")

    def take(self, size: int = ROOM) -> None:
        """Have the disk give room for this many bytes, and for `ROOM` at least.

        Raises:
            OSError: The disk has none; what was taken before stays.
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
        """Write a state, and keep room for one twice as long.

        Raises:
            OSError: It cannot be written; the state before is still there.
        """
        write_bytes(self.path, data, durable=True)
        with contextlib.suppress(OSError):
            self.take(2 * len(data))

    def write_last(self, data: bytes) -> None:
        """Write the last state, also on a full disk, and give the reserve back.

        Raises:
            OSError: It cannot be written into the reserve either, as on a disk that became read-only, or it is longer
                than the reserve and the disk is full.
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
        """Give the room back."""
        with contextlib.suppress(OSError):
            remove(self.reserve)

    def _room(self) -> int:
        try:
            return self.reserve.stat().st_size
        except OSError:
            return 0


def _allocate(descriptor: int, start: int, end: int) -> None:
    """Take blocks for the bytes from `start` to `end` of a file, which follow those that are there."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, start, end - start)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
    os.write(descriptor, bytes(end - start))
