"""Write what the skip connection is worth to a trained network into results/: two numbers, and the gallery of Figure 3.

python src/eval.py checkpoint=FILE split=test
python src/eval.py checkpoint=FILE split=test skip=zero
python benchmarks/publish_skip.py EVAL_DIR EVAL_DIR_SKIP_ZERO NAME
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from harness import RESULTS, answer

from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import write_json, write_png
from fastscnn.utils.images import read_rgb
from fastscnn.utils.machine import describe_machine

PANEL_WIDTH = 240  # pixels in the gallery


def evaluation(folder: Path, skip: str) -> dict:
    file = folder / "eval.json"
    if not file.is_file():
        raise RequestError(f"{folder} holds no evaluation ({file.name}).", fix="Name a folder that eval.py wrote.")
    content = json.loads(file.read_text(encoding="utf-8"))
    if (found := content["model"]["skip"]) != skip:
        raise RequestError(f"{folder} was evaluated with skip={found}.", fix=f"Evaluate it with skip={skip}.")
    return content


def panels(folder: Path, picture: str) -> list[np.ndarray]:
    image = read_rgb(folder / picture, upright=False)
    parts = np.split(image, 3, axis=1)
    height = round(PANEL_WIDTH * parts[0].shape[0] / parts[0].shape[1])
    return [cv2.resize(part, (PANEL_WIDTH, height), interpolation=cv2.INTER_AREA) for part in parts]


def gallery(keep: Path, zero: Path, pictures: list[str]) -> np.ndarray:
    rows = []
    for picture in pictures:
        _, _, without = panels(zero, picture)
        rows.append(np.concatenate([*panels(keep, picture), without], axis=1))
    titles = np.full((24, 4 * PANEL_WIDTH, 3), 255, np.uint8)
    for column, title in enumerate(("input", "truth", "prediction", "without the skip connection")):
        at = (column * PANEL_WIDTH + 4, 17)
        cv2.putText(titles, title, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([titles, *rows])


def main(keep_folder: Path, zero_folder: Path, name: str) -> None:
    keep, zero = evaluation(keep_folder, "keep"), evaluation(zero_folder, "zero")
    if (keep["checkpoint"], keep["split"]) != (zero["checkpoint"], zero["split"]):
        raise RequestError(
            f"{keep_folder} and {zero_folder} are evaluations of different checkpoints or splits.",
            fix="Evaluate one checkpoint on one split, with and without skip=zero.",
        )
    content = {
        "machine": describe_machine(),
        "versions": keep["versions"],
        "run": keep["run"],
        "data": keep["data"],
        "split": keep["split"],
        "frames": keep["frames"],
        "keep": {"command": keep["command"], "metrics": keep["metrics"]},
        "zero": {"command": zero["command"], "metrics": zero["metrics"]},
    }
    write_json(RESULTS / f"{name}.json", content)
    image = gallery(keep_folder, zero_folder, keep["pictures"])
    write_png(RESULTS / f"{name}.png", image, compression=9)
    print(f"{RESULTS / name}.json and .png are written")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("keep", type=Path, help="what eval.py wrote")
    parser.add_argument("zero", type=Path, help="what eval.py wrote with skip=zero")
    parser.add_argument("name")
    chosen = parser.parse_args()
    answer(main, chosen.keep, chosen.zero, chosen.name)
