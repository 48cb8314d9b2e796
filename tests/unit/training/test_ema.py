"""`callbacks=[default,ema]`: the average is validated, saved and evaluated, and a run goes on exactly."""

import csv
import shutil

import pytest
import pytorch_lightning as pl
import torch

from fastscnn.runs.checkpoint import LATEST_STATE, chosen_state, read_checkpoint
from fastscnn.runs.record import read_record
from fastscnn.training import fit as fit_module
from fastscnn.training.callbacks.build import build_callbacks
from fastscnn.training.callbacks.ema import EMA
from fastscnn.training.fit import fit
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.stopping import LastCheckpoint
from fastscnn.utils.errors import RequestError
from fastscnn.utils.signals import Interrupted
from helpers import FAST, job, write_cityscapes

pytestmark = pytest.mark.usefixtures("shallow_networks")

OURS = "fastscnn.training.callbacks.ema.EMA"
EPOCHS, STEPS, DECAY = 3, 2, 0.6
JOINED = "data.train_splits=[train,val]"
"""Leaves nothing to validate on."""


class StopsIn(pl.Callback):
    """Ends a run as a signal does, within the validation of an epoch or before one of its batches."""

    def __init__(self, epoch, place):
        self.epoch, self.place = epoch, place

    def on_validation_batch_start(self, trainer, pl_module, *args):
        if self.place == "validation" and not trainer.sanity_checking and trainer.current_epoch == self.epoch:
            self.stop(trainer, "validation")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.place == "batch" and (trainer.current_epoch, batch_idx) == (self.epoch, 1):
            self.stop(trainer, "batch")

    def stop(self, trainer, place):
        last = next(c for c in trainer.callbacks if isinstance(c, LastCheckpoint))
        last._save(trainer, place)
        raise Interrupted(15)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"), size=(32, 64), train=8, val=2, test=0)


def train(root, folder, *overrides):
    settings = ["data=fine", f"data.root={root}", "data.batch_size=4", f"trainer.max_epochs={EPOCHS}", *FAST]
    settings += ["callbacks=[default,ema]", f"callbacks.ema.decay={DECAY}", "logger=csv", "data.store=off"]
    settings += ["pictures=0", "optimizer=adamw", "trainer.log_every_n_steps=1"]
    settings += [] if JOINED in overrides else ["trainer.check_val_every_n_epoch=1"]
    with job(*settings, f"paths.run_dir='{folder}'", *overrides) as config:
        fit(config)
    return folder


