"""`trainer=...`, `trainer.devices` and `trainer.precision`: what Lightning's users write is understood."""

import importlib

import pytest
import torch
from omegaconf import OmegaConf

from fastscnn.data.datamodules.build import build_training_data
from fastscnn.runs.record import read_record
from fastscnn.training.accelerator import choose_devices, choose_precision
from fastscnn.training.fit import checked_data, fit
from helpers import FAST, job, refused, write_cityscapes

pytestmark = pytest.mark.usefixtures("shallow_networks")


@pytest.fixture
def gpus(monkeypatch):
    """A machine with four GPUs, as far as settings are checked."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"), size=(32, 64), train=4, val=2)


def settings_of(*overrides):
    with job(*overrides) as config:
        return OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize(
    ("devices", "chosen"),
    [(2, 2), ("2", 2), ("auto", 4), (-1, 4), ("-1", 4), ([1, 3], [1, 3]), ("1,3", [1, 3]), ([0], [0])],
)
@pytest.mark.usefixtures("gpus")
def test_devices_are_a_number_all_or_a_list(devices, chosen):
    assert choose_devices(devices, "gpu") == chosen


@pytest.mark.parametrize("devices", [0, -2, True, 1.5, "two", [], [0, 0], [-1], ["a"], None, [0, 4], 5])
@pytest.mark.usefixtures("gpus")
def test_devices_that_are_not_there_are_refused(devices):
    with refused("trainer.devices"):
        choose_devices(devices, "gpu")


def test_cpu_is_one_device_unless_a_number_is_named():
    assert (choose_devices("auto", "cpu"), choose_devices(-1, "cpu"), choose_devices(3, "cpu")) == (1, 1, 3)
    with refused("trainer.devices", "[0, 1]", fix="trainer.devices=2"):
        choose_devices([0, 1], "cpu")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("default", ("gpu", 1, "auto")),
        ("gpu", ("gpu", 1, "auto")),
        ("cpu", ("cpu", 1, "auto")),
        ("ddp", ("gpu", 4, "ddp")),
        ("ddp_cpu", ("cpu", 2, "ddp")),
    ],
)
@pytest.mark.usefixtures("gpus")
def test_option_chooses_accelerator_devices_and_strategy(option, expected):
    plain = settings_of(f"trainer={option}", "data.batch_size=8")
    checked_data(plain)
    trainer = plain["trainer"]
    assert (trainer["accelerator"], trainer["devices"], trainer["strategy"]) == expected


@pytest.mark.usefixtures("gpus")
def test_listed_gpus_share_the_batch():
    plain = settings_of("trainer=ddp", "trainer.devices=[1,3]", "data.batch_size=6")
    checked_data(plain)
    assert (plain["trainer"]["devices"], plain["trainer"]["gpus"]) == (2, [1, 3])
    assert build_training_data(plain).devices == 2


def test_gpu_is_asked_for_by_name_where_there_is_none():
    with refused("trainer.accelerator", fix="trainer.accelerator=cpu"):
        checked_data(settings_of("trainer=gpu"))


@pytest.mark.parametrize(
    ("precision", "chosen"),
    [
        ("auto", "32-true"),
        (32, "32-true"),
        ("64", "64-true"),
        (16, "16-mixed"),
        ("bf16", "bf16-mixed"),
        ("bf16-true", "bf16-true"),
    ],
)
def test_precision_is_what_lightning_takes(precision, chosen):
    assert choose_precision(precision, "cpu") == chosen


@pytest.mark.parametrize(("precision", "fix"), [("half", "bf16-true"), (True, "auto"), ("transformer-engine", "pip")])
def test_precision_that_is_not_there_is_refused(precision, fix):
    with refused("trainer.precision", fix=fix):
        choose_precision(precision, "cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16-true", torch.bfloat16), ("16-true", torch.float16), ("64-true", torch.float64)]
)
def test_training_in_any_precision_computes_and_saves_in_it(root, tmp_path, precision, dtype):
    folder = tmp_path / "run"
    settings = ["data=fine", f"data.root={root}", "data.batch_size=2", "data.store=off", "trainer.max_epochs=1", *FAST]
    with job(*settings, "logger=csv", f"trainer.precision={precision}", f"paths.run_dir='{folder}'") as config:
        fit(config)
    metrics = read_record(folder)["metrics"]["last"]
    assert metrics["train/loss"] > 0 and metrics["val/miou"] >= 0
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {dtype}


OWN = """
import pytorch_lightning as pl

class Trainer(pl.Trainer):
    greetings = []

    def __init__(self, greeting="none", **settings):
        super().__init__(**settings)
        self.greetings.append((greeting, settings["max_epochs"]))

class Strict(pl.Trainer):
    def __init__(self, max_epochs, accelerator):
        super().__init__(max_epochs=max_epochs, accelerator=accelerator)

class NoTrainer:
    pass
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_trainers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own_module")
def test_trainer_of_a_users_own_gets_its_arguments_and_saves_what_every_run_saves(root, tmp_path):
    folder = tmp_path / "run"
    settings = ["data=fine", f"data.root={root}", "data.batch_size=2", "data.store=off", "trainer.max_epochs=1", *FAST]
    own = ["trainer._target_=own_trainers.Trainer", "+trainer.greeting=hello", "callbacks=[]"]
    with job(*settings, *own, "logger=[]", f"paths.run_dir='{folder}'") as config:
        fit(config)
    assert importlib.import_module("own_trainers").Trainer.greetings == [("hello", 1)]
    assert read_record(folder)["status"] == "finished"
    assert {file.name for file in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert (folder / "metrics.csv").is_file()


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("overrides", "key", "fix"),
    [
        (["trainer._target_=own_trainers.Strict"], "trainer.devices", "'~trainer.devices' '~trainer.strategy'"),
        (["trainer._target_=own_trainers.NoTrainer"], "trainer._target_", "pytorch_lightning.Trainer"),
        (["+trainer.min_epoch=3"], "trainer.min_epoch", "'~trainer.min_epoch'"),
        (["+trainer.callbacks=[]"], "trainer.callbacks", "'~trainer.callbacks'"),
    ],
)
def test_trainer_that_cannot_be_built_is_refused(overrides, key, fix):
    with refused(key, fix=fix):
        checked_data(settings_of("trainer.accelerator=cpu", *overrides))
