"""Finding what is to be predicted, reading it, and writing files that are never half there."""

import glob
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fastscnn.errors import RequestError

Picture = npt.NDArray[np.uint8]
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm")
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm")
MARK = ".unfinished"
"""Part of the name of a file that is being written."""


@dataclass(frozen=True)
class Source:
    """An image or a video on disk.

    Attributes:
        path: The file.
        name: What its outputs are called: the path inside the input folder, without the suffix.
    """

    path: Path
    name: str

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
    path = Path(given)
    if output.resolve() in (path.resolve(), *path.resolve().parents) and path.exists():
        raise RequestError(f"input={given} lies in output={output}: name another folder for the output.")
    if path.is_dir():
        root, found = path, [file for file in path.rglob("*") if _wanted(file, output)]
    elif path.is_file():
        root, found = path.parent, [path]
        if path.suffix.lower() not in (*IMAGES, *VIDEOS):
            raise RequestError(
                f"input={given} is neither an image ({', '.join(IMAGES)}) nor a video ({', '.join(VIDEOS)}): name "
                "another file."
            )
    elif glob.has_magic(str(given)):
        found = [Path(file) for file in glob.glob(str(given), recursive=True) if _wanted(Path(file), output)]
        root = Path(os.path.commonpath([file.parent for file in found])) if found else Path()
    else:
        raise RequestError(f"input={given}: there is no such file or folder. Set input=PATH, or a pattern in quotes.")
    if not found:
        raise RequestError(
            f"input={given} holds no image ({', '.join(IMAGES)}) and no video ({', '.join(VIDEOS)}): name another."
        )
    inside = sorted((file.relative_to(root), file) for file in found)
    stems = Counter(relative.with_suffix("") for relative, _ in inside)
    return [
        Source(file, str(relative if stems[relative.with_suffix("")] > 1 else relative.with_suffix("")))
        for relative, file in inside
    ]


def _wanted(file: Path, output: Path) -> bool:
    return (
        file.is_file()
        and file.suffix.lower() in (*IMAGES, *VIDEOS)
        and not file.name.startswith(".")
        and output.resolve() not in file.resolve().parents
    )


def read_photo(path: Path) -> Picture:
    """Read an image as a person holds it, turned upright by its EXIF data; RGB, uint8 [H, W, 3].

    Raises:
        OSError: The file cannot be read, or is no whole image.
    """
    data = np.fromfile(path, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if pixels is None:
        raise OSError(f"no whole image ({data.size:,} bytes)")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def write_png(path: Path, picture: Picture) -> None:
    """Write labels [H, W] or an RGB picture [H, W, 3] as a PNG; makes its folder.

    Raises:
        OSError: It cannot be written.
    """
    blue_first = picture if picture.ndim == 2 else np.ascontiguousarray(picture[:, :, ::-1])
    done, data = cv2.imencode(".png", blue_first, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise OSError(f"{path} cannot be written as a PNG")
    write_whole(path, lambda target: target.write_bytes(data.tobytes()))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name in the same folder, and give it its own once it is whole.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.with_name(f"{path.stem}{MARK}{path.suffix}")
    try:
        write(target)
        target.replace(path)
    finally:
        target.unlink(missing_ok=True)
