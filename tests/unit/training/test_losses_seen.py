"""Losses are looked at without waiting for the device at every step, and none that is not finite gets through."""

import math

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.runs.metrics_csv import MetricsCSV
from fastscnn.training.callbacks.record import FiniteWeights, FramesSeen, StepSeed, _seed_torch
from fastscnn.training.global_batch import Part
from fastscnn.training.loss_monitor import NonFiniteLoss, SeenLosses
from fastscnn.training.progress import ProgressLine
from fastscnn.training.segmentation import Segmentation

pytestmark = pytest.mark.usefixtures("shallow_networks")

CONFIG = {
    "model": {"name": "fast_scnn", "in_channels": 3, "activation": "relu", "skip": "keep", "dropout": 0.1},
    "loss": {"auxiliary_weight": 0.4},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 4e-5},
    "scheduler": {"_target_": "fastscnn.training.schedules.poly"},
}
WAITS = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal")
"""Operators whose answer the host needs: on a GPU each of them waits for it."""


@pytest.fixture
def on_a_device(monkeypatch):
    """Losses are treated as if they were not the CPU's."""
    monkeypatch.setattr(SeenLosses, "_waits", staticmethod(lambda loss: True))


class PlainLoss(torch.nn.Module):
    """Cross-entropy of the classifier alone, which asks the host nothing; infinite at one call."""

    def __init__(self, infinite_at=None):
        super().__init__()
        self.calls, self.infinite_at = 0, infinite_at

    def forward(self, logits, auxiliary, labels):
        self.calls += 1
        loss = F.cross_entropy(F.interpolate(logits, labels.shape[-2:]), labels.long(), ignore_index=255)
        return loss * float("inf") if self.calls == self.infinite_at else loss

    def part(self, logits, auxiliary, labels):
        labelled = (labels != 255).sum()
        return Part(self(logits, auxiliary, labels)[None], labelled[None], labelled, labels.numel())


class Waits(TorchDispatchMode, pl.Callback):
    """Notes at which steps the host asks for a number, from the start of the first step to the end of the last."""

    def __init__(self):
        super().__init__()
        self.step, self.found = None, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.step is not None and func.overloadpacket.__name__ in WAITS:
            self.found.add(self.step)
        return func(*args, **(kwargs or {}))

    def on_train_batch_start(self, trainer, *args):
        self.step = trainer.global_step + 1

    def on_train_epoch_end(self, *args):
        self.step = None


class Refusing(pl.Callback):
    """Makes torch refuse to wait for the GPU after the first two steps, whose allocations may."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 2:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_epoch_end(self, *args):
        torch.cuda.set_sync_debug_mode("default")

    on_exception = on_train_epoch_end


def loader(steps):
    generator = torch.Generator().manual_seed(0)
    frames = [
        {
            "image": torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=generator),
            "label": torch.randint(0, 11, (32, 32), dtype=torch.uint8, generator=generator),
            "name": f"frame{number}",
            "source": "camvid",
        }
        for number in range(2 * steps)
    ]
    return DataLoader(frames, batch_size=2, pin_memory=torch.cuda.is_available())


def fit(module, folder, *callbacks, steps, **settings):
    trainer = pl.Trainer(
        max_epochs=1,
        logger=MetricsCSV(folder / "metrics.csv"),
        callbacks=[*callbacks, StepSeed(0), FiniteWeights(), FramesSeen(["camvid"]), ProgressLine()],
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **{"accelerator": "cpu", **settings},
    )
    trainer.fit(module, loader(steps))
    return trainer


def module(infinite_at=None):
    torch.manual_seed(0)
    made = Segmentation(CONFIG, CAMVID)
    made.loss = PlainLoss(infinite_at)
    return made


def test_cpu_reads_each_loss_as_it_comes_and_names_step_and_frames():
    losses = SeenLosses()
    losses.add(torch.tensor(2.0), 0, ["a", "b"])
    losses.add(torch.tensor(4.0), 1, ["c", "d"])
    assert losses.mean == pytest.approx(0.95 * 2 + 0.05 * 4)
    with pytest.raises(NonFiniteLoss, match=r"^the loss is nan at step 2 \(frames e, f\): lower optimizer\.lr"):
        losses.add(torch.tensor(math.nan), 2, ["e", "f"])


def test_device_is_asked_for_all_together_and_the_first_bad_step_is_named(on_a_device):
    losses = SeenLosses()
    for step, value in enumerate([2.0, 4.0, math.inf, math.nan]):
        losses.add(torch.tensor(value), step, [f"frame{step}"])
    assert math.isnan(losses.mean)
    with pytest.raises(NonFiniteLoss, match=r"the loss is inf at step 2 \(frames frame2\)"):
        losses.read()
    losses.read()


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_step_waits_for_the_device_only_where_logging_is_due(tmp_path, on_a_device, accumulated):
    waits = Waits()
    settings = {"log_every_n_steps": 4, "accumulate_grad_batches": accumulated}
    with waits:
        trainer = fit(module(), tmp_path, waits, steps=11 * accumulated, **settings)
    assert waits.found == {4, 8}
    assert trainer.global_step == 11


def test_what_waits_is_noticed(tmp_path):
    waits = Waits()
    with waits:
        fit(module(), tmp_path, waits, steps=3, log_every_n_steps=100)
    assert waits.found == {1, 2, 3}, "on the CPU each loss is read"


@pytest.mark.parametrize(("every", "stopped_at"), [(4, 8), (100, 10)])
def test_loss_that_is_not_finite_stops_the_run_when_logging_is_due_or_before_the_end_of_the_epoch(
    tmp_path, on_a_device, every, stopped_at
):
    made = module(infinite_at=6)
    with pytest.raises(NonFiniteLoss, match=r"the loss is inf at step 5 \(frames frame10, frame11\)"):
        fit(made, tmp_path, steps=10, log_every_n_steps=every)
    assert made.loss.calls == stopped_at


def test_on_the_cpu_the_weights_are_not_touched_by_a_loss_that_is_not_finite(tmp_path):
    made = module(infinite_at=1)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    with pytest.raises(NonFiniteLoss, match="at step 0"):
        fit(made, tmp_path, steps=2)
    assert all(torch.equal(parameter, before[name]) for name, parameter in made.named_parameters())


def test_weights_that_are_not_finite_are_named():
    made = module()
    made.network.classifier[3].bias.data[1] = math.nan
    with pytest.raises(NonFiniteLoss, match=r"^network\.classifier\.3\.bias is not finite after step 0"):
        FiniteWeights.check(made)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gpu_is_never_waited_for_between_logs(tmp_path, precision):
    torch.manual_seed(0)
    made = Segmentation(CONFIG, CAMVID)
    fit(made, tmp_path, Refusing(), steps=8, log_every_n_steps=100, accelerator="gpu", devices=1, precision=precision)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_a_step_draws_what_torchs_own_seed_draws(seed):
    torch.manual_seed(seed)
    expected = torch.rand(3)
    torch.rand(2)
    _seed_torch(seed, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)
