"""Evaluate a network of weights/ on test again, as when evaluation itself has changed, and write its numbers anew.

    python benchmarks/evaluate_weights.py fast_scnn_camvid [--root CAMVID_DIR] [--begun-with DIR]

What results/NAME_weights.json says of the network's training and of where its temperature comes from stays; its
metrics, its calibration error with and without the temperature, and the card are written anew; with --begun-with, the
folder of the network that the training began with, the metrics of this too.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from harness import RESULTS, answer
from machine import measured
from publish_weights import ROOT, card, evaluate

from fastscnn.training.calibrate import KEY
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import write_json, write_text


def without_temperature(folder: Path, place: Path) -> Path:
    """A copy of a network whose probabilities are as they were before the fit."""
    copy = Path(shutil.copytree(folder, place / folder.name))
    content = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    content["config"].pop(KEY)
    write_json(copy / "config.json", content)
    return copy


def main(arguments: argparse.Namespace) -> None:
    folder = ROOT / "weights" / arguments.name
    file = RESULTS / f"{arguments.name.removeprefix('fast_scnn_')}_weights.json"
    for needed in (folder / "model.safetensors", file):
        if not needed.is_file():
            raise RequestError(f"{needed} does not exist.", fix="Publish the network first (publish_weights.py).")
    result = json.loads(file.read_text(encoding="utf-8"))
    start = result["training"].get("begun_with", {})
    for known, place in ((result, folder), (start, arguments.begun_with)):
        if place and known.get("sha256") != hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest():
            raise RequestError(f"{file} does not name the network in {place}.", fix="Publish it (publish_weights.py).")
    found = evaluate(folder, result["data"], arguments.root, "test")
    result["metrics"] = found["metrics"]
    if arguments.begun_with:
        start["metrics"] = evaluate(arguments.begun_with, result["data"], arguments.root, "test")["metrics"]
    if KEY in result:
        with tempfile.TemporaryDirectory() as place:
            before = evaluate(without_temperature(folder, Path(place)), result["data"], arguments.root, "test")
        result[KEY] |= {"ece_before": before["calibration"]["ece"], "ece": found["calibration"]["ece"]}
    result |= measured()
    root = " --root DIR" if arguments.root else ""
    begun = " --begun-with DIR" if arguments.begun_with else ""
    result["command"] = f"python benchmarks/evaluate_weights.py {arguments.name}{root}{begun}"
    write_json(file, result)
    write_text(folder / "README.md", card(arguments.name, result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--root", type=Path, help="of the data; the streets are generated")
    parser.add_argument("--begun-with", type=Path, metavar="DIR", help="the network that its training began with")
    answer(main, parser.parse_args())
