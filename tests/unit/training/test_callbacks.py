"""`callbacks=[...]`: several at once, and what every run has without any of them."""

import csv

import pytest
import torch

from fastscnn.runs.record import read_record
from fastscnn.training.fit import fit
from helpers import FAST, job, refused, write_cityscapes

pytestmark = pytest.mark.usefixtures("shallow_networks")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"), size=(32, 64), train=4, val=2)


def train(root, folder, *overrides):
    settings = ["data=fine", f"data.root={root}", "data.batch_size=4", "trainer.max_epochs=5", *FAST, "logger=csv"]
    settings += ["data.store=off", "trainer.check_val_every_n_epoch=1", "trainer.log_every_n_steps=1"]
    with job(*settings, *overrides, f"paths.run_dir='{folder}'") as config:
        fit(config)
    return folder


def test_several_work_together_and_a_run_that_ends_early_is_finished(root, tmp_path):
    chosen = "callbacks=[default,ema,early_stopping,lr_monitor]"
    early = ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=1"]
    folder = train(root, tmp_path / "run", chosen, *early)
    record = read_record(folder)
    assert (record["status"], record["metrics"]["last"]["epoch"]) == ("finished", 2)
    assert record["choices"]["callbacks"] == "ema+early_stopping"
    assert record["name"] == "fine-callbacks_ema+early_stopping"
    with (folder / "metrics.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    assert {"lr-SGD/pg1", "lr-SGD/pg2", "train/lr"} <= set(columns)


def test_checkpoints_and_record_are_there_without_any_callback(root, tmp_path):
    folder = train(root, tmp_path / "run", "callbacks=[]", "trainer.max_epochs=1")
    record = read_record(folder)
    assert record["checkpoints"] == {"best": "checkpoints/best.ckpt", "last": "checkpoints/last.ckpt"}
    assert record["metrics"]["best"]["val/miou"] >= 0
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 1


def test_callback_that_waits_for_a_metric_that_the_run_does_not_have_is_refused_before_anything_starts(root, tmp_path):
    wrong = ["callbacks=[default,early_stopping]", "callbacks.early_stopping.monitor=val/top1"]
    with refused("callbacks.early_stopping.monitor", "val/top1", fix="callbacks.early_stopping.monitor=val/"):
        train(root, tmp_path / "run", *wrong)
    assert not (tmp_path / "run").exists()
