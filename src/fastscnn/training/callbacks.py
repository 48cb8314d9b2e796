"""Callbacks that keep the run's record and its checkpoints."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only

from fastscnn.runs.record import RunRecord
from fastscnn.training.segmentation import NonFiniteLoss

MONITOR = "val/miou"
BEST = Path("checkpoints/best.ckpt")
LAST = Path("checkpoints/last.ckpt")


def checkpoints(folder: Path) -> list[ModelCheckpoint]:
    """`best.ckpt`, by the highest `val/miou`, and `last.ckpt`, of the last finished epoch; in the run's folder."""
    shared: dict[str, Any] = {
        "dirpath": folder / BEST.parent,
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    return [
        ModelCheckpoint(filename=BEST.stem, monitor=MONITOR, mode="max", **shared),
        ModelCheckpoint(filename=LAST.stem, every_n_epochs=1, save_on_train_epoch_end=True, **shared),
    ]


class FiniteWeights(pl.Callback):
    """Stop before weights that are not finite could be evaluated or saved."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at every parameter."""
        self._check(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at every parameter; the checkpoint callbacks come after this one."""
        self._check(pl_module)

    @staticmethod
    def _check(module: pl.LightningModule) -> None:
        for name, parameter in module.named_parameters():
            if not torch.isfinite(parameter).all():
                raise NonFiniteLoss(
                    f"{name} is not finite after step {module.global_step}: lower optimizer.lr; the checkpoints of the "
                    "epochs before are kept"
                )


class KeepRecord(pl.Callback):
    """Keep `run.json` true: metrics after each validation, checkpoints after each epoch.

    `metrics.best` holds the validation with the highest `val/miou` whole, `metrics.last` the latest value of each
    metric.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the validation's metrics."""
        if not trainer.sanity_checking:
            self._record(trainer)

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the training metrics and which checkpoints there are."""
        self._record(trainer)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the last checkpoints."""
        self._record(trainer)

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the test metrics; they are of the best checkpoint."""
        test = {name: value for name, value in _numbers(trainer).items() if name.startswith("test/")}
        metrics = self.record.data["metrics"]
        self.record.update(metrics={kind: metrics[kind] | test for kind in ("best", "last")})

    def _record(self, trainer: pl.Trainer) -> None:
        metrics = self.record.data["metrics"]
        last = metrics["last"] | _numbers(trainer) | {"epoch": trainer.current_epoch, "step": trainer.global_step}
        best = metrics["best"]
        if MONITOR in last and last[MONITOR] > best.get(MONITOR, float("-inf")):
            best = last
        self.record.update(
            metrics={"best": best, "last": last},
            checkpoints={
                path.stem: str(path) if (self.record.folder / path).exists() else None for path in (BEST, LAST)
            },
        )


def _numbers(trainer: pl.Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
