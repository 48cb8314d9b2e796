"""Looking at the files of a frame: whether they can be read, and what is in them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from fastscnn.data.datasets.colors import color_numbers
from fastscnn.data.datasets.frames import Frame, Reading
from fastscnn.utils import images
from fastscnn.utils.images import ImageFileError, check_image_file, open_pil
from fastscnn.utils.machine import usable_cores
from fastscnn.utils.progress import Progress

MOST = 1000
"""Colours of one mask that are counted; a photograph has more."""
INDICES = ("1", "L", "P")
"""PIL's modes of pictures that hold one index for each pixel."""
Counts = Mapping[int, int]


@dataclass(frozen=True)
class Mask:
    """What a mask holds.

    Attributes:
        mode: Format and mode, such as `PNG P`.
        size: Height and width.
        values: Value to its pixels; None where it holds colours.
        colors: Colour, as `color_numbers` gives it, to its pixels; of a palette those of its values.
        palette: Value to its colour; empty without a palette.
        cut: Whether it holds more colours than were counted.
    """

    mode: str
    size: tuple[int, int]
    values: Counts | None
    colors: Counts
    palette: Mapping[int, int] = field(default_factory=dict)
    cut: bool = False


@dataclass(frozen=True)
class Look:
    """What was found in the files of a frame.

    Attributes:
        split: The split that the frame is in.
        frame: The frame.
        size: Height and width of the image as it is used; None where it cannot be read.
        mode: Format and mode of the image, such as `JPEG RGB`.
        orientation: The EXIF orientation; 1 is upright.
        digest: Of the pixels.
        mask: What the mask holds; None where there is none, or where it cannot be read.
        unreadable: What is wrong with a file that cannot be read, with its name.
    """

    split: str
    frame: Frame
    size: tuple[int, int] | None = None
    mode: str = ""
    orientation: int = 1
    digest: str = ""
    mask: Mask | None = None
    unreadable: tuple[str, ...] = ()


def look_at(frames: Mapping[str, Sequence[Frame]], reading: Reading) -> list[Look]:
    """Look at all frames in parallel, with progress.

    Args:
        frames: Of each split.
        reading: How images are read; an orientation is reported, not refused.
    """
    jobs = [(split, frame) for split, listed in frames.items() for frame in listed]
    looks = []
    with ThreadPoolExecutor(usable_cores()) as pool, Progress("looking at the files", len(jobs), "frame") as progress:
        try:
            for one in pool.map(lambda job: look(job[0], job[1], reading), jobs):
                looks.append(one)
                progress.advance()
        finally:
            pool.shutdown(cancel_futures=True)
    return looks


def look(split: str, frame: Frame, reading: Reading) -> Look:
    """Look at one frame."""
    found: dict[str, object] = {}
    unreadable = []
    try:
        header = check_image_file(frame.image, reading.max_pixels, setting="data.max_pixels")
        found |= {"orientation": header.orientation, "mode": f"{header.format} {_mode(frame.image, reading)}".strip()}
        upright = reading.exif == "apply"
        pixels = images.read_rgb(frame.image, upright=upright, max_pixels=reading.max_pixels, setting="data.max_pixels")
        found |= {"size": pixels.shape[:2], "digest": _digest(pixels)}
    except (ImageFileError, OSError) as error:
        unreadable.append(str(error))
    if frame.label is not None:
        try:
            found["mask"] = look_at_mask(frame.label, reading)
        except (ImageFileError, OSError) as error:
            unreadable.append(str(error))
    return Look(split, frame, unreadable=tuple(unreadable), **found)  # type: ignore[arg-type]


def look_at_mask(path: Path, reading: Reading) -> Mask:
    """Look at one mask.

    Raises:
        ImageFileError: It cannot be read, or holds numbers of 16 or 32 bits.
    """
    limit = {"max_pixels": reading.max_pixels, "setting": "data.max_pixels"}
    header = check_image_file(path, **limit)  # type: ignore[arg-type]
    mode = _mode(path, reading)
    if mode in INDICES or mode.startswith(("I", "F")):
        values = images.read_label(path, **limit)  # type: ignore[arg-type]
        counts, _ = _counted(values.astype(np.int32))
        palette = _palette(path, reading, counts) if mode == "P" else {}
        colors: Counter[int] = Counter()
        for value, pixels in counts.items():
            colors[palette.get(value, value * 0x010101)] += pixels
        return Mask(f"{header.format} {mode}", _size(values), counts, colors, palette)
    picture = images.read_rgb(path, upright=False, **limit)  # type: ignore[arg-type]
    counts, cut = _counted(color_numbers(picture))
    return Mask(f"{header.format} {mode}".strip(), _size(picture), None, counts, cut=cut)


def _counted(numbers: npt.NDArray[np.int32]) -> tuple[dict[int, int], bool]:
    """How often each number occurs, and whether there are more than were counted.

    Masks are made of areas: the lengths of the runs of equal numbers are summed, which needs no sorting of pixels.
    """
    flat = numbers.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    found, places = np.unique(flat[starts], return_inverse=True)
    pixels = np.bincount(places, lengths).astype(np.int64)
    most = np.argsort(-pixels, kind="stable")[:MOST]
    return {int(found[place]): int(pixels[place]) for place in sorted(most)}, len(found) > MOST


def _palette(path: Path, reading: Reading, counts: Counts) -> dict[int, int]:
    """The colours of the values that a palette picture holds."""
    with open_pil(path, reading.max_pixels, setting="data.max_pixels") as image:
        flat = image.getpalette("RGB") or []
    colors = [flat[place : place + 3] for place in range(0, len(flat) - 2, 3)]
    return {
        value: red << 16 | green << 8 | blue
        for value in counts
        if value < len(colors)
        for red, green, blue in [colors[value]]
    }


def _mode(path: Path, reading: Reading) -> str:
    """PIL's name of the mode; empty where PIL does not know the format."""
    try:
        with open_pil(path, reading.max_pixels, setting="data.max_pixels") as image:
            assert isinstance(image, PIL.Image.Image)
            return image.mode
    except ImageFileError:
        return ""


def _digest(pixels: npt.NDArray[np.uint8]) -> str:
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _size(picture: npt.NDArray[np.uint8]) -> tuple[int, int]:
    return picture.shape[0], picture.shape[1]
