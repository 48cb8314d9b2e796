"""Twelve photographs with colour masks, and nothing else, through every command of docs/own_images.md."""

import json
import re
import shlex

import cv2
import pytest

from fastscnn.runs.record import read_record
from helpers import FAST, REPO, write_folder

QUICK = {"train.py": ["trainer.max_epochs=1", "logger=csv", *FAST], "eval.py": FAST}
"""Settings that the page has not, so that the test is quick."""


def commands():
    """Commands of the section from a folder to an exported network, as the page has them."""
    page = (REPO / "docs" / "own_images.md").read_text(encoding="utf-8")
    section = page.partition("## Train on your own images")[2].partition("### ")[0]
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL)).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line]


@pytest.fixture(scope="module")
def worked(run, tmp_path_factory):
    """The folder in which all commands were called, and what each printed."""
    cwd = tmp_path_factory.mktemp("newcomer")
    names = [f"garden/{number}" if number % 3 else str(number) for number in range(12)]
    write_folder(cwd / "photos", names, size=(64, 96))
    printed = {}
    for main, *arguments in commands():
        name = main.removeprefix("src/")
        done = run(name, *arguments, *QUICK.get(name, []), cwd=cwd)
        assert done.returncode == 0, f"{main} {arguments}: {done.stdout}{done.stderr}"
        printed[name] = done.stdout
    return cwd, printed


def test_page_has_every_step():
    assert [main for main, *_ in commands()] == [
        f"src/{name}.py" for name in ("check_data", "train", "eval", "predict", "export")
    ]


def test_classes_are_proposed_and_every_file_is_counted(worked):
    cwd, printed = worked
    assert (cwd / "photos" / "classes.yaml").is_file()
    assert "Nothing wrong was found" in printed["check_data.py"]
    splits = json.loads((cwd / "outputs" / "check_data.json").read_text())["splits"]
    assert sum(split["images"] for split in splits.values()) == 12


def test_training_says_what_it_chose_and_keeps_its_split(worked):
    cwd, printed = worked
    for setting in ("data.crop_size=[H,W]", "data.batch_size=N"):
        assert setting in printed["train.py"]
    record = read_record(cwd / "outputs" / "photos")
    assert record["settled"] == {"data.crop_size": [64, 96], "data.batch_size": 10, "optimizer.lr": 0.045}
    assert len((cwd / "outputs/photos/lists/val.txt").read_text().split("\n")) == 3


def test_evaluation_gives_the_score_of_the_training(worked):
    cwd, _ = worked
    (file,) = (cwd / "outputs").glob("eval*/*/eval.json")
    best = read_record(cwd / "outputs" / "photos")["metrics"]["best"]["val/miou"]
    assert json.loads(file.read_text())["metrics"]["val/miou"] == pytest.approx(best, abs=1e-6)


def test_every_image_has_labels_of_its_size_and_the_network_is_exported(worked):
    cwd, _ = worked
    images = sorted((cwd / "photos" / "images").rglob("*.jpg"))
    labels = sorted((cwd / "labelled").rglob("*.png"))
    assert len(images) == 12
    assert len(labels) >= 12
    assert cv2.imread(str(labels[0])).shape[:2] == (64, 96)
    assert (cwd / "photos.onnx").is_file()


def test_training_without_classes_names_the_command_that_proposes_them(run, tmp_path):
    write_folder(tmp_path / "photos", ["a", "b", "c"])
    done = run("train.py", "data=folder", "data.root=photos", cwd=tmp_path)
    assert done.returncode == 2
    assert "python src/check_data.py data=folder data.root=photos write=true" in done.stderr
    found = run("check_data.py", "data=folder", "data.root=photos", cwd=tmp_path)
    assert found.returncode == 1
    assert "classes.yaml is missing" in found.stderr
    assert "Proposed: photos/classes.yaml\n" in found.stdout
    own = ["data=folder", "data.root=photos", "data.classes=own.yaml", "write=true"]
    found = run("check_data.py", *own, cwd=tmp_path)
    assert "Written: own.yaml\n" in found.stdout and (tmp_path / "own.yaml").is_file()
