"""`data.train_splits=[train,val]`: nothing is validated, and the last checkpoint is the best in folder and record."""

import json
import shutil

import pytest
import torch

from fastscnn.runs.record import read_record
from fastscnn.training.fit import fit
from fastscnn.utils.errors import RequestError
from helpers import FAST, job, write_cityscapes

pytestmark = pytest.mark.usefixtures("shallow_networks")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_cityscapes(tmp_path_factory.mktemp("cityscapes"), size=(32, 64), train=5, val=3)
    for kind in ("leftImg8bit", "gtFine"):
        shutil.copytree(root / kind / "val", root / kind / "test", dirs_exist_ok=True)
    return root


def settings(root, folder, *overrides):
    chosen = ["data=fine", f"data.root={root}", "data.batch_size=4", "trainer.max_epochs=2", *FAST, "logger=csv"]
    return [*chosen, "data.train_splits=[train,val]", f"data.store='{folder.parent / 'store'}'", *overrides]


def train(root, folder, *overrides):
    with job(*settings(root, folder, *overrides), f"paths.run_dir='{folder}'") as config:
        fit(config)
    return folder


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "run"
    return train(root, folder, "data.evaluate_test=true", "loss.class_weights=enet")


def load(folder, name):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def test_last_checkpoint_is_the_best_in_folder_and_record(trained):
    best, last = load(trained, "best"), load(trained, "last")
    assert best["global_step"] == last["global_step"] == 4, "8 frames in batches of 4, twice"
    assert all(torch.equal(best["state_dict"][name], last["state_dict"][name]) for name in last["state_dict"])
    record = read_record(trained)
    assert record["status"] == "finished"
    assert record["checkpoints"] == {"best": "checkpoints/best.ckpt", "last": "checkpoints/last.ckpt"}
    metrics = record["metrics"]
    assert metrics["best"]["step"] == metrics["last"]["step"] == 4
    assert 0 <= metrics["best"]["test/miou"] <= 1
    assert not [name for name in metrics["last"] if name.startswith("val/")]
    assert record["dataset"]["train_splits"] == ["train", "val"]
    assert record["dataset"]["frames"] == {"train": {"fine": 8}, "val": {}}


def test_weights_of_the_classes_are_counted_over_the_joined_set_and_recorded(trained, root):
    record = read_record(trained)["class_weights"]
    assert record["method"] == "enet"
    assert sum(record["pixels"].values()) <= 8 * 32 * 64
    kept = load(trained, "last")["fastscnn"]["config"]["loss"]["class_weights"]
    assert kept == list(record["weights"].values())
    assert "enet" in (trained / ".hydra" / "config.yaml").read_text()


def test_run_without_a_validation_goes_on(trained):
    with job(f"resume='{trained}'", "trainer.max_epochs=3") as config:
        fit(config)
    assert load(trained, "best")["global_step"] == load(trained, "last")["global_step"] == 6
    assert json.loads((trained / "run.json").read_text())["metrics"]["best"]["epoch"] == 3
    assert {file.name for file in trained.rglob("*.ckpt")} == {"best.ckpt", "last.ckpt"}, "Lightning saves none"


def test_run_may_have_a_checkpoint_callback_of_the_users(root, tmp_path):
    every = "{_target_:pytorch_lightning.callbacks.ModelCheckpoint,save_on_train_epoch_end:true}"
    options = [f"+callbacks.mine={every}", "data.evaluate_test=false", "trainer.max_epochs=1"]
    folder = train(root, tmp_path / "run", *options)
    assert len(list(folder.rglob("*.ckpt"))) == 3, "that of the user's, beside ours"


def test_callback_that_waits_for_a_validation_is_refused_before_a_folder_is_made(root, tmp_path):
    stop = "{_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/miou,mode:max}"
    with pytest.raises(RequestError) as found:
        train(root, tmp_path / "run", f"+callbacks.stop={stop}", "data.evaluate_test=false")
    assert found.value.key == "callbacks.stop"
    assert not (tmp_path / "run").exists()
