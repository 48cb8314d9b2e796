"""File names that are unique and that every file system takes."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

LONGEST = 255
"""Bytes of the longest file name that common file systems take."""


def shortest_names(paths: Sequence[Sequence[str]]) -> list[str]:
    """The shortest end of each path that is unique: `b/x` and `c/x`, but `y`.

    Args:
        paths: Different paths, each as a sequence of its parts.

    Returns:
        The end of each path, its parts joined by `/`.
    """
    lengths = [1] * len(paths)
    while True:
        names = ["/".join(path[-length:]) for path, length in zip(paths, lengths, strict=True)]
        shared = {name for name, times in Counter(names).items() if times > 1}
        longer = [
            place
            for place, (name, length) in enumerate(zip(names, lengths, strict=True))
            if name in shared and length < len(paths[place])
        ]
        if not longer:
            return names
        for place in longer:
            lengths[place] += 1


def file_name(stem: str, ending: str) -> str:
    """A file name from a stem and an ending; a stem that is too long is cut, and made unique by a digest.

    Args:
        stem: Any name.
        ending: Such as `_epoch0001.png`.
    """
    room = LONGEST - len(os.fsencode(ending))
    data = os.fsencode(stem)
    if len(data) <= room:
        return stem + ending
    digest = hashlib.sha256(data).hexdigest()[:10]
    whole = data[: room - 11].decode("utf-8", "ignore").encode()  # without an incomplete letter at its end
    return f"{os.fsdecode(whole)}-{digest}{ending}"


def portable(path: str | Path) -> str:
    """A path as UTF-8, for a file that is read under any locale; the inverse of `native`."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def native(path: str) -> str:
    """A path that was written as UTF-8, in the form in which this process opens it; the inverse of `portable`."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))
