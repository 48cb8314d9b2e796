"""Put a trained network into weights/: a folder that every command takes as checkpoint=, its card, and its numbers.

    python benchmarks/publish_weights.py RUN_DIR fast_scnn_camvid --data camvid --root DIR
    python benchmarks/publish_weights.py RUN_DIR fast_scnn_streets --data streets --calibrate val

The network is written in safetensors, without the places of the machine that trained it. What was written is then
evaluated on the test split by `eval.py`, and the numbers go into results/NAME.json and into the card. `--calibrate`
names a split that the network was not trained on: the temperature of its probabilities is fitted there.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from harness import RESULTS
from machine import measured

from fastscnn.runs.record import read_record
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
        "Trained on drawn pictures alone: on photographs it is of no use. It is for trying the commands without any "
        "data, and as a start for networks on drawn scenes.",
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
        raise SystemExit(f"{folder} takes {size} bytes: a network in the repository takes at most {LARGEST}")


def evaluate(folder: Path, data: str, root: Path | None, split: str, *settings: str) -> dict:
    """The content of `eval.json`."""
    chosen = [f"data={data}", *([f"data.root={root}"] if root else []), f"split={split}", *settings]
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "evaluation"
        command("src/eval.py", f"checkpoint={folder}", *chosen, f"paths.run_dir={output}")
        content: dict = json.loads((output / "eval.json").read_text(encoding="utf-8"))
    return content


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
        f"calibration error on test {100 * calibration['ece']:.1f} %.\n"
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
- Evaluated on the test split by `{evaluation}`:
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
    record = read_record(arguments.run)
    if record["status"] != "finished":
        raise SystemExit(f"{arguments.run} is {record['status']}, not finished")
    export(arguments.run, folder)
    if arguments.calibrate:
        evaluate(folder, arguments.data, arguments.root, arguments.calibrate, "calibrate=true", "pictures=0")
    evaluated = evaluate(folder, arguments.data, arguments.root, "test")
    found = evaluated.get("calibration", {})
    calibration = {"split": arguments.calibrate, "temperature": found.get("temperature"), "ece": found.get("ece")}
    started, finished = (datetime.fromisoformat(record[key]) for key in ("started", "finished"))
    result = {
        "what": "a network of weights/, evaluated on the test split",
        "data": arguments.data,
        "dataset": json.loads((folder / "config.json").read_text(encoding="utf-8"))["classes"]["name"],
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "metrics": evaluated["metrics"],
        **({"calibration": calibration} if arguments.calibrate else {}),
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
        },
        **measured(),
    }
    root = " --root DIR" if arguments.root else ""
    calibrate = f" --calibrate {arguments.calibrate}" if arguments.calibrate else ""
    result["command"] = (
        f"python benchmarks/publish_weights.py RUN_DIR {arguments.name} --data {arguments.data}{root}{calibrate}"
    )
    write_json(RESULTS / f"{arguments.name.removeprefix('fast_scnn_')}_weights.json", result)
    write_text(folder / "README.md", card(arguments.name, result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", choices=list(ABOUT), required=True)
    parser.add_argument("--root", type=Path, help="of the data; the streets are generated")
    parser.add_argument("--calibrate", metavar="SPLIT")
    parser.add_argument("--processor-minutes", type=float, help="of the training, on a machine shared with other work")
    main(parser.parse_args())
