"""`last.ckpt`: saved during a run, and at the step at which a signal ends it."""

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from fastscnn.data.datamodules.loading import EpochData
from fastscnn.runs.checkpoint import META
from fastscnn.runs.metrics_csv import MetricsCSV
from fastscnn.runs.position import Place, UnknownLoops, position, rescale, settle
from fastscnn.runs.record import BEST, LAST, RunRecord
from fastscnn.training.agreement import Agreement
from fastscnn.training.callbacks.record import FiniteWeights, record_checkpoints
from fastscnn.utils.files import replaced
from fastscnn.utils.signals import Interrupted, received

LAST_STEP_SECONDS = 20.0
"""How long the processes of the other devices have to end, once all have agreed to stop."""


class LastCheckpoint(pl.Callback):
    """Saves `last.ckpt` every few epochs and minutes, and when a signal asks the run to end.

    It is always saved between two optimizer steps, after their metrics are written, so that a resumed run continues as
    if it had never stopped. All devices save and stop at the same step, whichever of them received the signal.

    Args:
        folder: The run's folder.
        minutes: Time between two checkpoints within an epoch, the most that a kill can cost.
        record: The run's record; None in the processes of a distributed run that are not the first.
        epochs: After how many epochs it is saved; more than one where an epoch is over in less than a second.
        is_best: Whether it is `best.ckpt` too, as where nothing is validated.
    """

    def __init__(
        self, folder: Path, minutes: float, record: RunRecord | None, epochs: int = 1, *, is_best: bool = False
    ) -> None:
        self.path = folder / LAST
        self.is_best = is_best
        self.seconds = 60 * minutes
        self.record = record
        self.epochs = epochs
        self._agreement = Agreement()
        self._place: Place | None = None
        self._saved_at = time.monotonic()
        self._begun_at = 0
        self._shared_batches = 0
        self._signal = 0
        self._due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to count the minutes."""
        self._saved_at, self._begun_at = time.monotonic(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the epoch before, which is completely logged only now."""
        if trainer.current_epoch > self._begun_at and trainer.current_epoch % self.epochs == 0:
            self._save(trainer, "epoch")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time, and end if a signal asked for it; the step before is completed and logged."""
        set_logged_step(trainer)
        self._ask(trainer)
        if not (self._signal or self._due) or batch_idx % trainer.accumulate_grad_batches:
            return
        FiniteWeights.check(pl_module)
        self._save(trainer, "batch")
        self._end(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out how many batches every device has: some devices may have one less than others."""
        self._shared_batches = self._agreement.lowest(int(sum(trainer.num_val_batches)))

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """End if a signal asked for it: the validation is repeated when the run continues."""
        if trainer.sanity_checking or batch_idx >= self._shared_batches:
            return
        self._ask(trainer)
        if self._signal:
            self._save(trainer, "validation")
            self._end(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end of the training."""
        self._save(trainer, "epoch")
        self._ask(trainer)
        self._end(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As before a validation."""
        self._shared_batches = self._agreement.lowest(int(sum(trainer.num_test_batches)))

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """End if a signal asked for it; the training is saved already."""
        if batch_idx < self._shared_batches:
            self._ask(trainer)
            self._end(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the place within the epoch; in `best.ckpt` it is the end of a validation, as Lightning stores it.

        Raises:
            UnknownLoops: The place is within an epoch, and cannot be stored.
        """
        if self._place:
            try:
                settle(checkpoint, self._place)
            except UnknownLoops:
                if self._place != "epoch":
                    raise
        if self._place == "epoch":
            checkpoint["epoch"] -= 1  # the completed epoch, as in Lightning's own checkpoints; only people read it

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Continue within the epoch, even if a step now consists of another number of batches."""
        if trainer.state.fn == TrainerFn.FITTING:
            before = checkpoint[META]["config"].get("trainer", {}).get("accumulate_grad_batches", 1)
            rescale(checkpoint, before, trainer.accumulate_grad_batches)
            data: Any = getattr(trainer, "datamodule", None)
            if isinstance(data, EpochData):
                data.go_on(*position(checkpoint))

    def _ask(self, trainer: pl.Trainer) -> None:
        due = trainer.is_global_zero and time.monotonic() - self._saved_at >= self.seconds
        asked, due_now = self._agreement.ask((received(), int(due)))
        self._signal = self._signal or asked
        self._due = self._due or bool(due_now)

    def _save(self, trainer: pl.Trainer, place: Place) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.sync()
        self._place = place
        try:
            trainer.save_checkpoint(self.path)
        except UnknownLoops as error:
            if trainer.is_global_zero:
                print(f"{self.path.name} is only saved after each epoch: {error}.", file=sys.stderr)
            return
        finally:
            self._place = None
            self._saved_at, self._due = time.monotonic(), False
        if self.is_best and trainer.is_global_zero:
            with replaced(self.path.with_name(BEST.name)) as target:
                shutil.copyfile(self.path, target)
        if self.record:
            record_checkpoints(self.record)

    def _end(self, trainer: pl.Trainer) -> None:
        if self._signal:
            raise Interrupted(self._signal, f" at step {trainer.global_step}", together=True)


class KeepSignalHandlers(pl.Callback):
    """Restores the signal handlers that Lightning replaces by its own.

    Lightning's handlers end a run after its step without saving it, and never end a run on two devices. Lightning
    installs them just before the first of the hooks below.
    """

    def __init__(self) -> None:
        numbers = (getattr(signal, name, None) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2"))
        self.handlers = {number: signal.getsignal(number) for number in numbers if number is not None}

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore them before a training."""
        self._restore()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore them before a training without a sanity check, such as a resumed one."""
        self._restore()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore them before a test."""
        self._restore()

    def _restore(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self.handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def set_logged_step(trainer: Any) -> None:
    """Make Lightning log at the run's optimizer step: Lightning's own count is wrong after some restarts.

    If a version of Lightning stores its count under another name, nothing is changed.
    """
    loop: Any = getattr(getattr(trainer, "fit_loop", None), "epoch_loop", None)
    if hasattr(loop, "_batches_that_stepped"):
        loop._batches_that_stepped = trainer.global_step


@contextlib.contextmanager
def ended_together(trainer: pl.Trainer) -> Iterator[None]:
    """If a signal ends this process, end the processes that Lightning started for the other devices, too."""
    try:
        yield
    except Interrupted as stop:
        started: Any = getattr(trainer.strategy.launcher, "procs", [])
        processes = list(started)
        started.clear()  # Lightning's observer kills this process as soon as one of them ends with an exit code
        for process in processes:
            try:
                process.wait(LAST_STEP_SECONDS if stop.together else 0)
            except subprocess.TimeoutExpired:
                process.kill()
        raise
