"""Synthetic street scenes in the Cityscapes layout: a data set that is drawn in seconds."""

import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, MutableSequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from cityscapesscripts.helpers.labels import labels
from filelock import FileLock

from fastscnn.streets.draw import Scene, draw_street
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import remove, write_json, write_png
from fastscnn.utils.machine import usable_cores
from fastscnn.utils.names import file_name
from fastscnn.utils.values import check_size, check_whole

__all__ = ["MANIFEST", "Scene", "StreetsSpec", "coarse", "draw_street", "write_streets"]

MANIFEST = "streets.json"
GENERATOR_VERSION = 1
"""Version of the renderer: raised by every change that gives the same spec other pixels."""

CITIES: dict[str, tuple[str, ...]] = {
    "train": ("aldenmoor", "brackwald", "corvenhagen", "dunmere", "eichental", "falkenrode"),
    "val": ("lindhaven", "marnstadt"),
    "test": ("nordwick", "osterfurt"),
    "train_extra": ("quellbach", "rotherfeld", "silberau", "tannwick"),
}
"""Invented cities of each split. The position of a split in this table is its number in the seeds."""
FINE_SPLITS = ("train", "val", "test")
COARSE_SPLITS = ("train", "val", "train_extra")

Frame = tuple[str, int]
"""Split and index within the split."""
Labels = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Called with the number of frames written so far and the total."""

_PALETTE = np.zeros((256, 1, 3), np.uint8)
for _label in labels:
    _PALETTE[_label.id % 256] = _label.color


@dataclass(frozen=True)
class StreetsSpec:
    """Everything that the pixels depend on.

    Attributes:
        size: Height and width of the frames, pixels.
        train, val, test, train_extra: Number of frames of each split; a larger set begins with the same frames.
        seed: Another seed gives other frames.
    """

    size: tuple[int, int] = (256, 512)
    train: int = 400
    val: int = 40
    test: int = 80
    train_extra: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_size("data.streets.size", self.size)
        for name in ("seed", *CITIES):
            check_whole(f"data.streets.{name}", getattr(self, name))
        if min(self.size) < 32:
            raise RequestError(
                f"data.streets.size={list(self.size)} is too small for a street.",
                key="data.streets.size",
                fix="Use a height and a width of at least 32 pixels.",
            )

    def frames(self) -> list[Frame]:
        """Every frame, split by split."""
        return [(split, index) for split in CITIES for index in range(getattr(self, split))]


def coarse(label_ids: Labels, rng: np.random.Generator) -> Labels:
    """Label a frame as the coarse annotators do: a few polygons well inside each region, none in small ones.

    A pixel keeps its own label or becomes 0 (unlabeled).

    Args:
        label_ids: Label ids, uint8 [H, W].
        rng: Draws how carefully the annotator works.

    Returns:
        Label ids, uint8 [H, W].
    """
    height, width = label_ids.shape
    reach = max(1, round(rng.uniform(0.010, 0.022) * height))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    inside, clear = (cv2.erode(label_ids, area) == cv2.dilate(label_ids, area) for area in (kernel, kernel[:3, :3]))
    smallest, large = 0.0006 * height * width, 0.015 * height * width
    drawn = np.zeros_like(label_ids)
    for label in np.unique(label_ids[inside]):
        region = (inside & (label_ids == label)).astype(np.uint8)
        outlines, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        polygons = [
            cv2.approxPolyDP(outline, 0.7 * reach, True)
            for outline in outlines
            if (area := cv2.contourArea(outline)) > smallest and (area > large or rng.random() < 0.9)
        ]
        filled = cv2.fillPoly(np.zeros_like(label_ids), polygons, 1)
        holes = cv2.dilate(((label_ids != label) & (filled > 0)).astype(np.uint8), kernel)
        drawn[(filled > holes) & clear & (label_ids == label)] = label
    return drawn


def write_streets(root: Path, spec: StreetsSpec, workers: int | None = None, progress: Progress | None = None) -> None:
    """Write the street scenes of a spec to `root`, in the official Cityscapes layout.

    Returns at once where they are already there. The files appear all together at the end. Another process
    that writes the same root meanwhile waits for the first one and uses its files.

    Args:
        root: Folder of the data set: a new one, an empty one, or one that an earlier call finished.
        spec: What to draw; the files depend on it alone.
        workers: Number of processes, by default one per core.
        progress: Called as the frames are written.

    Raises:
        RequestError: `root` holds other files.
        OSError: A file cannot be written; nothing half-written is left.
    """
    root = Path(root).resolve()
    if _is_finished(root, spec):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_name(file_name(f".{root.name}", ".lock"))):
        if _is_finished(root, spec):
            return
        partial = root.with_name(file_name(f".{root.name}", ".partial"))
        remove(partial)  # what a kill left
        try:
            partial.mkdir()
            _write_frames(partial, spec, workers or usable_cores(), progress)
            write_json(partial / MANIFEST, _manifest(spec))
            partial.rename(root)
        finally:
            remove(partial)


def _manifest(spec: StreetsSpec) -> dict[str, object]:
    return {"generator_version": GENERATOR_VERSION, "spec": {**asdict(spec), "size": list(spec.size)}}


def _is_finished(root: Path, spec: StreetsSpec) -> bool:
    """Whether the frames of the spec are in `root`; False where it is missing or empty."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    wrong = {"key": "data.root", "fix": "Set data.root=DIR to another folder, or delete this one."}
    try:
        found = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RequestError(f"data.root={root} holds files that are not synthetic streets.", **wrong) from None
    if found != _manifest(spec):
        raise RequestError(f"data.root={root} holds synthetic streets of another spec or version.", **wrong)
    return True


