"""Locks on files; the system frees them when the process that holds them ends, even if it is killed."""

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HELD = (errno.EAGAIN, errno.EACCES)
"""Errors which mean that another process holds the lock; any other means that the file system has no locks."""
POLL_SECONDS = 0.05


class NoLocks(OSError):
    """The file system has no locks, such as an NFS mount without a lock service."""


class Lock:
    """A lock that this process holds; see `take`.

    The system frees it when the process ends, even if it is killed. Forked processes close it at once, so that a worker
    that outlives its run does not hold the run's lock; programs that are started do not inherit it.
    """

    def __init__(self, path: Path, handle: Any) -> None:
        self.path = path
        self._handle = handle
        _held.add(self)

    def release(self, *, remove: bool = False) -> None:
        """Free the lock; does nothing if it is free.

        Args:
            remove: Whether to remove the file too. Processes that wait for it lock a new file.
        """
        handle, self._handle = self._handle, None
        _held.discard(self)
        if handle is None:
            return
        if fcntl and remove:
            self.path.unlink(missing_ok=True)
        handle.close() if fcntl else handle.release()

    def forget(self) -> None:
        """Close the lock's file in a forked process; the process that took the lock still holds it."""
        if fcntl and self._handle is not None:
            with contextlib.suppress(OSError):
                self._handle.close()
        self._handle = None


_held: set[Lock] = set()


def take(path: Path, wait: float | None = 0.0) -> Lock | None:
    """Lock a file in an existing folder, and create it if it is missing; None if another process holds the lock.

    Locks work between processes, containers and, if the file system shares its locks, machines.

    Args:
        path: The file; its content does not change.
        wait: Seconds to wait for the lock; None waits without limit.

    Raises:
        NoLocks: The file system has no locks.
        OSError: The file cannot be created.
    """
    until = None if wait is None else time.monotonic() + wait
    while True:
        if (handle := _tried(path)) is not None:
            return Lock(path, handle)
        if until is not None and time.monotonic() >= until:
            return None
        time.sleep(POLL_SECONDS)


def is_held(path: Path) -> bool | None:
    """Whether any process, including this one, holds the lock of a file; None if that is unknown.

    It is unknown if the file is missing or unreadable, or if the file system has no locks.
    """
    if not path.is_file():
        return None
    if fcntl is None:
        with contextlib.suppress(OSError):
            lock = take(path)
            if lock is None:
                return True
            lock.release()
            return False
        return None
    try:
        with path.open("rb") as file:
            return not _locked(file, fcntl.LOCK_SH)  # shared: several readers may ask at once
    except OSError:
        return None


def _tried(path: Path) -> Any:
    """The open, locked file; None if another process holds the lock."""
    if fcntl is None:
        return _tried_with_filelock(path)
    file = path.open("ab")  # some network file systems lock only files that are open for writing
    try:
        if _locked(file, fcntl.LOCK_EX) and _is_at(path, file):
            return file
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether an open file is still the one at its path, and was not removed since."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _locked(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file.fileno(), kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise NoLocks(error.errno, error.strerror, file.name) from None
    return True


def _tried_with_filelock(path: Path) -> Any:
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _after_fork() -> None:
    for lock in list(_held):
        lock.forget()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
