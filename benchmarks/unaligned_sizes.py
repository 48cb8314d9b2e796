"""What padding to multiples of 32 brings a network that was trained on such multiples, on frames of other sizes.

    python benchmarks/unaligned_sizes.py CAMVID_DIR [--output FILE]

Both shipped networks were trained on crops whose sides, as the network sees them, are multiples of 32. CamVid's test
frames are seen at 720x960, which is none; those of the drawn streets (data=streets, seed 0) are cut to sizes that are
and are not. Labelled by `Segmenter` as they are and padded. Writes results/unaligned_sizes.json and .md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from harness import RESULTS, answer
from large_images import miou
from machine import measured

from fastscnn import Segmenter
from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datasets.camvid import camvid_frames
from fastscnn.utils.files import write_json, write_text
from fastscnn.utils.images import read_rgb

CUTS = ((256, 512), (252, 500), (248, 488), (240, 480), (232, 460), (226, 450))
"""Heights and widths of the drawn streets."""
STREETS = {"dataset": "streets", "root": None, "crop_size": "full", "batch_size": 1, "num_workers": 0, "store": "off"}


def camvid(root: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for frame in camvid_frames(root, "test"):
        yield read_rgb(frame.image, upright=False), cv2.imread(str(frame.label), cv2.IMREAD_UNCHANGED)


def streets() -> list[tuple[np.ndarray, np.ndarray]]:
    data = build_data(STREETS)
    data.prepare_data()
    return [(one["image"][0].permute(1, 2, 0).numpy(), one["label"][0].numpy()) for one in data.whole_frames("test")]


def measure(segmenter: Segmenter, multiple: int, frames: Iterator | list, size: tuple[int, int] | None = None) -> float:
    segmenter.multiple = multiple
    classes = segmenter.classes.num_classes
    matrix = np.zeros((classes, classes), np.int64)
    for image, truth in frames:
        if size:
            image, truth = image[: size[0], : size[1]], truth[: size[0], : size[1]]
        labels = segmenter(np.ascontiguousarray(image))
        counted = truth < classes
        pairs = truth[counted].astype(np.int64) * classes + labels[counted]
        matrix += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return round(miou(matrix), 4)


def main(arguments: argparse.Namespace) -> None:
    rows = []
    network = Segmenter.from_pretrained("camvid", device="cpu", longest_side=None)
    own = network.multiple
    plain, padded = (measure(network, multiple, camvid(arguments.root)) for multiple in (1, own))
    rows.append({"frames": "CamVid test", "size": "360x480", "seen": "720x960", "as_it_is": plain, "padded": padded})
    network, frames = Segmenter.from_pretrained("streets", device="cpu", longest_side=None), streets()
    own = network.multiple
    for height, width in CUTS:
        plain, padded = (measure(network, multiple, frames, (height, width)) for multiple in (1, own))
        size = f"{height}x{width}"
        rows.append({"frames": "drawn streets, test", "size": size, "seen": size, "as_it_is": plain, "padded": padded})
    result = {
        "what": "test mIoU in percent of the shipped networks on frames as they are, and padded to multiples of 32",
        "rows": rows,
        **measured(),
        "command": "python benchmarks/unaligned_sizes.py CAMVID_DIR",
    }
    write_json(arguments.output, result)
    write_text(arguments.output.with_suffix(".md"), table(rows))


def table(rows: list[dict]) -> str:
    """The results as Markdown."""
    lines = [
        "# Frames whose sides are no multiples of 32",
        "",
        "Test mIoU in percent of the shipped networks, which were trained on multiples.",
        "",
        "| frames | size | as the network sees it | as it is | padded |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for row in rows:
        cells = (row["frames"], row["size"], row["seen"], f"{row['as_it_is']:.1f}", f"{row['padded']:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--output", type=Path, default=RESULTS / "unaligned_sizes.json")
    answer(main, parser.parse_args())
