"""What the decoded store holds: a line for each frame, added as soon as its file is there."""

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from fastscnn.data.store.files import Stored
from fastscnn.utils.files import write_bytes

NAME = "frames.index"


class Index:
    """The frames of a store by the names of their files.

    A line is a checksum and a frame; one that a stop cut short, or that was changed, counts for nothing. Inside a
    `with`, which only one process may enter at a time, frames are added and dropped.

    Args:
        folder: The store.
        about: What the store is of, for the people who find it.
    """

    def __init__(self, folder: Path, about: str) -> None:
        self.path = folder / NAME
        self.about = about
        self.frames: dict[str, Stored] = {}
        self.read()

    def read(self) -> None:
        """Take over what is on disk."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        frames = filter(None, map(_parsed, lines))
        self.frames = {stored.file: stored for stored in frames}

    def __enter__(self) -> "Index":
        self.read()
        self.rewrite()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        del self._file

    def add(self, stored: Stored) -> None:
        """Keep a frame whose file is there."""
        self.frames[stored.file] = stored
        self._file.write(_line(stored))
        self._file.flush()

    def drop(self, files: Iterable[str]) -> None:
        """Delete the files and forget their frames."""
        for name in files:
            self.path.with_name(name).unlink(missing_ok=True)
            self.frames.pop(name, None)
        self._file.close()
        self.rewrite()

    def rewrite(self) -> None:
        """Write the index anew, without what is out of date, and leave it open to add to."""
        lines = [f"# {self.about}\n", *map(_line, self.frames.values())]
        write_bytes(self.path, "".join(lines).encode("utf-8", "surrogateescape"))
        self._file = self.path.open("a", encoding="utf-8")


def _line(stored: Stored) -> str:
    text = json.dumps(stored, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x} {text}\n"


def _parsed(line: str) -> Stored | None:
    found, _, text = line.partition(" ")
    if found != f"{zlib.crc32(text.encode()):08x}":
        return None
    file, image, label, height, width, sources, stamp, checksum = json.loads(text)
    return Stored(file, image, label, height, width, tuple(map(tuple, sources)), tuple(stamp), checksum)
