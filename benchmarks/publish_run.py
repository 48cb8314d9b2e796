"""Write a finished run into results/: its numbers, curve and pictures, which the README shows.

python benchmarks/publish_run.py RUN_DIR NAME
"""

import argparse
import csv
from datetime import datetime
from pathlib import Path

import matplotlib
import numpy as np
from harness import RESULTS, answer, finished_run

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from fastscnn.utils.files import write_json, write_png
from fastscnn.utils.images import read_rgb
from fastscnn.utils.machine import describe_machine


def numbers(folder: Path) -> dict[str, object]:
    record = finished_run(folder)
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
    chosen = [read_rgb(image, upright=False) for image in images if image.stem.endswith(f"_epoch{last}")]
    width = min(image.shape[1] for image in chosen)
    assert all(image.shape[1] == width for image in chosen)
    write_png(path, np.concatenate(chosen[:3]), compression=9)


def main(folder: Path, name: str) -> None:
    write_json(RESULTS / f"{name}.json", numbers(folder))
    curve(folder, RESULTS / f"{name}_curve.png")
    pictures(folder, RESULTS / f"{name}_pictures.png")
    print(f"{RESULTS / name}.json, _curve.png and _pictures.png are written")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    chosen = parser.parse_args()
    answer(main, chosen.run, chosen.name)
