"""A folder that several processes may write to at once, without the incomplete files of killed ones."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from fastscnn.utils.files import UNFINISHED, remove

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

OLD_SECONDS = 86_400.0
"""Age from which an incomplete file is certainly a leftover."""


@contextlib.contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Remove the incomplete files of killed processes at any depth of an existing folder, and mark it as written to.

    A process that writes holds a shared lock on the folder. Incomplete files are removed if no other process holds one;
    if another does, or the file system has no locks, only those older than a day are removed.
    """
    with contextlib.ExitStack() as stack:
        alone = False
        if fcntl is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    alone = True
                if alone:
                    _remove_older(folder, 0)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not alone:
            _remove_older(folder, OLD_SECONDS)
        yield


def _remove_older(folder: Path, seconds: float) -> None:
    until = time.time() - seconds
    for path in sorted(folder.rglob(f"{UNFINISHED}*")):
        with contextlib.suppress(OSError):  # another process may be faster
            if seconds == 0 or path.stat().st_mtime < until:
                remove(path)
