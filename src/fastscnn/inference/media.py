"""Finding what is to be predicted, reading it, and writing files that are never half there."""

import glob
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fastscnn.errors import RequestError

Picture = npt.NDArray[np.uint8]
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".avif", ".gif", ".tif", ".tiff", ".jp2", ".ppm", ".pgm")
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".3gp")
ROW_FILTER = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
"""How rows of a PNG are compared: with the row above, 1.6 times as fast as trying all ways, and files as small."""
MARK = ".unfinished"
"""Part of the name of a file that is being written."""


@dataclass(frozen=True)
class Source:
    """An image or a video on disk.

    Attributes:
        path: The file.
        name: What its outputs are called: the path inside `folder`, without the suffix.
        folder: The folder that was named, or that a file or a pattern lies in.
    """

    path: Path
    name: str
    folder: Path

    @property
    def is_video(self) -> bool:
        """Whether it is a video."""
        return self.path.suffix.lower() in VIDEOS


def find_sources(given: str | Path, output: Path) -> list[Source]:
    """What an input stands for: a file, a folder with everything in it, or a pattern; sorted by name.

    Two files that differ in their suffix alone keep it in their names.

    Args:
        given: A file, a folder, or a pattern such as `photos/*.jpg` (`**` for folders at any depth).
        output: Where predictions go; what lies in there is left out.

    Raises:
        RequestError: There is nothing of that name, no image and no video in it, or it lies in the output.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        root, found = path, [file for file in path.rglob("*") if _wanted(file, output) and not _hidden(file, path)]
    elif path.is_file():
        root, found = path.parent, [path]
        if path.suffix.lower() not in (*IMAGES, *VIDEOS) and not cv2.haveImageReader(str(path)):
            raise RequestError(
                f"input={given} is neither an image ({', '.join(IMAGES)}) nor a video ({', '.join(VIDEOS)}): name "
                "another file."
            )
    elif glob.has_magic(str(given)):
        root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        found = [Path(file) for file in glob.glob(str(path), recursive=True) if _wanted(Path(file), output)]
    else:
        raise RequestError(f"input={given}: there is no such file or folder. Set input=PATH, or a pattern in quotes.")
    if output.resolve() in (root.resolve(), *root.resolve().parents):
        raise RequestError(f"input={given} lies in output={output}: name another folder for the output.")
    if not found:
        raise RequestError(
            f"input={given} holds no image ({', '.join(IMAGES)}) and no video ({', '.join(VIDEOS)}): name another."
        )
    return [Source(root / inside, name, root) for inside, name in _named(file.relative_to(root) for file in found)]


def _named(files: Iterable[Path]) -> list[tuple[Path, str]]:
    """Each file with a name that no other has: without its suffix where that is enough."""
    whole = sorted(files)
    names = {file: str(file.with_suffix("")) for file in whole}
    while shared := {name for name, times in Counter(names.values()).items() if times > 1}:
        names |= {file: str(file) for file in whole if names[file] in shared}
    return list(names.items())


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _wanted(file: Path, output: Path) -> bool:
    return (
        file.is_file() and file.suffix.lower() in (*IMAGES, *VIDEOS) and output.resolve() not in file.resolve().parents
    )


def read_photo(path: Path) -> Picture:
    """Read an image as a person holds it, turned upright by its EXIF data; RGB, uint8 [H, W, 3].

    Raises:
        OSError: The file cannot be read, or is no whole image.
    """
    data = np.fromfile(path, np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:  # such as a size beyond what OpenCV takes
        raise OSError(f"no image that OpenCV reads: {error.err}") from None
    if pixels is None:
        raise OSError(f"no whole image ({data.size:,} bytes)")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def write_png(path: Path, picture: Picture, compression: int = 1) -> None:
    """Write labels [H, W] or an RGB picture [H, W, 3] as a PNG; makes its folder.

    Args:
        path: The file.
        picture: uint8.
        compression: From 1, which is fastest, to 9.

    Raises:
        OSError: It cannot be written.
    """
    blue_first = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", blue_first, [cv2.IMWRITE_PNG_COMPRESSION, compression, *ROW_FILTER])
    if not done:
        raise OSError(f"{path} cannot be written as a PNG")
    with unfinished(path) as target:
        target.write_bytes(data.tobytes())


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Another name in the same folder to write a file or a folder under; it gets its own once the block is done.

    Where the block fails or is stopped, nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.with_name(f"{path.stem}{MARK}{path.suffix}")
    remove(target)
    try:
        yield target
        if target.is_dir():
            remove(path)
        target.replace(path)
    finally:
        remove(target)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, where there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
