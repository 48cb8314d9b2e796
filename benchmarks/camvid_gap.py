"""How well the CamVid network labels frames it was trained on, other minutes of a drive of theirs, and another drive.

    python benchmarks/camvid_gap.py CAMVID_DIR [--checkpoint camvid]

What it loses between the first and the others is not for want of capacity: it is what three drives do not teach. Test
holds both kinds of unseen frames: 62 of 0001TP, whose other frames are trained on, and all of Seq05VD. Writes
results/camvid_gap.json and .md.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness import RESULTS, answer
from machine import measured
from publish_weights import evaluate
from recipe import RARE

from fastscnn.data.datasets.camvid import camvid_frames
from fastscnn.data.datasets.frames import Frame
from fastscnn.utils.files import write_json, write_text

TRAINED_ON = "trained on (train and val)"


def groups_of(root: Path) -> dict[str, list[Frame]]:
    """The frames by what training saw of their drive."""
    seen = camvid_frames(root, "train") + camvid_frames(root, "val")
    drives = {drive_of(frame) for frame in seen}
    groups = {TRAINED_ON: seen}
    for frame in camvid_frames(root, "test"):
        drive = drive_of(frame)
        known = "other minutes of a drive trained on" if drive in drives else "a drive never seen"
        groups.setdefault(f"{drive}, {known}", []).append(frame)
    return groups


def drive_of(frame: Frame) -> str:
    return frame.name.partition("_")[0]


def linked(frames: list[Frame], root: Path) -> Path:
    """A folder in CamVid's layout whose test split is these frames."""
    for name in ("test", "testannot"):
        (root / name).mkdir()
    for frame in frames:
        (root / "test" / frame.image.name).symlink_to(frame.image)
        (root / "testannot" / frame.label.name).symlink_to(frame.label)
    return root


def percent(metrics: Mapping[str, float]) -> dict[str, float]:
    """mIoU, the mean of the rare classes, and each class, in percent."""
    iou = {key.rpartition("/")[2]: 100 * value for key, value in metrics.items() if "/iou/" in key}
    rare = statistics.fmean(iou[name] for name in RARE if name in iou)
    return {"mIoU": 100 * metrics["test/miou"], "rare classes": rare, **iou}


def table(groups: Mapping[str, Mapping]) -> str:
    """The results as Markdown."""
    names = list(next(iter(groups.values()))["iou"])
    lines = [
        "# What the CamVid network has seen, and how well it labels it",
        "",
        "IoU in percent.",
        "",
        "| | " + " | ".join(f"{group} ({found['frames']} frames)" for group, found in groups.items()) + " |",
        "| --- |" + " ---: |" * len(groups),
    ]
    for name in names:
        values = (found["iou"].get(name) for found in groups.values())
        lines.append(f"| {name} | " + " | ".join("" if value is None else f"{value:.1f}" for value in values) + " |")
    return "\n".join([*lines, "", f"Rare classes: {', '.join(RARE)}.", ""])


def main(arguments: argparse.Namespace) -> None:
    groups = {}
    for group, frames in groups_of(arguments.root.resolve()).items():
        with tempfile.TemporaryDirectory() as place:
            root = linked(frames, Path(place))
            found = evaluate(Path(arguments.checkpoint), "camvid", root, "test", "data.store=off", "pictures=0")
        groups[group] = {
            "frames": len(frames),
            "iou": percent(found["metrics"]),
            "expected_calibration_error": 100 * found["calibration"]["ece"],
        }
    result = {
        "what": "CamVid: the IoU of a network on frames by what its training saw of their drive, percent",
        "checkpoint": arguments.checkpoint,
        "groups": groups,
        **measured(),
        "command": "python benchmarks/camvid_gap.py CAMVID_DIR",
    }
    write_json(arguments.output, result)
    write_text(arguments.output.with_suffix(".md"), table(groups))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--checkpoint", default="camvid")
    parser.add_argument("--output", type=Path, default=RESULTS / "camvid_gap.json")
    answer(main, parser.parse_args())