def load(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    return train(root, tmp_path_factory.mktemp("whole") / "run")


def test_checkpoint_holds_the_average_for_evaluation_and_the_last_steps_weights_beside_it(whole):
    content = load(whole)
    average, latest = content["state_dict"], content[LATEST_STATE]
    assert average.keys() == latest.keys()
    assert int(content["averaging_state"]["n_averaged"]) == EPOCHS * STEPS
    assert any(not torch.equal(average[name], latest[name]) for name in average)


def test_average_is_the_formula_over_all_steps(root, tmp_path, monkeypatch):
    seen = []

    class Watched(EMA):
        def on_train_batch_end(self, trainer, pl_module, *args):
            super().on_train_batch_end(trainer, pl_module, *args)
            seen.append({name: value.clone() for name, value in pl_module.state_dict().items()})

    monkeypatch.setattr("fastscnn.training.callbacks.ema.EMA", Watched)
    folder = train(root, tmp_path / "run", "trainer.max_epochs=2")
    expected = seen[0]
    for state in seen[1:]:
        expected = {name: DECAY * expected[name] + (1 - DECAY) * state[name] for name in state}
    found = load(folder)["state_dict"]
    for name in (name for name in found if found[name].is_floating_point()):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def plain(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "run"
    return train(root, folder, "~callbacks.ema")


def validations(folder):
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/miou"]]
    return [{name: value for name, value in row.items() if name.startswith("val/")} for row in rows]


def test_average_that_has_not_begun_is_the_weights_of_the_last_step(root, plain, tmp_path, capfd):
    """A validation before the first update, and all of a run that has none, are as without the callback."""
    begun = train(root, tmp_path / "begun", f"callbacks.ema.update_starting_at_step={STEPS + 1}")
    assert validations(begun)[0] == validations(plain)[0]
    assert validations(begun)[-1] != validations(plain)[-1]
    assert int(load(begun)["averaging_state"]["n_averaged"]) == (EPOCHS - 1) * STEPS - 1
    assert "nothing is averaged" not in capfd.readouterr().out

    never = train(root, tmp_path / "never", f"callbacks.ema.update_starting_at_step={EPOCHS * STEPS}")
    assert f"is not within the run's {EPOCHS * STEPS} steps: nothing is averaged" in capfd.readouterr().out
    assert validations(never) == validations(plain)
    content, expected = load(never), load(plain)["state_dict"]
    for state in (content["state_dict"], content[LATEST_STATE]):
        assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_average_that_never_begins_is_the_last_weights_without_a_validation_too(root, tmp_path):
    folder = train(
        root, tmp_path / "run", "data.train_splits=[train,val]", "callbacks.ema.update_starting_at_step=1000"
    )
    content = load(folder)
    assert int(content["averaging_state"]["n_averaged"]) == 0
    for name, value in content[LATEST_STATE].items():
        assert torch.equal(content["state_dict"][name], value), name


def test_counts_of_the_average_are_those_of_the_last_step(whole):
    content = load(whole)
    counts = [name for name in content["state_dict"] if name.endswith("num_batches_tracked")]
    assert counts
    for name in counts:
        assert content["state_dict"][name] == content[LATEST_STATE][name] == EPOCHS * STEPS


def test_validation_and_best_checkpoint_are_of_the_average_and_the_other_can_be_asked_for(root, whole):
    path = whole / "checkpoints" / "best.ckpt"
    content = load(whole, "best")
    assert Segmentation.from_checkpoint(path).weights == "average"
    latest = Segmentation.from_checkpoint(path, weights="latest")
    assert latest.weights == "latest"
    name = "network.classifier.3.weight"
    assert torch.equal(latest.state_dict()[name], content[LATEST_STATE][name])
    assert torch.equal(Segmentation.from_checkpoint(path).state_dict()[name], content["state_dict"][name])
    best = read_record(whole)["metrics"]["best"]
    scores = {weights: evaluated(root, path, weights) for weights in ("average", "latest")}
    assert scores["average"]["val/miou"] == pytest.approx(best["val/miou"], abs=1e-9)
    assert scores["average"] != scores["latest"]


def evaluated(root, path, weights):
    from fastscnn.data.datamodules.build import build_data

    module = Segmentation.from_checkpoint(path, weights=weights)
    data = build_data(module.config["data"] | {"num_workers": 0})
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.test(module, dataloaders=data.whole_frames("val"), verbose=False)
    return module.scores["test"].named("val")


@pytest.mark.parametrize("place", ["batch", "validation"])
def test_stopped_run_goes_on_to_the_same_bits(root, whole, tmp_path, monkeypatch, place):
    def with_stop(*args, **settings):
        return [*build_callbacks(*args, **settings), StopsIn(1, place)]

    monkeypatch.setattr(fit_module, "build_callbacks", with_stop)
    with pytest.raises(Interrupted):
        train(root, tmp_path / "run")
    monkeypatch.setattr(fit_module, "build_callbacks", build_callbacks)
    with job(f"resume='{tmp_path / 'run'}'") as config:
        fit(config)
    expected, found = load(whole), load(tmp_path / "run")
    for key in ("state_dict", LATEST_STATE, "averaging_state"):
        assert all(torch.equal(expected[key][name], found[key][name]) for name in expected[key]), key
    metrics = [read_record(folder)["metrics"]["last"] for folder in (whole, tmp_path / "run")]
    assert metrics[0] == metrics[1]


def test_test_after_the_training_is_of_the_average(tmp_path):
    data = write_cityscapes(tmp_path / "data", size=(32, 64), train=8, val=2)
    for kind in ("leftImg8bit", "gtFine"):
        shutil.copytree(data / kind / "val", data / kind / "test")
    folder = train(data, tmp_path / "run", "data.evaluate_test=true")
    best = read_record(folder)["metrics"]["best"]
    assert best["test/miou"] == pytest.approx(best["val/miou"], abs=1e-9)


def test_checkpoint_without_an_average_says_so():
    content = {"state_dict": {"a": 1}}
    assert chosen_state(content, "x.ckpt") == chosen_state(content, "x.ckpt", "latest") == {"a": 1}
    with pytest.raises(RequestError) as found:
        chosen_state(content, "x.ckpt", "average")
    assert (found.value.key, found.value.fix) == ("weights", "Leave weights out.")
    with pytest.raises(RequestError):
        chosen_state(content, "x.ckpt", "newest")


def test_reading_a_checkpoint_with_an_average_is_safe(whole):
    assert LATEST_STATE in read_checkpoint(whole / "checkpoints" / "last.ckpt")


def early_stopping(**settings):
    target = "pytorch_lightning.callbacks.EarlyStopping"
    return {"stop": {"_target_": target, "monitor": "val/miou", "mode": "max", **settings}}


@pytest.mark.parametrize(
    ("settings", "validates", "key"),
    [
        ({"ema": {"_target_": OURS, "decay_rate": 1}}, True, "callbacks.ema.decay_rate"),
        ({"mine": {"_target_": "torch.nn.ReLU"}}, True, "callbacks.mine._target_"),
        ({"mine": {"_target_": "my.Callback"}}, True, "callbacks.mine._target_"),
        ({"mine": 3}, True, "callbacks.mine"),
        (early_stopping(), False, "callbacks.stop"),
    ],
)
def test_what_is_no_callback_or_waits_for_a_validation_that_is_not_there_is_refused(settings, validates, key):
    with pytest.raises(RequestError) as found:
        build_callbacks(settings, validates=validates)
    assert found.value.key == key
    assert found.value.fix


def test_callbacks_are_built_in_their_order_and_null_leaves_one_out():
    found = build_callbacks({"ema": {"_target_": OURS}, "other": None, **early_stopping()})
    assert [type(callback).__name__ for callback in found] == ["EMA", "EarlyStopping"]
    assert build_callbacks(None) == []
