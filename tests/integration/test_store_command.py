"""`data.store`: a training sees the same with and without it, and what is broken is refused before it."""

import csv
import json

import numpy as np

from helpers import FAST, write_cityscapes, write_png


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return [(row["train/loss"], row["val/miou"]) for row in csv.DictReader(file)]


def test_training_is_the_same_with_and_without_the_store(run, tmp_path):
    write_cityscapes(tmp_path / "cs", size=(32, 64), train=4, val=2)
    few = ["data=fine", "data.root=cs", "data.batch_size=2", "trainer.max_epochs=1", "trainer.log_every_n_steps=1"]

    def train(name, *settings):
        done = run("train.py", *few, "logger=csv", f"paths.run_dir={name}", *settings, *FAST, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads((tmp_path / name / "run.json").read_text())["dataset"]["store"]

    said, folder = train("with")
    assert said.count("Decoding 6 frames into data/store/cs-") == 1
    assert (tmp_path / folder).is_dir()
    said, folder = train("without", "data.store=off")
    assert (folder, "Decoding" in said) == (None, False)
    assert rows_of(tmp_path / "with") == rows_of(tmp_path / "without") != []


def test_frame_that_cannot_be_decoded_ends_the_request_before_a_run_is_made(run, tmp_path):
    write_cityscapes(tmp_path / "cs", size=(32, 64), train=4, val=2)
    label = sorted((tmp_path / "cs" / "gtFine" / "val").rglob("*.png"))[0]
    write_png(label, np.full((32, 64), 77, np.uint8))
    done = run("train.py", "data=fine", f"data.root={tmp_path / 'cs'}", "data.batch_size=2", *FAST, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{label}: label value 77 is not in the Cityscapes table")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()
