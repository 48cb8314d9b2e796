"""Write a finished run into results/: its numbers, curve and pictures, which the README shows.

python benchmarks/publish_run.py RUN_DIR NAME
"""

import csv
import json
import sys
from datetime import datetime
from pathlib import Path

import cv2
import matplotlib
import numpy as np

from fastscnn.runs.record import read_record

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from fastscnn.utils.machine import describe_machine

RESULTS = Path(__file__).resolve().parents[1] / "results"


def numbers(folder: Path) -> dict[str, object]:
    record = read_record(folder)
    if record["status"] != "finished":
        raise SystemExit(f"{folder} is {record['status']}, not finished")
    started, finished = (datetime.fromisoformat(record[key]) for key in ("started", "finished"))
    return {
        "command": record["command"],
        "machine": describe_machine(),
        "device": record["device"],
        "versions": record["versions"],
        "git": record["git"],
        "choices": record["choices"],
        "seed": record["seed"],
        "started": record["started"],
        "minutes": round((finished - started).total_seconds() / 60, 1),
        "metrics": record["metrics"],
    }


def curve(folder: Path, path: Path) -> None:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    points = {
        name: [(int(row["trainer/global_step"]), float(row[name])) for row in rows if row.get(name)]
        for name in ("val/miou", "train/loss")
    }
    figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
    axis.plot(*zip(*points["val/miou"], strict=True), color="tab:blue")
    axis.set(xlabel="step", ylabel="val/miou", ylim=(0, None))
    axis.grid(alpha=0.3)
    loss = axis.twinx()
    smooth = np.convolve([value for _, value in points["train/loss"]], np.ones(20) / 20, "valid")
    loss.plot([step for step, _ in points["train/loss"][19:]], smooth, color="tab:orange", alpha=0.7)
    loss.set(ylabel="train/loss (mean of 20)", ylim=(0, None))
    figure.savefig(path, dpi=100)


def pictures(folder: Path, path: Path) -> None:
    images = sorted((folder / "images").glob("*.png"))
    last = max(image.stem.rpartition("_epoch")[2] for image in images)
    chosen = [cv2.imread(str(image)) for image in images if image.stem.endswith(f"_epoch{last}")]
    width = min(image.shape[1] for image in chosen)
    assert all(image.shape[1] == width for image in chosen)
    cv2.imwrite(str(path), np.concatenate(chosen[:3]), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def main() -> None:
    RESULTS.mkdir(exist_ok=True)
    folder, name = Path(sys.argv[1]), sys.argv[2]
    (RESULTS / f"{name}.json").write_text(json.dumps(numbers(folder), indent=2) + "\n")
    curve(folder, RESULTS / f"{name}_curve.png")
    pictures(folder, RESULTS / f"{name}_pictures.png")
    print(f"{RESULTS / name}.json, _curve.png and _pictures.png are written")


if __name__ == "__main__":
    main()
