"""Put a trained network into weights/: a folder that every command takes as checkpoint=, its card, and its numbers.

    python benchmarks/publish_weights.py RUN_DIR fast_scnn_camvid --data camvid --root DIR --held-out RUN_DIR ...
    python benchmarks/publish_weights.py RUN_DIR fast_scnn_streets --data streets --calibrate val

The network is written in safetensors, without the places of the machine that trained it. What was written is then
evaluated on the test split by `eval.py`, and the numbers go into results/NAME.json and into the card.

The temperature of its probabilities is fitted on frames that were not trained on: on the split that `--calibrate`
names, or, where all but the test frames were trained on, on the drives that were held out of the runs that `--held-out`
names. Then it is the geometric mean of the temperatures of these.
"""

import argparse
import hashlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import RESULTS, answer, finished_run
from machine import measured

from fastscnn.training.calibrate import keep_temperature
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import write_json, write_text

ROOT = RESULTS.parent
LARGEST = 10 * 2**20
PLACES = ("data.root", "data.store", "paths.run_dir", "paths.output_dir")
ABOUT = {
    "camvid": (
        "Trained on daylight and dusk drives in one city: other cities, cameras, night and weather were not tried.",
        "The terms of the data set hold for what is derived from it: see the page of the data set before you use the "
        "network commercially.",
    ),
    "streets": (
        "Trained on drawn pictures alone: what it says of photographs is of no use. It is for trying the commands "
        "without any data, and a start for networks on photographs of streets (`init.checkpoint=streets`).",
        "The frames are drawn by this package (`data=streets`), so no terms but those of the repository (Apache-2.0) "
        "hold; their classes and colours are those of Cityscapes.",
    ),
}
"""What a network of each data set was not tried on, and the terms of its data."""


def command(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)


def without_places(line: str) -> str:
    """A command line as another person would type it."""
    line = re.sub(r"^\S*python\S*", "python", line)
    line = re.sub(r"data\.root=\S+", "data.root=DIR", line)
    return re.sub(r" (data\.store|paths\.\w+)=\S+", "", line)


def export(run: Path, folder: Path) -> None:
    checkpoint = run / "checkpoints" / "best.ckpt"
    command("src/export.py", f"checkpoint={checkpoint}", "format=safetensors", f"output={folder}", "overwrite=true")
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["config"]["data"] |= {"root": None, "store": "auto"}
    write_json(path, content)
    if (size := (folder / "model.safetensors").stat().st_size) > LARGEST:
        raise RequestError(f"{folder} takes {size} bytes, and a network in the repository at most {LARGEST}.")


def evaluate(folder: Path, data: str | None, root: Path | None, split: str, *settings: str) -> dict:
    """The content of `eval.json`. Without `data` it is the checkpoint's own, whose val may be a held-out drive."""
    chosen = [f"data={data}"] * bool(data) + [f"data.root={root}"] * bool(root) + [f"split={split}", *settings]
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "evaluation"
        command("src/eval.py", f"checkpoint={folder}", *chosen, f"paths.run_dir={output}")
        content: dict = json.loads((output / "eval.json").read_text(encoding="utf-8"))
    return content


def held_out_drive(run: Path) -> str:
    """What a finished run was trained without.

    Raises:
        RequestError: It was trained on all, or has not finished.
    """
    drive: str | None = finished_run(run)["overrides"].get("data.held_out")
    if not drive:
        raise RequestError(f"{run} was trained without data.held_out, on all drives.", fix="Name a run that was not.")
    return drive


def by_drive(runs: Sequence[Path]) -> dict[str, Path]:
    """Held-out drive to the run that was trained without it.

    Raises:
        RequestError: As `held_out_drive`, or two runs are of one drive.
    """
    found: dict[str, Path] = {}
    for run in runs:
        other = found.setdefault(held_out_drive(run), run)
        if other is not run:
            raise RequestError(f"{other} and {run} were trained without the same drive.", fix="Name one of them.")
    return found


def fitted_on_held_out(runs: Mapping[str, Path], data: str, root: Path | None) -> dict[str, Any]:
    """The temperature of each run's best checkpoint on the drive that was held out of it, and their geometric mean.

    Args:
        runs: Held-out drive to the folder of the run.
    """
    of_each: dict[str, Any] = {}
    for drive, run in runs.items():
        with tempfile.TemporaryDirectory() as place:
            copy = shutil.copy(run / "checkpoints" / "best.ckpt", place)
            found = evaluate(Path(copy), None, root, "val", "calibrate=true", "pictures=0")["calibration"]
        of_each[drive] = {"temperature": found["temperature"], "ece": found["ece"]}
    mean = statistics.geometric_mean(one["temperature"] for one in of_each.values())
    return {"temperature": mean, "data": data, "split": "held-out drives", "of_each_drive": of_each}


