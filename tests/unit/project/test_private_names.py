"""Private names of libraries that we rest on: without each of them something simpler happens, and nothing breaks.

docs/reliability.md lists them.
"""

import contextlib
import copy
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.loggers import WandbLogger
from torch import nn
from torch.fx.experimental import _config as symbols
from torch.utils.data import DataLoader
from wandb.sdk import wandb_setup
from wandb.sdk.data_types import _private

from fastscnn.data.datamodules.worker_errors import Loader, WatchedIterator
from fastscnn.data.datasets import frame_dataset
from fastscnn.export import formats
from fastscnn.inference.backends import graph_memory
from fastscnn.kernels.cuda import layers
from fastscnn.kernels.cuda.choice import LATE, Choice, chosen
from fastscnn.reports.wandb.wandb_objects import keep_identity
from fastscnn.runs import position
from fastscnn.runs.media import Frame, show_frame
from fastscnn.runs.position import UnknownLoops, settle
from fastscnn.runs.tracker import Tracker
from fastscnn.runs.wandb_tracker import service_processes
from fastscnn.training import recompute
from fastscnn.training.callbacks import ema
from fastscnn.training.stopping import KeepSignalHandlers, ended_together, set_logged_step
from fastscnn.utils.signals import Interrupted

COUNTS = {"ready": 3, "started": 3, "processed": 2, "completed": 2}


