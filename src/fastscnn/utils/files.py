"""Writing files that are never incomplete, and checking a folder before anything is computed for it."""

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
"""Prefix of the name of a file while it is written, in the folder of the file that it will replace."""

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
    """A file could not be written, as on a full disk; the message names the file and the reason."""

    def __str__(self) -> str:
        return why_not_written(self)


@contextlib.contextmanager
def replaced(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Write a file or a folder under a temporary name in the same folder; the end of the block renames it.

    The temporary name is short, so that `path` may have any name that the file system takes. If the block fails or is
    interrupted, what was there before is unchanged and nothing else is left. A killed process leaves a file that
    `remove_leftovers` removes.

    Args:
        path: The file or folder to write; its parent is created.
        durable: Whether it must survive a power cut: the file is flushed to the disk before it is renamed, and the
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
    """Write a file that no reader sees incomplete; see `replaced`."""
    with replaced(path, durable=durable) as target:
        target.write_bytes(data)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write UTF-8 text with its own line ends, which no reader sees incomplete; see `replaced`."""
    write_bytes(path, utf8(text), durable=durable)


def append_text(path: Path, text: str) -> None:
    """Append UTF-8 text to a file: all of it or, on an error, nothing.

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
    """Text as UTF-8, even if it holds a file name that this locale could not decode.

    The bytes of such a name are written as they are if they are UTF-8, and as escape codes otherwise.
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
        data.decode("utf-8")
    except UnicodeError:
        return text.encode("utf-8", "backslashreplace")
    return data


def write_json(path: Path, content: Mapping[str, Any], *, durable: bool = False) -> None:
    """Write a JSON file that no reader sees incomplete; NaN and infinity become null."""
    write_text(path, json.dumps(plain_json(content), indent=2) + "\n", durable=durable)


def write_png(path: Path, picture: "npt.NDArray[np.uint8]", compression: int = 1) -> None:
    """Write labels [H, W] or an RGB picture [H, W, 3] as a PNG.

    Args:
        path: The file; its folder is created.
        picture: uint8.
        compression: From 1, which is fastest, to 9.

    Raises:
        WriteError: It cannot be written completely.
    """
    from fastscnn.utils.png import encode  # slow to import, and not needed to write records

    write_bytes(path, encode(picture, compression))


def check_writable(folder: Path, setting: str) -> None:
    """Check, before anything is computed, that a folder can be created and that files can be written in it.

    Writes a small file and removes it: permissions alone do not reveal a read-only or a full disk. The folder itself is
    not created.

    Args:
        folder: The folder for the files.
        setting: The setting that named it, such as `paths.output_dir`.

    Raises:
        RequestError: It is a file, lies below one, or cannot be written.
    """
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
        if there.exists() and not there.is_dir():
            raise RequestError(f"{setting}={folder}: {there} is a file.", key=setting, fix="Name a folder.")
        probe = there / f"{UNFINISHED}{secrets.token_hex(6)}"
        try:
            probe.write_bytes(bytes(4096))
            _sync(probe)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise RequestError(
            f"{setting}={folder} cannot be written ({error.strerror or error}).",
            key=setting,
            fix="Name a folder that can be written, on a disk with free space.",
        ) from None


def check_writable_file(path: Path, setting: str) -> None:
    """Check, before anything is computed, that a file can be written or overwritten; see `check_writable`.

    Raises:
        RequestError: It is a folder or a device, or its folder cannot be written.
    """
    if path.exists():
        check_file(path, setting, "Name a file.")
    check_writable(path.parent, setting)


def check_file(path: Path, setting: str, fix: str) -> None:
    """Check that a path leads to a file, following links, without opening it: opening a named pipe would block.

    Args:
        path: The file.
        setting: The setting that named it, such as `checkpoint`.
        fix: What to do, as a sentence.

    Raises:
        RequestError: It is missing, or a folder, a named pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(f"{setting}={path}: there is no such file.", key=setting, fix=fix) from None
    except OSError as error:
        raise RequestError(f"{setting}={path} cannot be read ({error.strerror}).", key=setting, fix=fix) from None
    if not stat.S_ISREG(mode):
        raise RequestError(f"{setting}={path} is {kind_of_mode(mode)}, not a file.", key=setting, fix=fix)


def kind_of_mode(mode: int) -> str:
    """What a path that should be a file is, by its `os.stat`: `a folder`, `a named pipe`, `a socket` or `a device`."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")


def disk_is_full(error: BaseException | None) -> bool:
    """Whether no other file can be written either, as on a full disk."""
    return isinstance(error, OSError) and error.errno in NO_MORE_ROOM


def not_written(error: BaseException) -> OSError | None:
    """The error or the cause of it that says that a file could not be written; None if there is none."""
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
    """Remove incomplete files of a killed process from a folder that no other process writes to; returns them."""
    left = sorted(folder.glob(f"{UNFINISHED}*"))
    for path in left:
        remove(path)
    return left


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def plain_json(value: Any) -> Any:
    """A value made of JSON's types; NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn an error of a temporary file into a `WriteError` that names the final one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or UNFINISHED in str(error.filename):
            if error.errno is None:
                raise
            raise WriteError(error.errno, error.strerror, str(path)) from None
        raise


def _sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk; Windows cannot do that for folders."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
