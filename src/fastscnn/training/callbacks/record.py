"""Callbacks that update the run's record and write its best checkpoint."""

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only

from fastscnn.runs.record import BEST, LAST, RunRecord
from fastscnn.runs.reporting import summarize
from fastscnn.training.loss_monitor import NonFiniteLoss
from fastscnn.training.tally import Tally
from fastscnn.training.task import Task

FRAMES = "train/frames/"
"""Prefix of the metrics that count the frames of each source that were trained on."""
EPOCH_LOSS = "train/loss_epoch"
"""The mean of `train/loss` over the steps of an epoch."""
OF_EPOCHS = (FRAMES, EPOCH_LOSS)
"""Metrics that are known at the end of an epoch alone."""


def best_checkpoint(folder: Path, monitor: str) -> ModelCheckpoint:
    """The callback that saves `best.ckpt` at the end of the validation with the highest `monitor`."""
    return FolderCheckpoint(
        dirpath=folder / BEST.parent,
        filename=BEST.stem,
        monitor=monitor,
        mode="max",
        save_on_train_epoch_end=False,
        enable_version_counter=False,
        auto_insert_metric_name=False,
    )


def best_checkpoints(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    """The callbacks that save a best checkpoint; `best_model_path` is the same on every device of a run."""
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, FolderCheckpoint)]


class FolderCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, which also resumes a run whose folder was moved or copied."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state, with the paths of its files changed to the folder's current place."""

        def here(path: str) -> str:
            return str(Path(self.dirpath or "") / Path(path).name) if path else path

        paths = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"best_k_models": scores, "dirpath": self.dirpath})