class Step(pl.LightningModule):
    """Learns nothing, and looks at the signal handlers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(signal.getsignal(signal.SIGTERM))
        return self.weight.sum()

    def test_step(self, batch, batch_idx):
        self.seen.append(signal.getsignal(signal.SIGTERM))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
def test_signal_handlers_stay_what_they_were_through_training_and_test():
    def own(number, frame):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, own)
    try:
        module, data = Step(), DataLoader(torch.zeros(2, 1))
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=1, callbacks=[KeepSignalHandlers()], enable_model_summary=False, **quiet
        )
        trainer.fit(module, data)
        trainer.test(module, data, verbose=False)
        assert module.seen == [own] * 4
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def checkpoint():
    loop = {"epoch_progress": {"current": dict(COUNTS), "total": dict(COUNTS)}}
    for name in ("epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress"):
        loop[name] = {"current": dict(COUNTS), "total": dict(COUNTS), "is_last_batch": False}
    return {"loops": {"fit_loop": loop}, "epoch": 2}


def test_place_within_an_epoch_is_kept():
    content = checkpoint()
    settle(content, "batch")
    assert position.position(content) == (2, 2)
    assert content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] == 2


@pytest.mark.parametrize("name", ["EPOCHS", "BATCHES", "VALIDATION"])
def test_loops_of_another_form_are_left_alone_and_whole_epochs_count(monkeypatch, name):
    content = checkpoint()
    before = copy.deepcopy(content)
    monkeypatch.setattr(position, name, "other")
    with pytest.raises(UnknownLoops, match="other"):
        settle(content, "batch")
    assert content == before
    assert position.position(content | {"loops": {}}) == (3, 0)


def test_logged_step_is_lightnings_where_its_count_has_another_name():
    loop = SimpleNamespace(_batches_that_stepped=7)
    set_logged_step(SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=loop), global_step=5))
    assert loop._batches_that_stepped == 5
    set_logged_step(SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace()), global_step=5))
    set_logged_step(SimpleNamespace(global_step=5))


def test_processes_of_other_devices_are_lightnings_to_end_where_they_are_not_known():
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=None))
    with pytest.raises(Interrupted), ended_together(trainer):
        raise Interrupted(signal.SIGTERM, together=True)


def test_batches_are_shared_with_one_copy_more_without_torchs_shared_storage(monkeypatch):
    monkeypatch.setattr(frame_dataset, "get_worker_info", lambda: object())
    assert frame_dataset.shared_bytes((2, 3)).is_shared()
    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", None)
    pixels = frame_dataset.shared_bytes((2, 3))
    assert (pixels.is_shared(), pixels.shape, pixels.dtype) == (True, (2, 3), torch.uint8)


@pytest.mark.parametrize("name", ["saved_statistics", "version_of"])
def test_nothing_is_recomputed_where_autograd_does_not_say_what_it_saved(monkeypatch, name):
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.autograd.grad(layers(images).square().sum(), list(layers.parameters()))
    monkeypatch.setattr(recompute, name, lambda tensor: None)
    with recompute.Recomputed(layers):
        loss = layers(images).square().sum()
    found = torch.autograd.grad(loss, list(layers.parameters()))
    assert all(map(torch.equal, found, expected))


def test_worker_that_is_gone_is_told_as_torch_does_where_its_workers_are_not_known():
    def failing():
        raise RuntimeError("DataLoader worker (pid 12) exited unexpectedly")
        yield

    with pytest.raises(RuntimeError, match="pid 12"):
        next(WatchedIterator(failing(), Loader([], list)._end_workers))


def test_wandb_service_is_found_among_the_child_processes_too(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(dir=tmp_path, project="p"):
        known = service_processes()
        with monkeypatch.context() as patch:
            patch.setattr(wandb_setup, "_singleton", SimpleNamespace())
            assert service_processes() == known
    assert len(known) == 1
    wandb.teardown()


def test_dashboard_without_an_identity_says_that_it_is_another_one(capsys):
    keep_identity(SimpleNamespace(), "entity", "project")
    assert "a new workspace at each call" in capsys.readouterr().out


def test_tensors_are_copied_one_by_one_without_torchs_copy_of_many(monkeypatch):
    sources = [torch.ones(3), torch.tensor(7)]
    for _ in range(2):
        targets = [torch.zeros(3), torch.tensor(0)]
        ema.copy_all(targets, sources)
        assert all(map(torch.equal, targets, sources))
        monkeypatch.delattr(torch, "_foreach_copy_", raising=False)


def test_launches_do_not_overlap_where_triton_does_not_say_that_they_can(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    assert "launch_pdl" not in layers.overlapping(on_gpu(97)), "it was not asked for"
    with chosen(Choice(LATE)):
        assert layers.overlapping(on_gpu(97)) == {"OVERLAPS": LATE, "launch_pdl": True}
        monkeypatch.setitem(sys.modules, "triton.backends.nvidia.compiler", None)
        assert "launch_pdl" not in layers.overlapping(on_gpu(98))


def on_gpu(index):
    """Images on a GPU of that number, which need not exist."""
    return SimpleNamespace(is_cuda=True, device=SimpleNamespace(index=index))


def test_program_of_torch_is_exported_without_the_switch_for_sides_of_one(monkeypatch):
    with formats.sides_of_one():
        assert symbols.backed_size_oblivious
    monkeypatch.setattr(formats, "SWITCH", "no_such_switch")
    with formats.sides_of_one():
        assert not symbols.backed_size_oblivious


def test_graphs_are_captured_with_torchs_own_workspaces_where_they_cannot_be_cleared(monkeypatch):
    monkeypatch.delattr(torch._C, "_cuda_clearCublasWorkspaces", raising=False)
    with graph_memory.own_workspaces():
        pass


@pytest.mark.parametrize("known", [True, False])
def test_pictures_reach_wandb_after_its_temporary_folder_was_removed(known, monkeypatch):
    if known:
        shutil.rmtree(_private.MEDIA_TMP.name)
    else:
        monkeypatch.delattr(_private, "MEDIA_TMP")
    grey = np.zeros((4, 6), np.uint8)
    frame = Frame("a", np.zeros((4, 6, 3), np.uint8), grey, grey, grey, Path("a.png"), {0: "road"})
    taken = []

    @contextlib.contextmanager
    def opened():
        yield SimpleNamespace(log_metrics=lambda values, step: taken.append((values, step)))

    with Tracker("W&B", WandbLogger, opened).running() as tracker:
        show_frame([tracker], "val/pictures/a", frame, 3)
    ((values, step),) = taken
    assert isinstance(values["val/pictures/a"], wandb.Image) and step == 3
