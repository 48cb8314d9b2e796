"""Tiny data sets on disk and other things that several tests need."""

import contextlib
import errno
import os
import resource
import subprocess
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import numpy.typing as npt
from cityscapesscripts.helpers.labels import labels as official_labels

FILE_IDS = np.array(sorted(label.id for label in official_labels if label.id >= 0), np.uint8)


def block_labels(size: tuple[int, int], seed: int, block: int = 8) -> npt.NDArray[np.uint8]:
    """Random label file of the official table's ids in square blocks; uint8 [H, W]."""
    rows, columns = -(-size[0] // block), -(-size[1] // block)
    ids = np.random.default_rng(seed).choice(FILE_IDS, (rows, columns))
    return np.kron(ids, np.ones((block, block), np.uint8))[: size[0], : size[1]]


def paint(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Picture whose every pixel tells its label: RGB (id * 7, 255 - id * 7, id * 3); uint8 [H, W, 3]."""
    return np.stack([ids * 7, 255 - ids * 7, ids * 3], axis=-1).astype(np.uint8)


def write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    assert cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def write_cityscapes(
    root: Path,
    size: tuple[int, int] = (64, 128),
    train: int = 3,
    val: int = 2,
    test: int = 0,
    train_extra: int = 0,
    seed: int = 0,
) -> Path:
    """Write frames in the Cityscapes layout, each image `paint`ed from its label; returns the root.

    Every split has two cities, and `test` has no label files.
    """
    counts = {"train": train, "val": val, "test": test, "train_extra": train_extra}
    for place, (split, count) in enumerate(counts.items()):
        label_type = "gtCoarse" if split == "train_extra" else "gtFine"
        for number in range(count):
            city = f"{split.replace('_', '')}{'ab'[number % 2]}"
            name = f"{city}_{number:06d}_000019"
            ids = block_labels(size, seed=1000 * seed + 100 * place + number)
            write_png(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", paint(ids))
            if split != "test":
                write_png(root / label_type / split / city / f"{name}_{label_type}_labelIds.png", ids)
    return root


class Disk:
    """A disk that can be filled: a small file system of its own or, where none can be mounted, one that is played."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder = folder
        self.mounted = mounted
        self._patches = contextlib.ExitStack()

    def fill(self) -> None:
        """From now on no byte can be written to it that it has not given room for already."""
        if self.mounted:
            with (self.folder / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
                for size in (2**16, 1):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(size))
            return

        def full(path: Path, *args: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        self._patches.enter_context(mock.patch.object(Path, "write_bytes", full))
        self._patches.enter_context(mock.patch.object(os, "posix_fallocate", full))

    def limit(self) -> None:
        """For a process that is started where no disk could be mounted: no file of it can grow beyond 5 MB."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, resource.RLIM_INFINITY))

    def close(self) -> None:
        self._patches.close()
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True, timeout=60)


@contextlib.contextmanager
def full_disk(folder: Path, mebibytes: int = 4):
    """A `Disk` at a folder that is made for it."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    mounted = False
    with contextlib.suppress(OSError):
        mounted = subprocess.run(mount, capture_output=True, timeout=60).returncode == 0
    disk = Disk(folder, mounted)
    try:
        yield disk
    finally:
        disk.close()
