"""Writing files that are never half there, and checking a folder before anything is computed for it."""

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastscnn.utils.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

UNFINISHED = ".unfinished-"
"""What the name of a file begins with while it is being written, beside the file whose place it takes."""

NO_MORE_ROOM = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS") if hasattr(errno, name)}
"""Errors after which no further file can be written either: a full disk, a quota, a disk that became read-only."""

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class WriteError(OSError):
    """A file that could not be written, as on a full disk; says in one sentence which, and why."""

    def __str__(self) -> str:
        return why_not_written(self)


@contextlib.contextmanager
def replaced(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Write a file or a folder under another name in the same folder; it takes its place when the block is done.

    The name is short, so that a path may have any name that the file system takes. Where the block fails or is
    stopped, what was there before stays as it was and nothing else is left; a kill leaves a file that
    `remove_leftovers` takes away.

    Args:
        path: What is to be written; its folder is made.
        durable: Whether it must survive a power cut: the file is on the disk before it takes its place, and the
            folder afterwards.

    Raises:
        WriteError: It cannot be written; names `path` and the reason, such as a full disk.
    """
    target = path.with_name(f"{UNFINISHED}{secrets.token_hex(6)}{path.suffix[:16]}")
    try:
        with _named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield target
            if durable:
                _sync(target)
            if target.is_dir():
                remove(path)
            target.replace(path)
            if durable:
                _sync(path.parent)
    finally:
        remove(target)


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file whose reader never sees half of it; see `replaced`."""
    with replaced(path, durable=durable) as target:
        target.write_bytes(data)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write UTF-8 text, with the line ends that it has, whose reader never sees half of it; see `replaced`."""
    write_bytes(path, utf8(text), durable=durable)


def append_text(path: Path, text: str) -> None:
    """Add UTF-8 text to the end of a file: all of it or, where that fails, nothing.

    Raises:
        WriteError: It cannot be written; names `path` and the reason, such as a full disk.
    """
    with _named(path), path.open("ab", buffering=0) as file:
        before, data = file.tell(), memoryview(utf8(text))
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(before)
            raise


def utf8(text: str) -> bytes:
    """Text as UTF-8, also where it holds a file's name whose bytes are no letters in this locale.

    Bytes that are UTF-8 after all become the letters that they are, and others their codes.
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
        data.decode("utf-8")
    except UnicodeError:
        return text.encode("utf-8", "backslashreplace")
    return data


def write_json(path: Path, content: Mapping[str, Any], *, durable: bool = False) -> None:
    """Write a JSON file whose reader never sees half of it; NaN and infinity become null."""
    write_text(path, json.dumps(plain_json(content), indent=2) + "\n", durable=durable)


def write_png(path: Path, picture: "npt.NDArray[np.uint8]", compression: int = 1) -> None:
    """Write labels [H, W] or an RGB picture [H, W, 3] as a PNG.

    Args:
        path: The file; its folder is made.
        picture: uint8.
        compression: From 1, which is fastest, to 9.

    Raises:
        WriteError: It cannot be written, also where only a part of it could.
    """
    import cv2  # slow to import, and whoever writes a record has no use for it

    # Rows are predicted from the row above: 1.6 times as fast as trying every filter, and as small.
    from_above = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
    blue_first = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", blue_first, [cv2.IMWRITE_PNG_COMPRESSION, compression, *from_above])
    if not done:
        raise OSError(f"{path} cannot be written as a PNG")
    write_bytes(path, data.tobytes())


def check_writable(folder: Path, setting: str) -> None:
    """Check, before anything is computed, that a folder can be made and that files can be written in it.

    Writes a small file and removes it: permissions alone do not tell of a read-only or a full disk. The folder itself
    is not made.

    Args:
        folder: Where files will go.
        setting: The setting that named it, such as `paths.output_dir`.

    Raises:
        RequestError: It is a file, lies below one, or cannot be written; names the reason and the fix.
    """
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
        if there.exists() and not there.is_dir():
            raise RequestError(f"{setting}={folder}: {there} is a file: name a folder.")
        probe = there / f"{UNFINISHED}{secrets.token_hex(6)}"
        try:
            probe.write_bytes(bytes(4096))
            _sync(probe)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise RequestError(
            f"{setting}={folder} cannot be written ({error.strerror or error}): name a folder that can, on a disk with "
            "room."
        ) from None


def check_writable_file(path: Path, setting: str) -> None:
    """Check, before anything is computed, that a file can be written, or written anew; see `check_writable`.

    Raises:
        RequestError: There is a folder or a device in its place, or its folder cannot be written.
    """
    if path.exists():
        check_file(path, setting, "Name a file.")
    check_writable(path.parent, setting)


def check_file(path: Path, setting: str, fix: str) -> None:
    """Check that a path leads to a file, following links, without opening it: to open a named pipe is to wait.

    Args:
        path: The file.
        setting: The setting that named it, such as `checkpoint`.
        fix: What to do, as a sentence.

    Raises:
        RequestError: There is none, or a folder, a named pipe, a socket or a device is in its place.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(f"{setting}={path}: there is no such file. {fix}") from None
    except OSError as error:
        raise RequestError(f"{setting}={path} cannot be read ({error.strerror}). {fix}") from None
    if not stat.S_ISREG(mode):
        raise RequestError(f"{setting}={path} is {kind_of_mode(mode)}, not a file. {fix}")


def kind_of_mode(mode: int) -> str:
    """What `os.stat` found where a file should be: `a folder`, `a named pipe`, `a socket` or `a device`."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")


def disk_is_full(error: BaseException | None) -> bool:
    """Whether no further file can be written either, as on a full disk, rather than this one alone."""
    return isinstance(error, OSError) and error.errno in NO_MORE_ROOM


def not_written(error: BaseException) -> OSError | None:
    """The error of a file that could not be written, as on a full disk, if that is what an error comes down to."""
    while True:
        if isinstance(error, WriteError) or (isinstance(error, OSError) and disk_is_full(error)):
            return error
        if error.__cause__ is None:
            return None
        error = error.__cause__


def why_not_written(error: OSError) -> str:
    """The file that could not be written, and why: `out/a.png cannot be written (No space left on device)`."""
    return f"{error.filename2 or error.filename or 'a file'} cannot be written ({error.strerror or error})"


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what a killed process left half-written in a folder that nobody else writes to; returns it."""
    left = sorted(folder.glob(f"{UNFINISHED}*"))
    for path in left:
        remove(path)
    return left


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def plain_json(value: Any) -> Any:
    """Containers and numbers that JSON knows; NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of a file that is being written name the file that was to be."""
    try:
        yield
    except OSError as error:
        if error.filename is None or UNFINISHED in str(error.filename):
            if error.errno is None:
                raise
            raise WriteError(error.errno, error.strerror, str(path)) from None
        raise


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; of a folder where the system can (not Windows)."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
