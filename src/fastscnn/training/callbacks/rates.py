"""How fast a training is and what it takes, in the loggers beside `metrics.csv`, whose rows a resumed run repeats."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from fastscnn.runs.media import keep_model, show_confusion
from fastscnn.runs.record import BEST, RunRecord
from fastscnn.runs.reporting import trackers
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.task import Task


class Rates(pl.Callback):
    """Logs `rate/images_per_second`, `rate/epoch_seconds`, `rate/gpu_memory_gb`, and `train/grad_norm`.

    The time of an epoch is that of its training steps, without its validation. The norm is that of the gradients before
    they are clipped, in the steps whose loss is logged.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._images, self._seconds = 0, 0.0
        self._norm: torch.Tensor | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count."""
        self._images, self._seconds, self._began = 0, 0.0, time.monotonic()
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.strategy.root_device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images of all devices, which keep step, and log the norm of a step that is done."""
        if isinstance(batch, dict) and "image" in batch:
            self._images += len(batch["image"]) * trainer.world_size
        if self._norm is not None:
            self._log(trainer, {"train/grad_norm": float(self._norm)})
            self._norm = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A validation within the epoch is not its time."""
        self._pause()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on."""
        self._began = time.monotonic()

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Log the norm where the loss is logged too."""
        every: int = getattr(trainer, "log_every_n_steps", 0)
        if not every or (trainer.global_step + 1) % every or not trackers(trainer.loggers):
            return
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        self._norm = torch.nn.utils.get_total_norm(gradients)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what the epoch took."""
        self._pause()
        if not self._seconds:
            return
        values = {"rate/epoch_seconds": self._seconds, "rate/images_per_second": self._images / self._seconds}
        if trainer.strategy.root_device.type == "cuda":
            values["rate/gpu_memory_gb"] = torch.cuda.max_memory_allocated(trainer.strategy.root_device) / 1e9
        self._log(trainer, values)

    def _pause(self) -> None:
        if self._began is not None:
            self._seconds += time.monotonic() - self._began
            self._began = None

    @rank_zero_only
    def _log(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        for logger in trackers(trainer.loggers):
            logger.log_metrics(values, trainer.global_step)


class BestInLoggers(pl.Callback):
    """Shows the best validation: its confusion matrix and classes, and at the end its checkpoint.

    Args:
        record: The run's.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show a validation that is the best so far."""
        if trainer.sanity_checking or not isinstance(pl_module, Segmentation) or pl_module.matrix is None:
            return
        best = pl_module.scores["val"]
        if best is pl_module.best_scores:
            step, names = trainer.global_step, pl_module.classes.names
            matrix: Any = pl_module.matrix
            show_confusion(trainer.loggers, matrix, names, best.iou, step)

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the model."""
        file = self.record.folder / BEST
        if file.is_file() and isinstance(pl_module, Task):
            data = self.record.data
            started = (data.get("pretrain") or {}) | (data.get("init") or {})
            about = {"run": data["id"], "name": data["name"], "seed": data["seed"], "best": data["metrics"]["best"]}
            keep_model(trainer.loggers, file, about, started.get("run"))
