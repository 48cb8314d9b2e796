"""Finding the images and videos of an input: a file, a folder with all that is in it, or a pattern."""

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from fastscnn.predict.kind import IMAGES, VIDEOS, kind_of
from fastscnn.utils.errors import RequestError
from fastscnn.utils.image_files import ImageFileError, check_regular_file


@dataclass(frozen=True)
class Source:
    """An image or a video on disk.

    Attributes:
        path: The file.
        name: The beginning of its outputs' names: the path inside `folder`, without the suffix.
        folder: The folder that was named, or that a file or a pattern lies in.
        is_video: Whether it is a video.
    """

    path: Path
    name: str
    folder: Path
    is_video: bool = False


def find_sources(given: str | Path, output: Path) -> list[Source]:
    """The images and videos of an input, which is a file, a folder or a pattern; sorted by name.

    Links to folders are followed. Two files that differ in their suffix alone keep it in their names.

    Args:
        given: A file, a folder, or a pattern such as `photos/*.jpg` (`**` for folders at any depth).
        output: The folder of the predictions; files in it are left out.

    Raises:
        RequestError: There is nothing of that name, no image and no video in it, or it lies in the output.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        root, found = path, list(_below(path))
    elif os.path.lexists(path):
        root, found = path.parent, [path]
        _check_named(given, path)
    elif glob.has_magic(str(given)):
        root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        found = list(_matching(root, path.parts[len(root.parts) :]))
    else:
        raise RequestError(
            f"input={given}: there is no such file or folder.",
            key="input",
            fix="Set input=PATH, or a pattern in quotes.",
        )
    left_out = output.resolve()
    if left_out in (root.resolve(), *root.resolve().parents):
        raise RequestError(f"input={given} lies in output={output}.", key="output", fix="Name another folder.")
    kinds = {
        file: kind
        for file in dict.fromkeys(found)
        if file.is_file() and left_out not in file.resolve().parents
        if (kind := kind_of(file, thorough=file == path))
    }
    if not kinds:
        raise RequestError(
            f"input={given} holds no image ({', '.join(IMAGES)}) and no video ({', '.join(VIDEOS)}).",
            key="input",
            fix="Name another file, folder or pattern.",
        )
    names = _named(file.relative_to(root) for file in kinds)
    return [Source(root / inside, name, root, kinds[root / inside] == "video") for inside, name in names]


def _check_named(given: str | Path, path: Path) -> None:
    """Refuse a single input that is no file, before it is opened, or that is neither an image nor a video."""
    try:
        check_regular_file(path)
    except ImageFileError as error:
        raise RequestError(f"input={given} {error.found}", key="input", fix=error.fix) from None
    if kind_of(path, thorough=True) is None:
        raise RequestError(
            f"input={given} is neither an image ({', '.join(IMAGES)}) nor a video ({', '.join(VIDEOS)}).",
            key="input",
            fix="Name another file.",
        )


def _below(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """Folders and files at any depth in a folder, also behind links; no hidden ones, and no circles of links."""
    here = os.stat(folder)
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        return
    yield folder
    with suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _below(folder / entry.name, (*above, identity))
            else:
                yield folder / entry.name


def _matching(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The paths that match a pattern in a folder, as `glob.glob`; but `**` does not follow links in circles."""
    if not parts:
        yield folder
        return
    part, *rest = parts
    if not glob.has_magic(part):
        if os.path.lexists(folder / part):
            yield from _matching(folder / part, rest)
    elif folder.is_dir():
        if part == "**":
            inside = [path for path in _below(folder) if not rest or path.is_dir()]
        else:
            names = fnmatch.filter(os.listdir(folder), part)
            inside = [folder / name for name in names if part.startswith(".") or not name.startswith(".")]
        for path in inside:
            yield from _matching(path, rest)


def _named(files: Iterable[Path]) -> list[tuple[Path, str]]:
    """Each file with a name of its own: without its suffix if no other file has that name."""
    whole = sorted(files)
    names = {file: str(file.with_suffix("")) for file in whole}
    while shared := {name for name, times in Counter(names.values()).items() if times > 1}:
        names |= {file: str(file) for file in whole if names[file] in shared}
    return list(names.items())
