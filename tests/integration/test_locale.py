"""Commands under a locale that is not UTF-8, with names that need more than ASCII."""

import json
import os

import pytest
import torch
from test_checkpoint import CONFIG
from test_predict import files, picture, write_checkpoint, write_image

from fastscnn.data.classes import CITYSCAPES
from fastscnn.training.segmentation import Segmentation
from helpers import write_cityscapes

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF8 = {"LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("größe")


def test_prediction_that_begins_under_one_locale_goes_on_under_another(run, folder):
    write_checkpoint(folder / "model.ckpt")
    (folder / "model.ckpt").rename(folder / "modèle.ckpt")
    for number, name in enumerate(("fünf", "ä" * 123)):
        write_image(folder / "new.png", picture(number))
        (folder / "straße").mkdir(exist_ok=True)
        (folder / "new.png").rename(folder / "straße" / f"{name}.png")
    call = ["predict.py", "checkpoint='modèle.ckpt'", "input='straße'", "output='größe'", "write=labels"]
    first = run(*call, cwd=folder, **ASCII)
    assert first.returncode == 0, first.stderr
    written = files(folder / "größe")
    assert {"fünf_labels.png", "predict.json"} < set(written)
    second = run(*call, cwd=folder, **UTF8)
    assert second.returncode == 0, second.stderr
    assert "2 of 2 were there already." in second.stdout
    assert files(folder / "größe") == written


def test_root_that_a_checkpoint_holds_is_found(run, folder):
    root = write_cityscapes(folder / "cityscapes", val=1).rename(folder / "städte")
    data = {"dataset": "fine", "root": str(root), "crop_size": [64, 128], "batch_size": 1, "num_workers": 0}
    module = Segmentation({**CONFIG, "data": data, "trainer": {"precision": "32-true"}}, CITYSCAPES)
    content = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    torch.save(content, folder / "eval.ckpt")
    done = run(
        "eval.py", "checkpoint=eval.ckpt", "trainer.accelerator=cpu", "paths.run_dir='rühe'", cwd=folder, **ASCII
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((folder / "rühe" / "eval.json").read_text(encoding="utf-8"))
    assert content["frames"] == 1
    assert os.listdir(folder / "rühe" / "images")
