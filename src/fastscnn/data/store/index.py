"""The index of the decoded store: a line for each frame, added as soon as its file is written."""

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

    A line is a checksum and a frame; a line that is incomplete or was changed is ignored. Frames are added and dropped
    inside a `with` block, which only one process may enter at a time.

    Args:
        folder: The store.
        about: The first line, which says which data set the store belongs to.
    """

    def __init__(self, folder: Path, about: str) -> None:
        self.path = folder / NAME
        self.about = about
        self.frames: dict[str, Stored] = {}
        self.read()

    def read(self) -> None:
        """Read the index from the disk."""
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
        """Add a frame whose file is written."""
        self.frames[stored.file] = stored
        self._file.write(_line(stored))
        self._file.flush()

    def drop(self, files: Iterable[str]) -> None:
        """Delete files and their frames."""
        for name in files:
            self.path.with_name(name).unlink(missing_ok=True)
            self.frames.pop(name, None)
        self._file.close()
        self.rewrite()

    def rewrite(self) -> None:
        """Rewrite the index without outdated lines, and leave it open for appending."""
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
