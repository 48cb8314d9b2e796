"""Callbacks that keep the run's record and its checkpoints."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only

from fastscnn.runs.record import BEST, LAST, RunRecord
from fastscnn.training.losses_seen import NonFiniteLoss
from fastscnn.training.task import Task

FRAMES = "train/frames/"
"""What the names begin with that say how many frames of each source were trained on."""


def checkpoints(folder: Path, monitor: str) -> list[ModelCheckpoint]:
    """`best.ckpt`, by the highest `monitor`, and `last.ckpt`, of the last finished epoch; in the run's folder."""
    shared: dict[str, Any] = {
        "dirpath": folder / BEST.parent,
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    return [
        FolderCheckpoint(filename=BEST.stem, monitor=monitor, mode="max", **shared),
        FolderCheckpoint(filename=LAST.stem, every_n_epochs=1, save_on_train_epoch_end=True, **shared),
    ]


def best_checkpoints(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    """The callbacks that keep a best checkpoint; `best_model_path` is the same on every device of a run."""
    return [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor]


class FolderCheckpoint(ModelCheckpoint):
    """Lightning's, which goes on also where the run's folder is no longer where it was: in a copy, on another disk."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state with its files in the folder as it is now."""

        def here(path: str) -> str:
            return str(Path(self.dirpath or "") / Path(path).name) if path else path

        paths = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"best_k_models": scores, "dirpath": self.dirpath})


class EpochSeed(pl.Callback):
    """Draw the dropout of an epoch from (seed, epoch) alone, on each device its own: a resumed run draws the same.

    At the first batch, because making the iterator of an epoch takes a number too, and a resumed run makes it earlier.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch."""
        if batch_idx == 0:
            place = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
            torch.manual_seed(int(place.generate_state(1, np.uint64)[0]))


class FiniteWeights(pl.Callback):
    """Stop before weights or batch statistics that are not finite could be evaluated or saved."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at every tensor."""
        self._check(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at every tensor; the checkpoint callbacks come after this one."""
        self._check(pl_module)

    @staticmethod
    def _check(module: pl.LightningModule) -> None:
        if isinstance(module, Task):
            module.losses.read()  # which can name the step and the frames
        tensors = module.state_dict()
        finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
        for name, is_finite in zip(tensors, finite, strict=True):
            if not is_finite:
                raise NonFiniteLoss(
                    f"{name} is not finite after step {module.global_step}: lower optimizer.lr; the checkpoints of the "
                    "epochs before are kept"
                )


class FramesSeen(pl.Callback):
    """Log how many frames of each source were trained on since the run began, over all devices: `train/frames/fine`.

    Attributes:
        seen: Source, such as `fine` and `coarse`, to the number of frames; saved in every checkpoint.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self.seen = dict.fromkeys(sources, 0)
        self._epoch: Counter[str] = Counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count this device's frames."""
        self._epoch.update(batch["source"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add up the devices, and log."""
        counts = torch.tensor([self._epoch[source] for source in self.seen], device=pl_module.device)
        total = trainer.strategy.reduce(counts, reduce_op="sum")
        assert isinstance(total, torch.Tensor)
        self.seen = {source: self.seen[source] + int(count) for source, count in zip(self.seen, total, strict=True)}
        self._epoch.clear()
        pl_module.log_dict({FRAMES + source: float(count) for source, count in self.seen.items()})

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return dict(self.seen)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the counts of a checkpoint."""
        self.seen |= state_dict


class KeepRecord(pl.Callback):
    """Keep `run.json` true: metrics after each validation, checkpoints after each epoch.

    `metrics.last` holds the latest value of each training and validation metric, `metrics.best` all those of the
    validation with the highest `monitor`, and what the test of its checkpoint gave.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    def state_dict(self) -> dict[str, Any]:
        """The metrics of this moment; saved in every checkpoint."""
        return dict(self.record.data["metrics"])

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on from the metrics of a checkpoint; what was recorded after it is going to be measured again."""
        if trainer.state.fn == TrainerFn.FITTING and (then := checkpoint["callbacks"].get(self.state_key)):
            best = self.record.data["metrics"]["best"]
            tests = {name: value for name, value in best.items() if name.startswith("test/")}
            self.record.update(metrics=then | {"best": then["best"] | tests})

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the validation's metrics."""
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, Task)
        training = {name: value for name, value in _training(trainer).items() if not name.startswith(FRAMES)}
        last = training | pl_module.scores["val"].named("val")  # the frames are still those of the epoch before
        best = self.record.data["metrics"]["best"]
        if last[pl_module.monitor] > best.get(pl_module.monitor, float("-inf")):
            best = last
        self.record.update(metrics={"best": best, "last": last})

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the training metrics and which checkpoints there are."""
        metrics, training = self.record.data["metrics"], _training(trainer)
        frames = {name: value for name, value in training.items() if name.startswith(FRAMES)}
        is_best = metrics["best"].get("step") == training["step"]
        best = metrics["best"] | frames if is_best else metrics["best"]
        self.record.update(metrics={"best": best, "last": metrics["last"] | training})
        self._record_checkpoints()

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the last checkpoints."""
        self._record_checkpoints()

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the test metrics of the best checkpoint."""
        assert isinstance(pl_module, Task)
        metrics = self.record.data["metrics"]
        test = pl_module.scores["test"].named("test")
        self.record.update(metrics=metrics | {"best": metrics["best"] | test})

    def _record_checkpoints(self) -> None:
        there = {path.stem: str(path) for path in (BEST, LAST) if (self.record.folder / path).exists()}
        self.record.update(checkpoints={"best": None, "last": None, **there})


def _training(trainer: pl.Trainer) -> dict[str, float]:
    numbers = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    return numbers | {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
