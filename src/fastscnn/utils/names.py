"""Names that no two files share, and that every file system takes."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

LONGEST = 255
"""Bytes of the longest file name that common file systems take."""


def shortest_names(paths: Sequence[Sequence[str]]) -> list[str]:
    """The end of each path, as short as it can be without being another's too: `b/x` and `c/x`, but `y`.

    Args:
        paths: Different from each other, each as its parts.

    Returns:
        A name for each path, its parts joined by `/`.
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
    """A file name of a stem and what follows it; a stem that is too long is cut, and told apart by a digest.

    Args:
        stem: What the file is of; any name that a file has.
        ending: Such as `_epoch0001.png`.
    """
    room = LONGEST - len(os.fsencode(ending))
    data = os.fsencode(stem)
    if len(data) <= room:
        return stem + ending
    digest = hashlib.sha256(data).hexdigest()[:10]
    whole = data[: room - 11].decode("utf-8", "ignore").encode()  # without half a letter at its end
    return f"{os.fsdecode(whole)}-{digest}{ending}"


def portable(path: str | Path) -> str:
    """A path as UTF-8 has it, for a file that is read under any locale; the opposite of `native`."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def native(path: str) -> str:
    """A path that was written as UTF-8, in the form in which this process opens it; the opposite of `portable`."""
    return os.fsdecode(path.encode("utf-8", "surrogateescape"))