def _write_frames(root: Path, spec: StreetsSpec, workers: int, progress: Progress | None) -> None:
    """Write all frames, each worker its share of them."""
    frames = spec.frames()
    for folder in {path.parent for split, index in frames for path in _paths(root, split, index).values()}:
        folder.mkdir(parents=True, exist_ok=True)
    if workers == 1:
        for done, (split, index) in enumerate(frames, 1):
            _write_frame(root, spec, split, index)
            if progress:
                progress(done, len(frames))
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # OpenCV's threads do not survive a fork.
    try:
        _share_out(root, spec, frames, workers, progress)
    finally:
        cv2.setNumThreads(threads)


def _share_out(root: Path, spec: StreetsSpec, frames: list[Frame], workers: int, progress: Progress | None) -> None:
    """Write the frames in several processes; when one fails, all end."""
    # A fork spares every worker the import of the main module, but is safe on Linux alone.
    if sys.platform == "linux":
        start = multiprocessing.get_context("fork").Process
    else:
        start = multiprocessing.get_context("spawn").Process
    counts = multiprocessing.RawArray("l", workers)
    errors, report = multiprocessing.Pipe(duplex=False)
    processes = [
        start(target=_work, args=(root, spec, frames[i::workers], counts, i, report), daemon=True)
        for i in range(workers)
    ]
    try:
        for process in processes:
            process.start()
        pending = processes
        while pending:
            wait([process.sentinel for process in pending], timeout=0.2)
            pending = [process for process in pending if process.exitcode is None]
            failed = [process.exitcode for process in processes if process.exitcode]
            if failed and errors.poll():
                raise errors.recv()
            if failed:
                raise OSError(f"drawing the streets in {root} failed: a process ended with code {failed[0]}.")
            if progress:
                progress(sum(counts), len(frames))
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
                process.join()


def _work(
    root: Path,
    spec: StreetsSpec,
    frames: list[Frame],
    counts: MutableSequence[int],
    slot: int,
    report: Connection,
) -> None:
    """Write a worker's frames; stop when the process that started it is gone, and report what cannot be written."""
    cv2.setNumThreads(0)
    parent = multiprocessing.parent_process()
    for split, index in frames:
        if parent is not None and not parent.is_alive():
            return
        try:
            _write_frame(root, spec, split, index)
        except OSError as error:
            report.send(error)
            sys.exit(1)
        counts[slot] += 1


def _write_frame(root: Path, spec: StreetsSpec, split: str, index: int) -> None:
    """Draw one frame and write its files."""
    entropy = [spec.seed, list(CITIES).index(split), index]
    scene = draw_street(entropy, spec.size)
    pictures = {"leftImg8bit": scene.image}
    if split in FINE_SPLITS:
        pictures |= _label_pictures("gtFine", scene.label_ids)
    if split in COARSE_SPLITS:
        rng = np.random.default_rng(np.random.SeedSequence([*entropy, 1]))
        pictures |= _label_pictures("gtCoarse", coarse(scene.label_ids, rng))
    for kind, path in _paths(root, split, index).items():
        write_png(path, pictures[kind])


def _label_pictures(kind: str, label_ids: Labels) -> dict[str, Labels]:
    color = np.asarray(cv2.applyColorMap(label_ids, _PALETTE), np.uint8)
    return {f"{kind}_labelIds": label_ids, f"{kind}_color": color}


def _paths(root: Path, split: str, index: int) -> dict[str, Path]:
    """The files of a frame by their kind."""
    cities = CITIES[split]
    city = cities[index % len(cities)]
    stem = f"{city}_{index // len(cities):06d}_000019"
    return {kind: root / kind.split("_")[0] / split / city / f"{stem}_{kind}.png" for kind in _kinds(split)}


def _kinds(split: str) -> Iterator[str]:
    yield "leftImg8bit"
    for kind, splits in (("gtFine", FINE_SPLITS), ("gtCoarse", COARSE_SPLITS)):
        if split in splits:
            yield f"{kind}_labelIds"
            yield f"{kind}_color"
