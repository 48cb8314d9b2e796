"""A run that is stopped anywhere, several times, ends as one that was never stopped, to the bit."""

import csv
import gc
import itertools
import json
import multiprocessing
import signal

import pytest
import torch
from own_blocks import shallow

from fastscnn.runs.record import read_record
from fastscnn.training import stopping
from fastscnn.training.fit import fit
from fastscnn.utils.signals import Interrupted
from helpers import job, write_cityscapes, write_class_folders

pytestmark = pytest.mark.filterwarnings("ignore")
EPOCHS, STEPS, VAL = 3, 4, 3
ALONE = ["data.num_workers=0"]
"""For what the frames' workers have no part in; runs with and without them end alike."""


@pytest.fixture(scope="module", autouse=True)
def shallow_networks():
    """What goes on, and from where, does not depend on how many bottlenecks there are."""
    with shallow():
        yield


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


def trained(folder, overrides, stop_at=None, stop=signal.SIGTERM):
    """The folder of a run that was started, or went on, and was stopped where it asked for the n-th time."""
    asked = itertools.count(1)

    def received():
        if next(asked) != stop_at:
            return 0
        if isinstance(stop, Exception):
            raise stop
        return stop

    begin = [f"resume={folder}"] if folder.exists() else [f"paths.run_dir={folder}", *overrides]
    with pytest.MonkeyPatch.context() as patch, job(*begin) as config:
        patch.setattr(stopping, "received", received)
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
    return trained(folder, overrides), steps


@pytest.fixture(autouse=True)
def no_processes_of_stopped_runs():
    """What a stopped run leaves ends with its process, which here goes on."""
    yield
    for worker in multiprocessing.active_children():
        worker.terminate()
        worker.join()
    gc.collect()


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


@pytest.mark.parametrize("workers", ["auto", *(pytest.param(number, marks=pytest.mark.slow) for number in (0, 1, 2))])
def test_run_stopped_anywhere_ends_as_one_that_was_not(whole, settings, tmp_path, workers):
    """Before a step, within a validation, between two epochs, after the last one."""
    stops = {"auto": [1, 4, 3, 3], 0: [2] * 7, 1: [6, 2, 5], 2: [3, 5, 7]}[workers]
    folder, steps = trained_in_pieces(tmp_path / "run", [*settings, f"data.num_workers={workers}"], stops)
    assert len(set(steps)) > 1 and any(step % STEPS for step in steps)
    assert_same(end_of(folder), whole)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize(
    ("minutes", "goes_on_at"), [pytest.param(15, STEPS, marks=pytest.mark.slow), (1e-9, 2 * STEPS - 2)]
)
def test_run_that_died_goes_on_from_its_latest_checkpoint(whole, settings, tmp_path, minutes, goes_on_at):
    """In the last step of its second epoch; what it logged since the checkpoint comes anew."""
    overrides = [*settings, f"trainer.save_every_minutes={minutes}"]
    with pytest.raises(RuntimeError, match="the power went"):
        trained(tmp_path / "run", overrides, STEPS + VAL + STEPS, RuntimeError("the power went"))
    assert checkpoint(tmp_path / "run")["global_step"] == goes_on_at
    assert_same(end_of(trained(tmp_path / "run", overrides)), whole)


def test_run_whose_last_checkpoint_is_broken_goes_on_from_the_best(whole, settings, tmp_path, capsys):
    with pytest.raises(Interrupted):
        trained(tmp_path / "run", [*settings, *ALONE], STEPS + VAL + 3)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert_same(end_of(trained(tmp_path / "run", [*settings, *ALONE])), whole)
    assert f"{last} is broken: the run continues from {last.with_name('best.ckpt')}" in capsys.readouterr().out


def test_run_whose_best_checkpoint_is_broken_goes_on_and_makes_a_new_one(whole, settings, tmp_path, capsys):
    with pytest.raises(Interrupted):
        trained(tmp_path / "run", [*settings, *ALONE], 2 * (STEPS + VAL) + 2)
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    best.write_bytes(b"half")
    folder = trained(tmp_path / "run", [*settings, *ALONE])
    assert f"{best} is broken" in capsys.readouterr().out
    last = {name: tensor for name, tensor in end_of(folder)[0].items() if name.startswith("last")}
    assert all(torch.equal(tensor, whole[0][name]) for name, tensor in last.items())
    record = read_record(folder)
    assert record["status"] == "finished"
    assert record["metrics"]["best"]["step"] == checkpoint(folder, "best")["global_step"] == EPOCHS * STEPS


@pytest.mark.slow
def test_run_stopped_between_parts_of_a_step_goes_on_exactly_and_with_other_parts(settings, tmp_path):
    """A signal waits for the end of a step; then the batches that are done are counted in the parts of now."""
    parts = [*settings, "trainer.accumulate_grad_batches=2"]
    expected = end_of(trained(tmp_path / "whole", parts))
    with pytest.raises(Interrupted):
        trained(tmp_path / "run", parts, 2)
    assert checkpoint(tmp_path / "run")["global_step"] == 1
    assert_same(end_of(trained(tmp_path / "run", parts)), expected)

    with pytest.raises(Interrupted):
        trained(tmp_path / "other", settings, 3)
    with job(f"resume={tmp_path / 'other'}", "trainer.accumulate_grad_batches=2", "trainer.max_epochs=4") as config:
        fit(config)
    _, rows, record, *_ = end_of(tmp_path / "other")
    assert (record["metrics"]["last"]["epoch"], record["metrics"]["last"]["step"]) == (4, 4 * STEPS)
    assert [row["trainer/global_step"] for row in rows if "train/lr" in row] == [
        str(step + 1) for step in range(4 * STEPS)
    ]
    assert record["metrics"]["last"]["train/frames/fine"] + record["metrics"]["last"]["train/frames/coarse"] == 4 * 16
    rates = [float(row["train/lr"]) for row in rows if "train/lr" in row]
    assert rates[2:] == pytest.approx([rates[0] * (1 - step / (4 * STEPS)) ** 0.9 for step in range(2, 4 * STEPS)])


def test_classifier_stopped_within_an_epoch_ends_as_one_that_was_not(tmp_path):
    root = write_class_folders(tmp_path / "photographs" / "train", images=6).parent
    write_class_folders(root / "val", images=2, seed=1)
    settings = ["experiment=imagenet_pretrain", f"data.root={root}", "data.crop_size=[32,32]", "data.batch_size=6"]
    settings += ["trainer.max_epochs=2", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu", "logger=csv"]
    settings += ["augment.mixup=0", "augment.cutmix=0"]
    whole = end_of(trained(tmp_path / "whole", settings))
    assert any("train/top1" in row for row in whole[1])
    folder, steps = trained_in_pieces(tmp_path / "run", settings, [3, 5])
    assert steps[0] == 2
    assert_same(end_of(folder), whole)
