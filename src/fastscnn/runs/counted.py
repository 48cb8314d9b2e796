"""How far a training is, as every row of every logger says it."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.trainer.states import TrainerFn

FIRST_EPOCH = 1
"""The number of a run's first epoch, in its record, its metrics, its pictures and what it prints."""


def steps_and_epoch(trainer: pl.Trainer) -> tuple[int, int]:
    """Optimizer steps that are done, and the number of the epoch that they are part of, counted from 1."""
    training = trainer.state.fn == TrainerFn.FITTING
    return trainer.global_step, trainer.current_epoch + (FIRST_EPOCH if training else 0)


class Counted(Logger):
    """A logger whose rows say how many steps are done and which epoch it is.

    Lightning numbers the rows of training by the step before, those of a validation by the steps that are done, and
    epochs from 0: the axis would run backwards.

    Attributes:
        position: Steps that are done, and the epoch; None leaves rows as they come.
    """

    position: Callable[[], tuple[int, int]] | None = None

    def counted(self, metrics: Mapping[str, Any], step: int | None) -> tuple[dict[str, Any], int | None]:
        """A row and its step, by the position of the training."""
        if self.position is None:
            return dict(metrics), step
        step, epoch = self.position()
        return {**metrics, "epoch": epoch}, step
