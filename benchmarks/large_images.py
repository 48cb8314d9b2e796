"""How well the shipped CamVid network labels images that are larger than those it was trained on.

    python benchmarks/large_images.py CAMVID_DIR [--every 12] [--output FILE]

Every twelfth test frame of CamVid is enlarged (cubic) as if a camera of more pixels had taken it, and labelled at that
size: seen whole, and shrunk for the network to several longest sides (`longest_side`). A true camera's image is
sharper: this shows what the size of things does, not what detail does. Writes results/large_images.json and .md.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from harness import RESULTS, answer
from machine import measured

from fastscnn import Segmenter
from fastscnn.data.datasets.camvid import camvid_frames
from fastscnn.data.datasets.frames import Frame
from fastscnn.utils.files import write_json, write_text
from fastscnn.utils.images import read_rgb

FACTORS = (1, 1.5, 2, 3, 4, 8)
LONGEST = (None, 480, 720, 960)
CLASSES = 11


def enlarged(frames: Sequence[Frame], factor: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and their labels, both of the enlarged size."""
    for frame in frames:
        image, label = read_rgb(frame.image, upright=False), cv2.imread(str(frame.label), cv2.IMREAD_UNCHANGED)
        size = (round(label.shape[1] * factor), round(label.shape[0] * factor))
        if factor != 1:
            image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        yield image, cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT)


def miou(matrix: np.ndarray) -> float:
    """Mean IoU of the classes that occur, in percent."""
    hits = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    there = matrix.sum(1) > 0
    return float(100 * (hits[there] / union[there]).mean())


def measure(segmenter: Segmenter, frames: Sequence[Frame], factor: float) -> dict:
    matrix, seconds = np.zeros((CLASSES, CLASSES), np.int64), []
    for image, truth in enlarged(frames, factor):
        start = time.perf_counter()
        labels = segmenter(image)
        seconds.append(time.perf_counter() - start)
        counted = truth < CLASSES
        pairs = truth[counted].astype(np.int64) * CLASSES + labels[counted]
        matrix += np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    seen = segmenter.seen_size(image.shape[:2])
    return {
        "image": f"{image.shape[1]}x{image.shape[0]}",
        "longest_side": segmenter.longest_side,
        "seen": f"{seen[1]}x{seen[0]}",
        "miou": round(miou(matrix), 4),
        "accuracy": round(100 * float(np.diag(matrix).sum() / matrix.sum()), 2),
        "median_seconds": round(statistics.median(seconds), 3),
    }


def table(rows: Sequence[dict], frames: int) -> str:
    """The results as Markdown."""
    columns = [row["longest_side"] for row in rows[: len(LONGEST)]]
    lines = [
        "# Images larger than those the network was trained on",
        "",
        f"Test mIoU in percent of {frames} test frames of CamVid (480x360), enlarged, by the longest side at which the "
        "network sees them; in brackets the seconds that an image takes.",
        "",
        "| image | " + " | ".join("whole" if one is None else str(one) for one in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for start in range(0, len(rows), len(columns)):
        own = rows[start : start + len(columns)]
        cells = " | ".join(f"{row['miou']:.1f} ({row['median_seconds']:.2g})" for row in own)
        lines.append(f"| {own[0]['image']} | {cells} |")
    return "\n".join([*lines, ""])


def main(arguments: argparse.Namespace) -> None:
    frames = camvid_frames(arguments.root, "test")[:: arguments.every]
    segmenters = [Segmenter.from_pretrained("camvid", device="cpu", longest_side=longest) for longest in LONGEST]
    rows = []
    for factor in FACTORS:
        for segmenter in segmenters:
            rows.append(measure(segmenter, frames, factor))
            print(rows[-1], flush=True)
    result = {
        "what": "CamVid test frames, enlarged: mIoU and accuracy in percent by the size at which the network sees them",
        "frames": len(frames),
        "longest_side_auto": Segmenter.from_pretrained("camvid", device="cpu").longest_side,
        "rows": rows,
        **measured(),
        "command": f"python benchmarks/large_images.py CAMVID_DIR --every {arguments.every}",
    }
    write_json(arguments.output, result)
    write_text(arguments.output.with_suffix(".md"), table(rows, len(frames)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--every", type=int, default=12)
    parser.add_argument("--output", type=Path, default=RESULTS / "large_images.json")
    answer(main, parser.parse_args())
