"""Where a step's time goes: the parts add up, and the slow one is named."""

import io
import json

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.training.profile import PARTS, Profile, StepProfiler
from fastscnn.training.segmentation import Segmentation

pytestmark = pytest.mark.usefixtures("shallow_networks")

CONFIG = {
    "data": {"store": "off", "num_workers": 0},
    "model": {"name": "fast_scnn", "in_channels": 3, "activation": "relu", "skip": "keep", "dropout": 0.1},
    "loss": {"auxiliary_weight": 0.4, "fused": False},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 4e-5, "fused": False},
    "scheduler": {"_target_": "fastscnn.training.schedules.poly"},
    "trainer": {"precision": "32-true", "compile": False, "log_every_n_steps": 10},
}


class Clock:
    """A clock that goes on only where the parts of the stand-ins say so, in whole seconds."""

    def __init__(self, **seconds):
        self.now, self.seconds = 0.0, dict.fromkeys(PARTS, 1.0) | seconds

    def __call__(self):
        return self.now

    def spend(self, part):
        self.now += self.seconds[part]


class Frames(Dataset):
    def __init__(self, clock):
        self.clock = clock

    def __len__(self):
        return 16

    def __getitem__(self, index):
        if index % 2 == 0:  # once a batch
            self.clock.spend("data")
        image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
        return {"image": image, "label": torch.zeros(32, 32, dtype=torch.uint8), "name": str(index)}


class Loss(torch.nn.Module):
    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def forward(self, logits, auxiliary, labels):
        self.clock.spend("loss")
        return logits.square().mean()


class Slow(Segmentation):
    """Each part of a step takes what the clock says."""

    def __init__(self, clock):
        super().__init__(CONFIG | {"loss": {"auxiliary_weight": 0.0}}, CAMVID)
        self.clock, self.loss = clock, Loss(clock)

    def _input(self, images):
        self.clock.spend("forward")
        return super()._input(images)

    def backward(self, loss):
        self.clock.spend("backward")
        loss.backward()

    def configure_gradient_clipping(self, *args, **kwargs):
        self.clock.spend("optimizer")


class Logging(pl.Callback):
    def __init__(self, clock):
        self.clock = clock

    def on_train_batch_end(self, *args):
        self.clock.spend("logging")


def profiled(tmp_path, steps=6, **seconds):
    """The steps of a training in which a part takes so many seconds, others one."""
    torch.manual_seed(0)  # from some weights the loss is not finite after a step
    clock = Clock(**seconds)
    profiler = StepProfiler(clock)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=steps,
        profiler=profiler,
        callbacks=[Logging(clock)],
        logger=False,
        limit_val_batches=0,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Slow(clock), DataLoader(Frames(clock), batch_size=2))
    return profiler.steps(), clock


def test_each_part_gets_its_own_time_and_they_add_up_to_all_of_it(tmp_path):
    seconds = {part: float(number) for number, part in enumerate(PARTS, 1)}
    steps, clock = profiled(tmp_path, **seconds)
    assert steps == [seconds] * 6
    assert sum(sum(step.values()) for step in steps) == clock.now


def test_steps_of_several_epochs_are_told_apart(tmp_path):
    steps, _ = profiled(tmp_path, steps=20)
    assert steps == [dict.fromkeys(PARTS, 1.0)] * 20


@pytest.mark.parametrize(
    ("slow", "advice"),
    [
        ("data", "data.store=auto"),
        ("forward", "trainer.compile=true"),
        ("loss", "loss.fused=true"),
        ("backward", "trainer.compile=true"),
        ("optimizer", "optimizer.fused=auto"),
        ("logging", "trainer.log_every_n_steps"),
    ],
)
def test_slow_part_is_named_with_what_to_change(tmp_path, slow, advice):
    steps, _ = profiled(tmp_path, steps=3, **{slow: 15.0})
    profile = Profile.of(steps, batch=2)
    assert profile.limit == slow
    sentence = profile.sentence(CONFIG, gpu=False)
    assert sentence.startswith(f"{2 / 20:.1f} images/s. {slow} limits (75% of a step): ")
    assert advice in sentence


def test_data_limits_where_the_device_waits_for_it_a_fifth_of_the_time():
    profile = Profile.of([{**dict.fromkeys(PARTS, 0.0), "data": 3.0, "backward": 7.0}], batch=4)
    assert profile.limit == "data"
    stored = CONFIG | {"data": {"store": "auto", "num_workers": 1}}
    assert "raise data.num_workers (it is 1)" in profile.sentence(stored, gpu=False)
    barely = Profile.of([{**dict.fromkeys(PARTS, 0.0), "data": 1.0, "backward": 9.0}], batch=4)
    assert barely.limit == "backward"
    full = CONFIG | {"trainer": CONFIG["trainer"] | {"compile": True}}
    assert "trainer.precision=bf16-mixed" in barely.sentence(full, gpu=True)
    assert "data.crop_size" in barely.sentence(full, gpu=False)


def test_mean_is_not_fooled_by_batches_that_come_in_bursts():
    burst = [dict.fromkeys(PARTS, 1.0) | {"data": seconds} for seconds in (0.0, 20.0) * 4]
    profile = Profile.of(burst, batch=1)
    assert profile.seconds == pytest.approx(15.0)
    assert profile.limit == "data"


def test_first_steps_are_left_out_ten_at_most():
    steps = [dict.fromkeys(PARTS, float(number)) for number in range(80)]
    assert Profile.of(steps, 1).steps == steps[10:]
    assert Profile.of(steps[:8], 1).steps == steps[2:8]
    assert Profile.of(steps[:1], 1).steps == steps[:1]


def test_table_and_file_hold_the_same_numbers(tmp_path):
    profile = Profile.of([dict.fromkeys(PARTS, 0.01) | {"loss": 0.05}], batch=3)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(profile.table())
    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["loss", "50.0", "50.0", "50.0"] in [[cell for cell in row if cell != "│"] for row in rows]
    profile.save(tmp_path / "profile.json", "what to do")
    saved = json.loads((tmp_path / "profile.json").read_text())
    assert saved["step_ms"] == pytest.approx(sum(saved["parts_ms"].values())) == pytest.approx(100)
    assert (saved["limits"], saved["images_per_second"]) == ("loss", pytest.approx(30))
