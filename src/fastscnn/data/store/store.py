"""The decoded store: every frame of a data set is decoded once, and then read by rows."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import cached_property
from pathlib import Path

import cv2
from filelock import FileLock, Timeout

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.datasets.frames import STRICT, Frame, Reading
from fastscnn.data.store.files import (
    Names,
    Stored,
    intact_stamp,
    source_stamp,
    stored_stamp,
    write_frame,
)
from fastscnn.data.store.index import Index
from fastscnn.data.store.stored_frames import StoredFrames
from fastscnn.utils.files import remove_leftovers
from fastscnn.utils.images import check_image_file
from fastscnn.utils.machine import usable_cores
from fastscnn.utils.names import file_name
from fastscnn.utils.progress import Progress
from fastscnn.utils.values import refused

VERSION = 2
"""Version of the format: raised by every change that gives the same files other bytes."""
AUTO = Path("data/store")
"""The folder of `data.store=auto`, below the working directory."""
SUFFIX = ".u8"
SPARE = 2**30
"""Bytes of the disk that a build leaves free."""


class StoreUnusable(Exception):
    """The store cannot be written to its folder; the message is the beginning of a sentence."""


class DecodedStore:
    """The decoded frames of one data set, of all splits and data options.

    It has a file for each frame, named after the files that it was decoded from, and an index with their sizes and
    times. A frame is decoded again if its source files or its file in the store changed.

    Args:
        parent: Folder of the stores. The folder of this data set is in it, named after its root and a digest of the
            root and the label table.
        root: Folder of the data set.
        classes: The meaning of the labels.
        reading: How the files are read; each setting of `exif`, and each table of colours, has a store of
            its own.
    """

    def __init__(self, parent: Path, root: str | Path, classes: ClassTable, reading: Reading = STRICT) -> None:
        self.root = Path(root)
        self.classes = classes
        self.reading = reading
        place = self.root.resolve()
        colors = [[reading.colors.colors, reading.colors.ignored]] if reading.colors else []
        key = json.dumps([VERSION, str(place), classes.train_ids.tolist(), reading.exif, *colors])
        self.folder = Path(parent) / file_name(place.name, f"-{hashlib.sha256(key.encode()).hexdigest()[:10]}")
        self._named: dict[Frame, Names] = {}

    def reader(self, frames: Sequence[Frame]) -> StoredFrames | None:
        """A reader of these frames; None if some of them are missing or outdated in the store.

        Raises:
            DataError: A file of a frame is missing.
        """
        if self._outdated(frames):
            return None
        return StoredFrames(self.folder, {frame: self._index.frames[self._file(frame)] for frame in frames})

    def build(self, frames: Sequence[Frame]) -> None:
        """Decode the frames that are missing or outdated, and drop those whose source files are gone.

        First prints how large they are, and checks the free space of the disk. Only one process builds a store; others
        wait for it and use its files. A build that was stopped is continued.

        Raises:
            DataError: A file of a frame is missing, broken, or holds a value that is not in the label table.
            StoreUnusable: The disk is too small, or cannot be written.
        """
        frames = list({self._file(frame): frame for frame in frames}.values())
        if not self._outdated(frames) and not self._gone(frames):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone(), self._index:
                self._tidy(frames)
                if outdated := self._outdated(frames):
                    self._renew(outdated)
        except BrokenPipeError:  # the reader of our output is gone
            raise
        except (OSError, NotImplementedError) as error:  # the latter where the file system has no locks
            if self._outdated(frames):
                reason = getattr(error, "strerror", None) or error
                raise StoreUnusable(f"{self.folder} cannot be written ({reason})") from None

    @cached_property
    def _index(self) -> Index:
        about = f"Frames of {self.root.resolve()}, labels of {self.classes.name}; made by data.store, may be deleted."
        return Index(self.folder, about)

    def _names(self, frame: Frame) -> Names:
        """What the frame and its files are called in the store."""
        if frame not in self._named:
            image, label = self._name(frame.image), None if frame.label is None else self._name(frame.label)
            digest = hashlib.sha256(json.dumps([image, label]).encode()).hexdigest()[:10]
            self._named[frame] = Names(file_name(frame.image.stem, f"-{digest}{SUFFIX}"), image, label)
        return self._named[frame]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path.resolve())

    def _file(self, frame: Frame) -> str:
        return self._names(frame).file

    def _outdated(self, frames: Sequence[Frame]) -> list[Frame]:
        """The frames whose files, or whose place in the store, are not as the index has them."""
        return [frame for frame in frames if not self._same_sources(frame) or not self._same_file(frame)]

    def _same_sources(self, frame: Frame) -> bool:
        stored = self._index.frames.get(self._file(frame))
        return stored is not None and stored.sources == tuple(
            source_stamp(path) for path in (frame.image, frame.label) if path is not None
        )

    def _same_file(self, frame: Frame) -> bool:
        file = self._file(frame)
        try:
            return stored_stamp((self.folder / file).stat()) == self._index.frames[file].stamp
        except OSError:
            return False

    def _gone(self, frames: Sequence[Frame]) -> list[str]:
        """Files of the store whose image or label was deleted."""
        wanted = {self._file(frame) for frame in frames}
        return [
            file
            for file, stored in self._index.frames.items()
            if file not in wanted
            and not all((self.root / path).exists() for path in (stored.image, stored.label) if path is not None)
        ]

    def _tidy(self, frames: Sequence[Frame]) -> None:
        """Delete frames whose source files are gone, and what a stopped build left."""
        remove_leftovers(self.folder)
        known = self._index.frames
        left = [path.name for path in self.folder.glob(f"*{SUFFIX}") if path.name not in known]
        if useless := [*self._gone(frames), *left]:
            self._index.drop(useless)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"Waiting for another run that decodes frames into {self.folder}", flush=True)
            with Progress("waiting for another run that decodes frames"):
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _renew(self, outdated: Sequence[Frame]) -> None:
        """Decode frames in parallel, unless the stored ones prove to be intact."""
        damaged = []
        with _single_threaded_opencv(), ThreadPoolExecutor(usable_cores()) as pool:
            with Progress("measuring the frames that are to be decoded"):
                self._announce(outdated, pool)
            jobs = {pool.submit(self._renewed, frame): self._same_sources(frame) for frame in outdated}
            try:
                with Progress("decoding", len(outdated), "frame", summary=True) as progress:
                    for job in as_completed(jobs):
                        stored, decoded = self._finish(job)
                        damaged += [stored.file] if decoded and jobs[job] else []
                        progress.advance()
            except StoreUnusable:
                pool.shutdown(cancel_futures=True)
                self._index.drop(map(self._file, outdated))  # the run needs the free space
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        if damaged:
            others = f" and {len(damaged) - 1:,} more files were" if len(damaged) > 1 else " was"
            print(f"{self.folder / damaged[0]}{others} damaged, and decoded again", flush=True)

    def _finish(self, job: Future[tuple[Stored, bool]]) -> tuple[Stored, bool]:
        """Add the result of a job to the index, and return it."""
        try:
            stored, decoded = job.result()
            self._index.add(stored)
        except OSError as error:
            raise StoreUnusable(f"{self.folder} cannot be written ({error.strerror})") from None
        return stored, decoded

    def _renewed(self, frame: Frame) -> tuple[Stored, bool]:
        """The frame in the store, and whether it had to be decoded."""
        file = self._file(frame)
        path, stored = self.folder / file, self._index.frames.get(file)
        if stored and self._same_sources(frame) and (stamp := intact_stamp(path, stored)):
            return stored._replace(stamp=stamp), False
        return write_frame(self.folder, frame, self._names(frame), self.classes, self.reading), True

    def _announce(self, outdated: Sequence[Frame], pool: ThreadPoolExecutor) -> None:
        """Print what will be decoded, and check that the disk has room for it.

        Raises:
            StoreUnusable: The disk has too little free space.
        """
        growth = sum(pool.map(self._growth, outdated))
        free = shutil.disk_usage(self.folder).free
        frames = f"{len(outdated):,} frame{'s'[: len(outdated) > 1]}"
        if growth > max(free - SPARE, 0):
            raise StoreUnusable(
                f"{self.folder} has {free / 1e9:,.1f} GB free, and {frames} take {growth / 1e9:,.1f} GB decoded, and "
                f"{SPARE / 1e9:.1f} GB must stay free"
            )
        if all(map(self._same_sources, outdated)):
            print(f"Checking {frames} of {self.folder}, whose files have other times", flush=True)
        else:
            size = f"{growth / 1e9:,.2f} GB of the {free / 1e9:,.1f} GB that are free"
            print(f"Decoding {frames} into {self.folder}, once ({size})", flush=True)

    def _growth(self, frame: Frame) -> int:
        """Bytes by which a frame will grow the store, from the header of its image."""
        try:
            header = check_image_file(frame.image, self.reading.max_pixels)
            pixels = header.width * header.height
        except OSError:  # decoding it will report what is wrong
            return 0
        path = self.folder / self._file(frame)
        size = pixels * (3 if frame.label is None else 4)
        return size - path.stat().st_size if path.exists() else size


def store_parent(setting: str | Path | bool | None) -> Path | None:
    """The folder of the stores that `data.store` names; None for `off`, which YAML reads as false.

    Raises:
        RequestError: It names none.
    """
    named = isinstance(setting, Path) or (isinstance(setting, str) and setting.strip() != "")
    if not named and setting is not None and setting is not False:
        raise refused("data.store", setting, "auto, off or a folder")
    if setting in ("off", False):
        return None
    return AUTO if setting in ("auto", None) else Path(os.path.expanduser(str(setting)))


@contextlib.contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    """Switch OpenCV's own threads off: they do not survive the fork of a worker."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
