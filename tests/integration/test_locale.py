"""Commands under a locale that is not UTF-8, with names that need more than ASCII."""

import json
import os
import re

import pytest
from omegaconf import OmegaConf

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.training.segmentation import Segmentation
from helpers import SEGMENTATION, files_in, random_image, save_module, write_checkpoint, write_cityscapes, write_image

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF8 = {"LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("größe")


@pytest.mark.slow
def test_prediction_that_begins_under_one_locale_goes_on_under_another(run, folder):
    write_checkpoint(folder / "model.ckpt")
    (folder / "model.ckpt").rename(folder / "modèle.ckpt")
    for number, name in enumerate(("fünf", "ä" * 123)):
        write_image(folder / "new.png", random_image(number))
        (folder / "straße").mkdir(exist_ok=True)
        (folder / "new.png").rename(folder / "straße" / f"{name}.png")
    call = ["predict.py", "checkpoint='modèle.ckpt'", "input='straße'", "output='größe'", "write=labels"]
    first = run(*call, cwd=folder, **ASCII)
    assert first.returncode == 0, first.stderr
    written = files_in(folder / "größe")
    assert {"fünf_labels.png", "predict.json"} < set(written)
    second = run(*call, cwd=folder, **UTF8)
    assert second.returncode == 0, second.stderr
    assert "2 of 2 were there already." in second.stdout
    assert files_in(folder / "größe") == written


def test_root_that_a_checkpoint_holds_is_found(run, folder):
    root = write_cityscapes(folder / "cityscapes", val=1).rename(folder / "städte")
    data = {"dataset": "fine", "root": str(root), "crop_size": [64, 128], "batch_size": 1, "num_workers": 0}
    module = Segmentation({**SEGMENTATION, "data": data, "trainer": {"precision": "32-true"}}, CITYSCAPES)
    save_module(module, folder / "eval.ckpt")
    call = ["eval.py", "checkpoint=eval.ckpt", "trainer.accelerator=cpu", "paths.run_dir='rühe'"]
    done = run(*call, cwd=folder, **ASCII, FASTSCNN_PROGRESS_SECONDS="0.05")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^eval: working \(\d+ s\)$", done.stdout, re.MULTILINE), "the imports take seconds"
    content = json.loads((folder / "rühe" / "eval.json").read_text(encoding="utf-8"))
    assert content["frames"] == 1
    assert os.listdir(folder / "rühe" / "images")


@pytest.mark.slow
def test_run_has_the_names_that_a_person_typed_under_any_locale(run, folder):
    root = write_cityscapes(folder / "training", train=2, val=1).rename(folder / "schöne städte")
    name = "ö" * 125  # 250 bytes
    call = ["data=fine", f"data.root='{root}'", "data.batch_size=2", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    done = run("train.py", *call, "data.num_workers=1", f"paths.run_dir='läufe/{name}'", cwd=folder, **ASCII)
    assert done.returncode == 0, done.stderr
    assert "did not arrive" not in done.stderr
    assert name in done.stdout.splitlines()[-1]
    record = json.loads((folder / "läufe" / name / "run.json").read_text(encoding="utf-8"))
    assert (record["status"], record["dataset"]["root"]) == ("finished", str(root))
    assert OmegaConf.load(folder / "läufe" / name / ".hydra" / "config.yaml").data.root == str(root)
    done = run("train.py", f"resume='läufe/{name}'", cwd=folder, **ASCII, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "is finished (epoch 1 of 1)" in done.stdout
    done = run("compare.py", "runs='läufe'", cwd=folder, **ASCII)
    assert done.returncode == 0, done.stderr
    assert "schöne städte" in (folder / "läufe" / "compare" / "comparison.csv").read_text(encoding="utf-8")


def test_comparison_shows_a_run_whose_name_is_no_text(run, folder):
    place = folder / "runs" / os.fsdecode(b"l\xe4uft")
    (place / "images").mkdir(parents=True)
    write_image(folder / "new.png", random_image(0, size=(8, 24)))
    (folder / "new.png").rename(place / "images" / "a_epoch0001.png")
    record = {"id": "a", "name": "fine", "status": "finished", "choices": {"data": "fine"}, "seed": 0}
    scores = {"val/miou": 0.5, "epoch": 1}
    record |= {"metrics": {"best": scores, "last": scores}, "command": f"python src/train.py paths.run_dir={place}"}
    (place / "run.json").write_text(json.dumps(record), encoding="utf-8")
    done = run("compare.py", "runs=runs", cwd=folder, **UTF8)
    assert done.returncode == 0, done.stderr
    assert "data:image/webp" in (folder / "runs" / "compare" / "index.html").read_text(encoding="utf-8")
