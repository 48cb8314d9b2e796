"""A recipe on CamVid with several seeds, trained on train and val and evaluated once on test, beside published numbers.

    python benchmarks/camvid_final.py CAMVID_DIR --runs DIR [--epochs 160] [--seeds 0 1 2] [--jobs 1] [SETTING ...]

Trains experiment=camvid_best, with the SETTINGs added to it. The runs lie in DIR: the same command goes on where it was
stopped. Writes results/camvid_final.json and .md whenever a run ends: means and standard deviations over the seeds.

A machine that is lent for minutes trains alone: there, with data.evaluate_test=false as the last SETTING, CAMVID_DIR
needs no test frames, and nothing is written into results/. The same command where they are, with DIR brought along,
evaluates each run's best checkpoint on test.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import RESULTS, answer
from machine import measured
from recipe import RARE, ROOT, TrainingError, digest_of, finished, folder_of, side_by_side, train

from fastscnn.runs.record import read_record
from fastscnn.utils.files import write_json, write_text

PUBLISHED = {"DABNet": 66.4, "FDDWNet": 66.9, "LMFFNet-S": 67.7, "LETNet": 70.5}
"""Test mIoU that networks of this size report, trained from scratch with 1,000 epochs and more."""
SEEN = "val/miou"
"""Frames that were trained on: what is lost from there to test is lost to other drives."""
BEFORE = RESULTS / "camvid.json"
"""A run of the paper's recipe, 160 epochs of train alone."""


def arguments_of(seed: int, epochs: int, root: Path, runs: Path, settings: Sequence[str]) -> list[str]:
    return [
        "experiment=camvid_best",
        f"data.root={root}",
        f"seed={seed}",
        f"trainer.max_epochs={epochs}",
        "logger=csv",
        "pictures=0",
        "trainer.save_every_epochs=5",
        f"data.store={runs / 'store'}",
        *settings,
        f"paths.run_dir={runs / f'{epochs}_epochs-{digest_of(settings)}' / f'seed{seed}'}",
    ]


def percent(metrics: Mapping[str, float]) -> dict[str, float]:
    """The test IoU of each class and their mean, in percent."""
    iou = {
        name.removeprefix("test/iou/"): 100 * value for name, value in metrics.items() if name.startswith("test/iou/")
    }
    return {"mIoU": 100 * metrics["test/miou"], **iou}


def evaluated(folder: Path, root: Path, split: str) -> Mapping[str, float]:
    """What `eval.py` finds of a run's best checkpoint on a split, once."""
    file = folder / split / "eval.json"
    if not file.exists():
        command = [
            sys.executable,
            "src/eval.py",
            f"checkpoint={folder / 'checkpoints' / 'best.ckpt'}",
            f"split={split}",
        ]
        command += [f"data.root={root}", "data.store=off", "logger=csv", "pictures=0", f"paths.run_dir={file.parent}"]
        if code := subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode:
            raise TrainingError(f"the evaluation of {folder.parent.name}/{folder.name} on {split} ended with {code}")
    metrics: Mapping[str, float] = json.loads(file.read_text(encoding="utf-8"))["metrics"]
    return metrics


def tested(folder: Path, metrics: Mapping[str, float], root: Path) -> Mapping[str, float]:
    """The metrics on test, and the mIoU on val, whose frames were trained on.

    Those on test are the run's own, or evaluated where it was trained without the test frames; as they were where there
    are none here either.
    """
    if "test/miou" not in metrics:
        if not (root / "test").is_dir():
            return metrics
        metrics = evaluated(folder, root, "test")
    return {**metrics, SEEN: evaluated(folder, root, "val")["val/miou"]}


def spread(runs: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation over the seeds of mIoU and each class; no deviation with one seed."""
    of_each = [percent(metrics) for metrics in runs.values()]
    columns = {name: [run[name] for run in of_each if name in run] for name in of_each[0]}
    return {
        name: {"mean": statistics.fmean(values), "deviation": statistics.stdev(values) if len(values) > 1 else None}
        for name, values in columns.items()
    }


def table(result: Mapping) -> str:
    """The results as Markdown."""
    seeds = ", ".join(result["seeds"])
    lines = [
        "# CamVid, evaluated once on test",
        "",
        f"`{result['training']}`, seeds {seeds}: test IoU in percent, mean and standard deviation over the seeds.",
        "",
        "| | mean | deviation | paper's recipe |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, found in result["iou"].items():
        deviation = "" if found["deviation"] is None else f"{found['deviation']:.1f}"
        before = result["paper_recipe"].get(name)
        lines.append(f"| {name} | {found['mean']:.1f} | {deviation} | {'' if before is None else f'{before:.1f}'} |")
    published = ", ".join(f"{name} {value}" for name, value in PUBLISHED.items())
    seen = statistics.fmean(result["miou_on_val_that_was_trained_on"].values())
    lines += ["", f"On the frames of val, which were trained on, the mIoU is {seen:.1f}."]
    return "\n".join([*lines, "", f"Published, from scratch: {published}. Rare classes: {', '.join(RARE)}.", ""])


def main(arguments: argparse.Namespace) -> None:
    root, runs, found = arguments.root.resolve(), arguments.runs.resolve(), {}
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)

    def run(seed: int) -> Mapping[str, float]:
        command = arguments_of(seed, arguments.epochs, root, runs, arguments.settings)
        return tested(folder_of(command), finished(folder_of(command), "best") or train(command, threads, "best"), root)

    def trained_on(seed: int) -> dict[str, Any]:
        command = arguments_of(seed, arguments.epochs, root, runs, arguments.settings)
        record = read_record(folder_of(command))
        begun, ended = (datetime.fromisoformat(record[name]) for name in ("started", "finished"))
        return {"device": record["device"], "minutes": round((ended - begun).total_seconds() / 60, 1)}

    def write() -> None:
        command = arguments_of(arguments.seeds[0], arguments.epochs, Path("DIR"), Path("RUNS"), arguments.settings)
        result = {
            "what": "CamVid: trained on train and val, evaluated once on test after the last epoch, in percent",
            "training": " ".join(["python src/train.py", *command[:2], command[3], *arguments.settings]),
            "trained_on": {str(seed): trained_on(seed) for seed in sorted(found)},
            "seeds": {str(seed): percent(metrics) for seed, metrics in sorted(found.items())},
            "iou": spread(found),
            "miou_on_val_that_was_trained_on": {str(seed): 100 * found[seed][SEEN] for seed in sorted(found)},
            "published": PUBLISHED,
            "paper_recipe": percent(json.loads(BEFORE.read_text(encoding="utf-8"))["metrics"]["best"]),
            **measured(),
            "command": f"python benchmarks/camvid_final.py CAMVID_DIR --runs DIR --epochs {arguments.epochs}"
            + "".join(f" {setting}" for setting in arguments.settings),
        }
        write_json(arguments.output, result)
        write_text(arguments.output.with_suffix(".md"), table(result))

    for (seed,), metrics in side_by_side(run, [(seed,) for seed in arguments.seeds], arguments.jobs):
        if isinstance(metrics, Exception):
            print(f"A run cannot be trained: {metrics}", file=sys.stderr)
            raise SystemExit(2)
        found[seed] = metrics
        if "test/miou" in metrics:
            write()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, outside the checkout")
    parser.add_argument("--epochs", type=int, default=160)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--output", type=Path, default=RESULTS / "camvid_final.json")
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="added to every run")
    answer(main, parser.parse_intermixed_args())
