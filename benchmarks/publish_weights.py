"""Put a trained network into weights/: a folder that every command takes as checkpoint=, its card, and its numbers.

    python benchmarks/publish_weights.py RUN_DIR NAME --data DATA --root DIR

The network is written in safetensors, without the places of the machine that trained it. What was written is then
evaluated on the test split by `eval.py`, and the numbers go into results/NAME.json and into the card.
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


def evaluate(folder: Path, data: str, root: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "evaluation"
        command(
            "src/eval.py",
            f"checkpoint={folder}",
            f"data={data}",
            f"data.root={root}",
            "split=test",
            f"paths.run_dir={output}",
        )
        metrics: dict[str, float] = json.loads((output / "eval.json").read_text(encoding="utf-8"))["metrics"]
    return metrics


def card(name: str, result: dict) -> str:
    metrics, training = result["metrics"], result["training"]
    classes = {key.rpartition("/")[2]: value for key, value in metrics.items() if "/iou/" in key}
    worst = sorted(classes, key=classes.__getitem__)[:3]
    evaluation = f"python src/eval.py checkpoint=weights/{name} data={result['data']} data.root=DIR split=test"
    rows = "\n".join(f"| {label} | {100 * value:.1f} |" for label, value in classes.items())
    return f"""# {name}

Fast-SCNN for {result["dataset"]}, {len(classes)} classes. Use: `checkpoint=weights/{name}` for every command, or
`Segmenter.from_checkpoint("weights/{name}")`.

- Trained by `{training["command"]}` ({training["minutes"]} minutes, {training["device"]}, seed {training["seed"]}).
- Evaluated on the test split by `{evaluation}`:
  **{100 * metrics["test/miou"]:.1f} mIoU**, {100 * metrics["test/accuracy"]:.1f} % of the pixels. One seed.
- Weakest at {", ".join(worst)}. Trained on daylight and dusk drives in one city: other cities, cameras, night and
  weather were not tried.
- The terms of the data set hold for what is derived from it: see the page of the data set before you use the network
  commercially.
- SHA-256 of `model.safetensors`: `{result["sha256"]}`.

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
    started, finished = (datetime.fromisoformat(record[key]) for key in ("started", "finished"))
    result = {
        "what": "a network of weights/, evaluated on the test split",
        "data": arguments.data,
        "dataset": json.loads((folder / "config.json").read_text(encoding="utf-8"))["classes"]["name"],
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "metrics": evaluate(folder, arguments.data, arguments.root),
        "training": {
            "command": without_places(record["command"]),
            "overrides": {key: value for key, value in record["overrides"].items() if key not in PLACES},
            "choices": record["choices"],
            "seed": record["seed"],
            "device": record["device"],
            "versions": record["versions"],
            "minutes": round((finished - started).total_seconds() / 60, 1),
        },
        **measured(),
    }
    result["command"] = (
        f"python benchmarks/publish_weights.py RUN_DIR {arguments.name} --data {arguments.data} --root DIR"
    )
    write_json(RESULTS / f"{arguments.name.removeprefix('fast_scnn_')}_weights.json", result)
    write_text(folder / "README.md", card(arguments.name, result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--root", type=Path, required=True)
    main(parser.parse_args())
