"""A folder that several processes may write to at once, rid of what a killed one left half-written."""

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
"""Age from which a half-written file is a leftover for sure."""


@contextlib.contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Remove at any depth what killed processes left in an existing folder, and let others know that this one writes.

    A process that writes holds a shared lock on the folder, and removes what is half-written where no other holds
    one. Where that cannot be told, for lack of locks, or where another is writing, only what is older than a day goes.
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
