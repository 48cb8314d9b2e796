"""`last.ckpt`: saved as a run goes on, and at the step at which a signal ends it."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector
from pytorch_lightning.trainer.states import TrainerFn

from fastscnn.runs.checkpoint import META
from fastscnn.runs.metrics_csv import MetricsCSV
from fastscnn.runs.record import BEST, LAST, RunRecord
from fastscnn.training.agreement import Agreement
from fastscnn.training.callbacks.record import FiniteWeights, record_checkpoints
from fastscnn.training.position import Place, rescale, settle
from fastscnn.utils.files import replaced
from fastscnn.utils.signals import Interrupted, received

LAST_STEP_SECONDS = 20.0
"""How long the processes of the other devices have to end, once all have agreed to."""


class LastCheckpoint(pl.Callback):
    """Saves `last.ckpt` every so many epochs and minutes, and where a signal asks the run to end.

    Always between two optimizer steps with what they logged written, so that a run goes on from it as if it had never
    stopped. All devices save and stop at the same step, whichever of them received the signal.

    Args:
        folder: The run's folder.
        minutes: Most time that a kill may cost, within an epoch.
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
        """Begin to count the minutes."""
        self._saved_at, self._begun_at = time.monotonic(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the epoch that is done: all of it is logged only now."""
        if trainer.current_epoch > self._begun_at and trainer.current_epoch % self.epochs == 0:
            self._save(trainer, "epoch")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time, and end where a signal asks; the step before is done and logged."""
        loop: Any = trainer.fit_loop.epoch_loop
        loop._batches_that_stepped = trainer.global_step  # Lightning's x of what is logged miscounts in rare restarts
        self._ask(trainer)
        if not (self._signal or self._due) or batch_idx % trainer.accumulate_grad_batches:
            return
        FiniteWeights.check(pl_module)
        self._save(trainer, "batch")
        self._end(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out how many frames every device has: with the last ones, some may have none."""
        self._shared_batches = self._agreement.lowest(int(sum(trainer.num_val_batches)))

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """End where a signal asks: the validation begins anew when the run goes on."""
        if trainer.sanity_checking or batch_idx >= self._shared_batches:
            return
        self._ask(trainer)
        if self._signal:
            self._save(trainer, "validation")
            self._end(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end."""
        self._save(trainer, "epoch")
        self._ask(trainer)
        self._end(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As before a validation."""
        self._shared_batches = self._agreement.lowest(int(sum(trainer.num_test_batches)))

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """End where a signal asks; the training is saved already."""
        if batch_idx < self._shared_batches:
            self._ask(trainer)
            self._end(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say where in the epoch the run is; a best checkpoint is at the end of a validation, as Lightning has it."""
        if self._place:
            settle(checkpoint["loops"]["fit_loop"], self._place)
        if self._place == "epoch":
            checkpoint["epoch"] -= 1  # the one that is done, as Lightning has it; it is for people alone

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on within the epoch also where a step now takes another number of batches."""
        if trainer.state.fn == TrainerFn.FITTING:
            before = checkpoint[META]["config"].get("trainer", {}).get("accumulate_grad_batches", 1)
            rescale(checkpoint["loops"]["fit_loop"], before, trainer.accumulate_grad_batches)

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


class NoSignals(_SignalConnector):
    """Lightning's handlers left out: they end a run after its step unsaved, and two devices never."""

    def register_signal_handlers(self) -> None:
        """Leave the handlers as they are."""
        self.received_sigterm = False

    def teardown(self) -> None:
        """Leave the handlers as they are."""


@contextlib.contextmanager
def ended_together(trainer: pl.Trainer) -> Iterator[None]:
    """Let the processes that Lightning started for the other devices end with this one, where a signal ends it."""
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
