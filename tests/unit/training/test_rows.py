"""The rows of a training: one meaning of step and epoch, the loss of an epoch, and the best of our own record."""

import csv
import math
import shutil

import pytest
import torch
import wandb

from fastscnn.runs.record import read_record
from fastscnn.training.fit import fit
from fastscnn.training.loss_monitor import SeenLosses
from helpers import FAST, job, wandb_records, write_cityscapes

pytestmark = pytest.mark.usefixtures("offline", "shallow_networks")
STEPS = 2
"""Of an epoch."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"), size=(32, 64), train=4, val=2)


def train(root, folder, *overrides):
    settings = ["data=fine", f"data.root={root}", "data.batch_size=2", "trainer.max_epochs=2", *FAST]
    settings += ["data.store=off", "trainer.check_val_every_n_epoch=1", "logger=[wandb,csv]", "pictures=0"]
    with job(*settings, *overrides, f"paths.run_dir='{folder}'") as config:
        fit(config)
    return folder


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(found, name):
    return [float(row[name]) for row in found if row.get(name)]


def test_steps_and_epochs_of_every_row_count_what_is_done_from_1(root, tmp_path):
    folder = train(root, tmp_path / "run", "trainer.log_every_n_steps=1")
    found = rows(folder)
    steps = numbers(found, "trainer/global_step")
    assert steps == sorted(steps), "the axis never runs backwards"
    assert [(row["trainer/global_step"], row["epoch"]) for row in found if row["train/loss"]] == [
        ("1", "1"),
        ("2", "1"),
        ("3", "2"),
        ("4", "2"),
    ]
    for name in ("val/miou", "train/frames/fine", "train/loss_epoch"):
        assert [(row["trainer/global_step"], row["epoch"]) for row in found if row[name]] == [("2", "1"), ("4", "2")]
    losses = numbers(found, "train/loss")
    assert numbers(found, "train/loss_epoch") == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2])
    history = [
        {".".join(item.nested_key): item.value_json for item in row.item} for row in wandb_records(folder, "history")
    ]
    shown = [(row["trainer/global_step"], row["epoch"]) for row in history if "val/miou" in row]
    assert shown == [("2", "1"), ("4", "2")]


def test_run_of_under_ten_steps_logs_its_loss_and_the_best_survives_resuming(root, tmp_path):
    folder = train(root, tmp_path / "run", "trainer.max_epochs=1")
    assert len(numbers(rows(folder), "train/loss_epoch")) == 1
    path = folder / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["fastscnn"]["best_scores"]["miou"] = content["callbacks"]["KeepRecord"]["best"]["val/miou"] = 0.9
    content["callbacks"]["KeepRecord"]["best"]["val/iou/road"] = 0.8
    torch.save(content, path)
    wandb.teardown()
    shutil.rmtree(folder / "wandb")
    with job(f"resume='{folder}'", "trainer.max_epochs=2") as config:
        fit(config)
    record = read_record(folder)
    assert record["metrics"]["last"]["val/miou"] < 0.9 == record["metrics"]["best"]["val/miou"]
    assert numbers(rows(folder), "best/miou")[-1] == pytest.approx(0.9), (
        "early stopping and sweeps see it at every validation"
    )
    summary = {}
    for update in wandb_records(folder, "summary"):
        summary |= {"/".join(item.nested_key) or item.key: item.value_json for item in update.update}
    assert (summary["best/miou"], summary["best/iou/road"], summary["best/epoch"]) == ("0.9", "0.8", "1")


def test_epochs_mean_is_over_optimizer_steps_not_over_the_parts_of_a_batch():
    losses = SeenLosses()
    for step, value in ((0, 5.0), (0, 1.0), (1, 7.0), (1, 3.0)):
        losses.add(torch.tensor(value), step, [])
    assert losses.end_epoch() == 2.0
    assert math.isnan(losses.end_epoch())
