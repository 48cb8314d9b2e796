"""What a person sees while a run goes on: how far it is at every moment, and a line for each validation."""

import math
import time
from typing import Any

import pytorch_lightning as pl

from fastscnn.training.task import Task
from fastscnn.utils.progress import Progress, say
from fastscnn.utils.text import number

WAITING = "waiting for the next batch"


class ProgressLine(pl.Callback):
    """Shows training, validation and test with loss, images a second and time left; a line after each validation."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._training: Progress | None = None
        self._evaluation: Progress | None = None
        self._batch_started = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin; the first batch may be minutes away."""
        if trainer.is_global_zero:
            self._training = Progress("training", unit="step")
            self._training.doing = "starting the processes that read the images"
            self._training.start()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin at the step that the run is at."""
        if self._training:
            self._training.what = _epoch(trainer)
            self._training.begin(trainer.global_step, int(trainer.estimated_stepping_batches))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Name the epoch, before its workers start and its first batch is read."""
        if self._training:
            self._training.what = _epoch(trainer)
            self._training.doing = "waiting for the first batch"

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Keep the time; the first batch of an epoch waits for its data before this."""
        if not self._batch_started:
            self._batch_started = time.perf_counter()
        if self._training:
            self._training.doing = f"computing step {trainer.global_step + 1:,}"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Go on; loss and rate are running means over about twenty batches.

        The loss is that of the latest step that was read, for showing it is not worth waiting for the device.
        """
        assert isinstance(pl_module, Task)
        now = time.perf_counter()
        rate = len(batch["image"]) * trainer.world_size / (now - self._batch_started)
        self._batch_started = now
        self.rate = 0.95 * self.rate + 0.05 * rate if self.rate else rate
        if self._training:
            loss = pl_module.losses.mean
            self._training.facts = (
                *([f"loss {loss:.3f}"] if not math.isnan(loss) else []),
                f"{number(self.rate)} images/s",
            )
            self._training.reach(trainer.global_step)
            self._training.doing = WAITING

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say that a file is written, which may be slow."""
        if self._training:
            self._training.doing = "writing a checkpoint"

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a validation, within the training."""
        if trainer.is_global_zero:
            if trainer.sanity_checking:
                self._evaluate("trying the validation", trainer, trainer.num_sanity_val_batches)
            else:
                self._evaluate(f"validation of epoch {trainer.current_epoch + 1}", trainer, trainer.num_val_batches)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count the images of all devices, which keep step."""
        self._count(trainer, batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the validation's line."""
        self._batch_started = 0.0
        self._end_evaluation()
        if self._training:
            self._training.doing = "recording the validation"
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Task)
        value = pl_module.scores["val"].named("val")[pl_module.monitor]
        mark = " *" if pl_module.best_scores is pl_module.scores["val"] else ""
        say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  step {trainer.global_step}  "
            f"loss {pl_module.losses.mean:.3f}  {self.rate:.1f} images/s  {pl_module.monitor} {value:.4f}  "
            f"best {pl_module.best:.4f}{mark}"
        )

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin an evaluation."""
        if trainer.is_global_zero:
            self._evaluate("evaluation", trainer, trainer.num_test_batches)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count as in a validation."""
        self._count(trainer, batch)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the evaluation."""
        self._end_evaluation()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the training."""
        self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End everything, so that the error stands alone."""
        self._end()

    def _evaluate(self, what: str, trainer: pl.Trainer, batches: Any) -> None:
        loaders = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        assert loaders is not None
        images = min(len(loaders.sampler), sum(batches) * loaders.batch_size)  # of this device
        self._evaluation = Progress(what, int(images) * trainer.world_size, "image")
        self._evaluation.doing = "waiting for the first batch"
        self._evaluation.start()

    def _count(self, trainer: pl.Trainer, batch: Any) -> None:
        if self._evaluation:
            self._evaluation.advance(len(batch["image"]) * trainer.world_size)
            self._evaluation.doing = WAITING

    def _end_evaluation(self) -> None:
        if self._evaluation:
            self._evaluation.stop()
            self._evaluation = None

    def _end(self) -> None:
        self._end_evaluation()
        if self._training:
            self._training.stop()
            self._training = None


def _epoch(trainer: pl.Trainer) -> str:
    epoch = f"epoch {trainer.current_epoch + 1}"
    return f"{epoch} of {trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else epoch
