"""Tiny data sets on disk and other things that several tests need."""

from pathlib import Path

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