class StepSeed(pl.Callback):
    """Seeds the random numbers of a step, such as its dropout, from (seed, epoch, batch) and the device.

    A resumed run draws the same numbers, wherever it stopped. Python's and NumPy's generators are seeded too, because a
    data set or network of the user's may draw from them.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the step; a resumed run has drawn other numbers when it made the iterator of the epoch."""
        self._seed(trainer, batch_idx + 1)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the validation, which is repeated if it was interrupted."""
        self._seed(trainer, 0)

    def _seed(self, trainer: pl.Trainer, place: int) -> None:
        sequence = np.random.SeedSequence([self.seed, trainer.current_epoch, place, trainer.global_rank])
        first, second = (int(word) for word in sequence.generate_state(2, np.uint64))
        _seed_torch(first, trainer.strategy.root_device)
        np.random.seed(second % 2**32)
        random.seed(second)


def _seed_torch(seed: int, device: torch.device) -> None:
    """As `torch.manual_seed`, which spends most of a millisecond on kinds of devices that are not there."""
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)


class FiniteWeights(pl.Callback):
    """Stops the run before weights or batch statistics that are not finite are evaluated or saved."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check every tensor."""
        self.check(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check every tensor; the checkpoint callbacks come after this one."""
        self.check(pl_module)

    @staticmethod
    def check(module: pl.LightningModule) -> None:
        """Raise `NonFiniteLoss` if a tensor is not finite."""
        if isinstance(module, Task):
            module.losses.read()  # its error can name the step and the frames
        tensors = module.state_dict()
        finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
        for name, is_finite in zip(tensors, finite, strict=True):
            if not is_finite:
                raise NonFiniteLoss(
                    f"{name} is not finite after step {module.global_step}: lower optimizer.lr; the checkpoints of the "
                    "earlier epochs are still there"
                )


class FramesSeen(pl.Callback):
    """Logs how many frames of each source all devices have trained on since the run began: `train/frames/fine`.

    Attributes:
        seen: The count of each source, such as `fine` and `coarse`; saved in every checkpoint.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self.seen = Tally(sources)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count this device's frames."""
        self.seen.add(batch["source"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add up the counts of all devices, and log them."""
        total = self.seen.gather(trainer)
        pl_module.log_dict({FRAMES + source: float(count) for source, count in total.items()})

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the counts of all devices, also within an epoch."""
        checkpoint["callbacks"][self.state_key] = self.seen.gather(trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the counts of a checkpoint."""
        self.seen.total |= state_dict


class EpochLoss(pl.Callback):
    """Logs the mean of the training loss over each epoch, also of one that a resumed run began before."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log it; every device has the loss of the global batches."""
        assert isinstance(pl_module, Task)
        mean = pl_module.losses.end_epoch()
        if mean == mean:
            pl_module.log(EPOCH_LOSS, mean)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the sum and the number of the epoch's steps so far."""
        assert isinstance(pl_module, Task)
        pl_module.losses.read()
        checkpoint["callbacks"][self.state_key] = {"epoch": list(pl_module.losses.epoch)}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with them."""
        if trainer.state.fn == TrainerFn.FITTING and (state := checkpoint["callbacks"].get(self.state_key)):
            assert isinstance(pl_module, Task)
            total, count = state["epoch"]
            pl_module.losses.epoch = (float(total), int(count))


class KeepRecord(pl.Callback):
    """Updates the metrics of `run.json` after each validation and each epoch.

    `metrics.last` holds the latest value of each training and validation metric. `metrics.best` holds all values of the
    validation with the highest `monitor`, and the results of the test of its checkpoint; without a validation, it holds
    the latest values.

    Args:
        record: The run's record.
        validates: Whether there is a validation.
    """

    def __init__(self, record: RunRecord, *, validates: bool = True) -> None:
        self.record = record
        self.validates = validates
        self._training: dict[str, float] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the current metrics, and those of the latest step."""
        latest = self._measured(trainer)
        checkpoint["callbacks"][self.state_key] = {**self.record.data["metrics"], "training": latest}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continue from the metrics of a checkpoint; those recorded after it will be measured again."""
        if trainer.state.fn == TrainerFn.FITTING and (state := checkpoint["callbacks"].get(self.state_key)):
            self._training = state.get("training", {})
            then = {name: state[name] for name in ("best", "last")}
            best = self.record.data["metrics"]["best"]
            tests = {name: value for name, value in best.items() if name.startswith("test/")}
            self.record.update(metrics=then | {"best": then["best"] | tests})

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the validation's metrics."""
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, Task)
        measured = self._measured(trainer)
        training = {name: value for name, value in measured.items() if not name.startswith(OF_EPOCHS)}
        last = training | pl_module.scores["val"].named("val")  # what is of epochs is still of the previous one
        best = self.record.data["metrics"]["best"]
        if last[pl_module.monitor] > best.get(pl_module.monitor, float("-inf")):
            best = last
        self.record.update(metrics={"best": best, "last": last})
        summarize(trainer.loggers, best_summary(best))

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the training metrics."""
        metrics, training = self.record.data["metrics"], self._measured(trainer)
        of_epoch = {name: value for name, value in training.items() if name.startswith(OF_EPOCHS)}
        is_best = metrics["best"].get("step") == training["step"]
        best = metrics["best"] | of_epoch if is_best else metrics["best"]
        last = metrics["last"] | training
        self.record.update(metrics={"best": best if self.validates else last, "last": last})

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the test metrics of the best checkpoint."""
        assert isinstance(pl_module, Task)
        metrics = self.record.data["metrics"]
        test = pl_module.scores["test"].named("test")
        self.record.update(metrics=metrics | {"best": metrics["best"] | test})

    def _measured(self, trainer: pl.Trainer) -> dict[str, float]:
        """The training metrics of the latest step, which may be the last one before the run was stopped."""
        now = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        self._training = self._training | now
        return self._training | {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}


def best_summary(best: Mapping[str, float]) -> dict[str, float]:
    """`best/miou`, `best/iou/CLASS`, `best/epoch` and so on, of the best validation on record."""
    found = {f"best/{name.removeprefix('val/')}": value for name, value in best.items() if name.startswith("val/")}
    return {name: value for name, value in found.items() if value == value} | {"best/epoch": best["epoch"]}


def record_checkpoints(record: RunRecord) -> None:
    """Record which checkpoints exist."""
    there = {path.stem: str(path) for path in (BEST, LAST) if (record.folder / path).exists()}
    record.update(checkpoints={"best": None, "last": None, **there})
