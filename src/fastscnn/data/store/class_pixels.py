"""Which classes a frame shows: how many pixels of each, and where some of them are.

Counted once, and kept beside the decoded frames.
"""

import contextlib
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastscnn.data.datasets.frames import Frame, Image
from fastscnn.utils.files import write_bytes
from fastscnn.utils.machine import usable_cores
from fastscnn.utils.progress import Progress

NAME = "class_pixels.npz"
POINTS = 32
"""Pixels of each class in a frame whose places are kept."""
Integers = npt.NDArray[np.int64]


class ClassPixels(NamedTuple):
    """What some frames show of each class; ignored pixels are left out.

    Attributes:
        counts: Pixels of each class, int64 [frames, classes].
        points: Places of some pixels of each class, evenly taken from all of them in reading order: row times width
            plus column, int64 [frames, classes, POINTS]; -1 where the frame shows none.
        widths: Columns of each frame, int64 [frames].
    """

    counts: Integers
    points: Integers
    widths: Integers


def class_pixels(
    frames: Sequence[Frame],
    num_classes: int,
    read_label: Callable[[Frame], Image],
    keys: Mapping[Frame, str] | None = None,
    folder: Path | None = None,
) -> ClassPixels:
    """Count the pixels of each class in each frame, in parallel, or take what was counted before.

    Args:
        frames: All of them labelled.
        num_classes: Number of classes.
        read_label: From a frame to its train ids.
        keys: Frame to what its counts are kept under, which changes with its content.
        folder: Where they are kept; None counts them each time.
    """
    kept = _read(folder) if folder and keys else {}
    known = {frame: kept[keys[frame]] for frame in frames if keys and keys[frame] in kept}
    left = [frame for frame in dict.fromkeys(frames) if frame not in known]
    if left:
        counting = Progress("counting the pixels of each class", len(left), "frame")
        with ThreadPoolExecutor(usable_cores()) as pool, counting as progress:
            found = pool.map(lambda frame: _of_label(read_label(frame), num_classes), left)
            for frame, values in zip(left, found, strict=True):
                known[frame] = values
                progress.advance()
        if folder and keys:
            with contextlib.suppress(OSError):  # then they are counted again next time
                _write(folder, kept | {keys[frame]: known[frame] for frame in left})
    whole = np.stack([known[frame] for frame in frames])
    return ClassPixels(whole[:, :, 0], whole[:, :, 1 : 1 + POINTS], whole[:, 0, 1 + POINTS])


def _of_label(label: Image, num_classes: int) -> Integers:
    """Count, places and width in one row for each class; int64 [classes, 1 + POINTS + 1]."""
    flat = label.reshape(-1)
    counts = np.bincount(flat, minlength=256)[:num_classes]
    places = np.argsort(flat, kind="stable")
    row = np.full((num_classes, POINTS + 2), -1, np.int64)
    row[:, 0], row[:, -1] = counts, label.shape[1]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for number in np.flatnonzero(counts):
        taken = starts[number] + (np.arange(POINTS) * counts[number]) // POINTS
        row[number, 1:-1] = places[taken]
    return row


def _read(folder: Path) -> dict[str, Integers]:
    try:
        with np.load(folder / NAME, allow_pickle=False) as content:
            return dict(zip(content["keys"].tolist(), content["values"], strict=True))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return {}


def _write(folder: Path, known: Mapping[str, Integers]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, keys=np.array(list(known)), values=np.stack(list(known.values())))
    write_bytes(folder / NAME, content.getvalue())
