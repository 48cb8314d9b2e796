"""What a person sees while a run goes on: a bar, a line for each validation, a table at the end."""

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fastscnn.training.task import Task


class ProgressLine(pl.Callback):
    """One bar over the whole run with loss, images a second and time left, and a line after each validation.

    Where the output is no terminal only the lines are printed.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}% loss {task.fields[loss]} · {task.fields[rate]} images/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.rate = 0.0
        self._batch_started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the bar at the step that the run is at."""
        self.task = self.bar.add_task("training", total=trainer.estimated_stepping_batches, loss="-", rate="-")
        self.bar.update(self.task, completed=trainer.global_step)
        if trainer.is_global_zero:
            self.bar.start()

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Note the time; the first batch of an epoch waits for its data before this."""
        if not self._batch_started:
            self._batch_started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar; loss and rate are running means over about twenty batches.

        The loss is that of the latest step that was read, for showing it is not worth waiting for the device.
        """
        assert isinstance(pl_module, Task)
        now = time.perf_counter()
        rate = len(batch["image"]) * trainer.world_size / (now - self._batch_started)
        self._batch_started = now
        self.rate = 0.95 * self.rate + 0.05 * rate if self.rate else rate
        self.bar.update(
            self.task,
            completed=trainer.global_step,
            description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            loss=f"{pl_module.losses.mean:.3f}",
            rate=f"{self.rate:.1f}",
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the validation's line."""
        self._batch_started = 0.0
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Task)
        value = pl_module.scores["val"].named("val")[pl_module.monitor]
        mark = " *" if pl_module.best_scores is pl_module.scores["val"] else ""
        self.console.print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  step {trainer.global_step}  "
            f"loss {pl_module.losses.mean:.3f}  {self.rate:.1f} images/s  {pl_module.monitor} {value:.4f}  "
            f"best {pl_module.best:.4f}{mark}",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the bar away."""
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take the bar away, so that the error stands alone."""
        self.bar.stop()