def begun_with(record: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The network that a training began with, where it is the one that was published before in the results' `file`."""
    start = (record.get("init") or {}).get("sha256")
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    earlier = [before, before.get("training", {}).get("begun_with", {})]
    found = next((one for one in earlier if start and one.get("sha256") == start), {})
    return {key: found[key] for key in ("sha256", "metrics", "training") if key in found}


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def earlier(start: Mapping[str, Any] | None) -> str:
    """The card's line on the network that the training began with."""
    if not start:
        return ""
    training, miou = start["training"], percent(start["metrics"]["test/miou"])
    return (
        f"- Begun with an earlier network, of SHA-256 `{start['sha256'][:12]}…`, which has {miou} mIoU on the test "
        f"split. It was trained by `{training['command']}` ({training['minutes']} minutes, {training['device']})"
        f"{training.get('remark', '')}.\n"
    )


def card(name: str, result: dict) -> str:
    metrics, training = result["metrics"], result["training"]
    classes = {key.rpartition("/")[2]: value for key, value in metrics.items() if "/iou/" in key}
    worst = sorted(classes, key=classes.__getitem__)[:3]
    root = "" if result["data"] == "streets" else " data.root=DIR"
    evaluation = f"python src/eval.py checkpoint=weights/{name} data={result['data']}{root} split=test"
    drawn = "' classes on the synthetic streets" if result["data"] == "streets" else ""
    untried, terms = ABOUT[result["data"]]
    git = training.get("git") or {}
    commit = f", commit `{git['commit'][:12]}`" if git.get("commit") else ""
    calibration = result.get("calibration")
    calibrated = (
        f"- Probabilities: temperature {calibration['temperature']:.2f}, fitted on {calibration['split']}; expected "
        f"calibration error on test {percent(calibration['ece'])}, without it {percent(calibration['ece_before'])}.\n"
        if calibration
        else ""
    )
    spent = training.get("processor_minutes")
    took = f"{spent:g} minutes of one core" if spent else f"{training['minutes']} minutes"
    rows = "\n".join(f"| {label} | {100 * value:.1f} |" for label, value in classes.items())
    return f"""# {name}

Fast-SCNN for {result["dataset"]}{drawn}, {len(classes)} classes. Use: `checkpoint=weights/{name}` for every command, or
`Segmenter.from_checkpoint("weights/{name}")`.

- Trained by `{training["command"]}` ({took}, {training["device"]}, seed {training["seed"]}{commit}).
{earlier(training.get("begun_with"))}- Evaluated on the test split by `{evaluation}`:
  **{100 * metrics["test/miou"]:.1f} mIoU**, {100 * metrics["test/accuracy"]:.1f} % of the pixels. One seed.
- Weakest at {", ".join(worst)}. {untried}
- {terms}
{calibrated}- SHA-256 of `model.safetensors`: `{result["sha256"]}`.

| class | test IoU % |
| --- | --- |
{rows}
"""


def main(arguments: argparse.Namespace) -> None:
    folder = ROOT / "weights" / arguments.name
    record = finished_run(arguments.run)
    drives = by_drive(arguments.held_out or ())
    export(arguments.run, folder)
    evaluated = before = evaluate(folder, arguments.data, arguments.root, "test")
    fitted: dict[str, Any] = {}
    if arguments.calibrate:
        with tempfile.TemporaryDirectory() as place:  # a network that is shipped is not changed where it lies
            copy = Path(shutil.copytree(folder, Path(place) / folder.name))
            evaluate(copy, arguments.data, arguments.root, arguments.calibrate, "calibrate=true", "pictures=0")
            shutil.copy(copy / "config.json", folder)
        fitted = {"split": arguments.calibrate}
    elif drives:
        fitted = fitted_on_held_out(drives, arguments.data, arguments.root)
        keep_temperature(folder, fitted)
    if fitted:
        evaluated = evaluate(folder, arguments.data, arguments.root, "test")
        found = evaluated["calibration"]
        fitted |= {"temperature": found["temperature"], "ece_before": before["calibration"]["ece"], "ece": found["ece"]}
    started, finished = (datetime.fromisoformat(record[key]) for key in ("started", "finished"))
    file = RESULTS / f"{arguments.name.removeprefix('fast_scnn_')}_weights.json"
    start = begun_with(record, file)
    result = {
        "what": "a network of weights/, evaluated on the test split",
        "data": arguments.data,
        "dataset": json.loads((folder / "config.json").read_text(encoding="utf-8"))["classes"]["name"],
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "metrics": evaluated["metrics"],
        **({"calibration": fitted} if fitted else {}),
        "training": {
            "command": without_places(record["command"]),
            "overrides": {key: value for key, value in record["overrides"].items() if key not in PLACES},
            "choices": record["choices"],
            "seed": record["seed"],
            "device": record["device"],
            "versions": record["versions"],
            "git": record.get("git"),
            "minutes": round((finished - started).total_seconds() / 60, 1),
            **({"processor_minutes": arguments.processor_minutes} if arguments.processor_minutes else {}),
            **({"begun_with": start} if start else {}),
        },
        **measured(),
    }
    root = " --root DIR" if arguments.root else ""
    calibrate = f" --calibrate {arguments.calibrate}" if arguments.calibrate else ""
    calibrate += " --held-out" + len(arguments.held_out) * " RUN_DIR" if arguments.held_out else ""
    result["command"] = (
        f"python benchmarks/publish_weights.py RUN_DIR {arguments.name} --data {arguments.data}{root}{calibrate}"
    )
    write_json(file, result)
    write_text(folder / "README.md", card(arguments.name, result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", choices=list(ABOUT), required=True)
    parser.add_argument("--root", type=Path, help="of the data; the streets are generated")
    fitted = parser.add_mutually_exclusive_group()
    fitted.add_argument("--calibrate", metavar="SPLIT")
    fitted.add_argument("--held-out", type=Path, nargs="+", metavar="RUN_DIR", help="trained with data.held_out")
    parser.add_argument("--processor-minutes", type=float, help="of the training, on a machine shared with other work")
    answer(main, parser.parse_args())
