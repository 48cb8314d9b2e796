"""A run that is stopped anywhere, several times, ends as one that was never stopped, to the bit."""

import csv
import itertools
import json
import signal

import pytest
import torch
from test_identity import job

from fastscnn.runs.record import read_record
from fastscnn.training import stopping
from fastscnn.training.fit import fit
from fastscnn.utils.signals import Interrupted
from helpers import write_cityscapes

pytestmark = pytest.mark.filterwarnings("ignore")
EPOCHS, STEPS, VAL = 3, 4, 3


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Dropout, augmentation, fine and coarse frames that are counted, every step logged, a validation an epoch."""
    root = write_cityscapes(tmp_path_factory.mktemp("cityscapes"), train=12, val=VAL, train_extra=5)
    return [
        "data=fine_coarse",
        f"data.root={root}",
        "data.store=off",
        "data.batch_size=4",
        f"trainer.max_epochs={EPOCHS}",
        "trainer.log_every_n_steps=1",
        "trainer.accelerator=cpu",
        "logger=csv",
        "pictures=0",
    ]


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The end of a run that nothing stopped."""
    return end_of(trained(tmp_path_factory.mktemp("whole") / "run", settings))


def trained(folder, overrides, stop_at=None):
    """The folder of a run that was started, or went on, and was stopped where it asked for the n-th time."""
    asked = itertools.count(1)
    begin = [f"resume={folder}"] if folder.exists() else [f"paths.run_dir={folder}", *overrides]
    with pytest.MonkeyPatch.context() as patch, job(*begin) as config:
        patch.setattr(stopping, "received", lambda: signal.SIGTERM if next(asked) == stop_at else 0)
        fit(config)
    return folder


def trained_in_pieces(folder, overrides, stops):
    """The folder of a run that was stopped once for each of these, and the steps at which it went on."""
    steps = []
    for stop_at in stops:
        with pytest.raises(Interrupted, match=r"stopped by SIGTERM at step \d+"):
            trained(folder, overrides, stop_at)
        assert read_record(folder)["status"] == "interrupted"
        steps.append(checkpoint(folder)["global_step"])
        if "trainer.max_epochs=99" in overrides:
            break
    return trained(folder, overrides), steps


def checkpoint(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def end_of(folder):
    """Everything that a run leaves: tensors by name, rows, metrics."""
    last, best = checkpoint(folder), checkpoint(folder, "best")
    tensors = {f"last {name}": tensor for name, tensor in last["state_dict"].items()}
    tensors |= {f"best {name}": tensor for name, tensor in best["state_dict"].items()}
    momentum = last["optimizer_states"][0]["state"]
    tensors |= {f"momentum {key}": state["momentum_buffer"] for key, state in momentum.items()}
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record = {key: record[key] for key in ("status", "error", "metrics", "checkpoints")}
    return tensors, rows, record, last["lr_schedulers"][0], (last["fastscnn"]["best_scores"], best["global_step"])


def assert_same(found, expected):
    assert found[0].keys() == expected[0].keys()
    assert [name for name in found[0] if not torch.equal(found[0][name], expected[0][name])] == []
    assert found[1:] == expected[1:]


@pytest.mark.parametrize("workers", ["auto", 0, 1, 2])
def test_run_stopped_anywhere_ends_as_one_that_was_not(whole, settings, tmp_path, workers):
    """Before a step, within a validation, between two epochs, after the last one."""
    stops = {"auto": [1, 4, 3, 3, 99], 0: [2] * 12, 1: [6, 2, 5], 2: [3, 5, 7]}[workers]
    stops = [stop for stop in stops if stop != 99]
    folder, steps = trained_in_pieces(tmp_path / "run", [*settings, f"data.num_workers={workers}"], stops)
    assert len(set(steps)) > 1 and any(step % STEPS for step in steps)
    assert_same(end_of(folder), whole)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
