"""`python src/train.py resume=RUN_DIR` as a user calls it."""

import csv
import json
import signal
import time

import pytest
import torch

from fastscnn.runs.record import read_record
from helpers import write_cityscapes

EPOCHS, STEPS = 4, 4


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def validations(folder):
    return [row for row in rows(folder) if "val/miou" in row]


def checkpoint(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Dropout, augmentation, the default number of workers, four steps an epoch and each of them logged."""
    root = write_cityscapes(tmp_path_factory.mktemp("cityscapes"), train=17, val=2)
    return [
        "data=fine",
        f"data.root={root}",
        "data.batch_size=4",
        f"trainer.max_epochs={EPOCHS}",
        "trainer.log_every_n_steps=1",
        "trainer.accelerator=cpu",
    ]


@pytest.fixture(scope="module")
def whole(run, settings, tmp_path_factory):
    """The folder of a run that nothing stopped."""
    cwd = tmp_path_factory.mktemp("whole")
    done = run("train.py", *settings, "paths.run_dir=run", "logger=csv", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "run"


@pytest.fixture(scope="module")
def stopped(start, settings, tmp_path_factory):
    """A run stopped by SIGTERM in its third epoch: what it printed, and its folder."""
    cwd = tmp_path_factory.mktemp("stopped")
    folder = cwd / "the run"
    process = start("train.py", *settings, "paths.run_dir='the run'", cwd=cwd)
    started = time.monotonic()
    while not (folder / "metrics.csv").exists() or not any(row.get("epoch") == "3" for row in rows(folder)):
        assert process.poll() is None, process.communicate(timeout=60)[1]
        assert time.monotonic() - started < 120
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert (process.returncode, read_record(folder)["status"]) == (128 + signal.SIGTERM, "interrupted")
    return error, folder


@pytest.fixture(scope="module")
def resumed(run_line, stopped, tmp_path_factory):
    """The stopped run after it went on, in a folder that was moved in between."""
    line = stopped[0].strip().splitlines()[-1].partition("Continue it: ")[2]
    step = checkpoint(stopped[1])["global_step"]
    assert step > 2 * STEPS, "its third epoch"
    assert f"stopped by SIGTERM at step {step}\n" in stopped[0]
    home = tmp_path_factory.mktemp("moved") / "elsewhere"
    stopped[1].parent.rename(home)
    done = run_line(line, cwd=home)
    assert done.returncode == 0, done.stderr
    return done, home / "the run", step


def test_stopped_and_resumed_run_equals_one_that_was_never_stopped_to_the_bit(whole, resumed):
    expected, found = checkpoint(whole), checkpoint(resumed[1])
    assert expected["global_step"] == found["global_step"] == EPOCHS * STEPS
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(tensor, found["state_dict"][name]), name
    momentum = [content["optimizer_states"][0]["state"] for content in (expected, found)]
    assert all(
        torch.equal(momentum[0][key]["momentum_buffer"], momentum[1][key]["momentum_buffer"]) for key in momentum[0]
    )
    assert rows(resumed[1]) == rows(whole)
    assert checkpoint(whole, "best")["epoch"] == checkpoint(resumed[1], "best")["epoch"]
    best = read_record(whole)["metrics"]["best"]
    assert best["train/frames/fine"] == best["step"] * 4, "the frames of the best epoch, not of the one before"
    names = ("metrics", "status", "error", "name", "seed", "checkpoints")
    assert [read_record(resumed[1])[name] for name in names] == [read_record(whole)[name] for name in names]


def test_resumed_run_keeps_its_folder_and_its_wandb_id_and_says_where_it_goes_on(resumed):
    done, folder, step = resumed
    assert (
        f"resume: epoch 2 of {EPOCHS} is done and {step - 2 * STEPS} batches of the next (step {step})" in done.stdout
    )
    assert "epoch 3/4" in done.stdout and "epoch 2/4" not in done.stdout
    assert "resumable" not in done.stderr, "Lightning cannot know that the batches of the epoch go on where they were"
    data = read_record(folder)
    assert data["wandb_id"] == data["id"]
    assert len(list(folder.glob(f"wandb/offline-run-*-{data['id']}"))) == 2
    assert [(entry["epoch"], entry["step"], entry["overrides"]) for entry in data["resumed"]] == [(2, step, {})]
    assert data["started"] < data["resumed"][0]["time"] <= data["finished"]
    assert not (folder / ".hydra" / "config.1.yaml").exists(), "nothing was changed"


@pytest.mark.slow
def test_finished_run_says_so_and_goes_on_over_two_devices_when_it_is_made_longer(run, resumed):
    _, folder, _ = resumed
    before = json.loads((folder / "run.json").read_text())
    best, measured = checkpoint(folder, "best")["state_dict"], rows(folder)
    done = run("train.py", f"resume='{folder}'", cwd=folder.parent)
    assert (done.returncode, json.loads((folder / "run.json").read_text())) == (0, before)
    assert done.stdout == f"{folder} is finished (epoch 4 of 4). Extend it with trainer.max_epochs=N above 4.\n"

    longer = ["trainer.max_epochs=5", "optimizer.lr=1e-6", "trainer.devices=2", "trainer.strategy=ddp", "logger=csv"]
    done = run("train.py", f"resume='{folder}'", *longer, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "resume: trainer.max_epochs 4 -> 5" in done.stdout and "resume: optimizer.lr 0.045 -> 1e-06" in done.stdout
    assert rows(folder)[: len(measured)] == measured
    assert len(validations(folder)) == 5
    added = [float(row["train/lr"]) for row in rows(folder)[len(measured) :] if "train/lr" in row]
    assert added == pytest.approx([1e-6 * (1 - step / 20) ** 0.9 for step in range(16, 20)])
    data = read_record(folder)
    assert (data["status"], data["metrics"]["last"]["step"]) == ("finished", 20)
    highest = max(float(row["val/miou"]) for row in validations(folder))
    assert data["metrics"]["best"]["val/miou"] == pytest.approx(highest)
    assert data["metrics"]["last"]["train/frames/fine"] == 5 * 16
    improved = float(validations(folder)[-1]["val/miou"]) > before["metrics"]["best"]["val/miou"]
    kept = checkpoint(folder, "best")["state_dict"]
    assert improved or all(torch.equal(tensor, kept[name]) for name, tensor in best.items())
    assert f"best {data['metrics']['best']['val/miou']:.4f}" in done.stdout
