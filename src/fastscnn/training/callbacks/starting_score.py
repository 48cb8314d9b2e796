"""The score of the weights that a training starts from, before its first step."""

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from fastscnn.runs.record import RunRecord
from fastscnn.training.callbacks.record import best_checkpoints
from fastscnn.training.task import Task
from fastscnn.utils.progress import say


class StartingScore(pl.Callback):
    """Prints and records the first score of weights that `init` names, and says where the training stays below it.

    Lightning's check before the training must be a whole validation (`num_sanity_val_steps=-1`); a resumed run has no
    such check.

    Args:
        record: The run's, which says under `init` what was taken.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    @rank_zero_only
    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print and record it."""
        assert isinstance(pl_module, Task)
        value = pl_module.scores["val"].named("val")[pl_module.monitor]
        say(f"before the first step: {pl_module.monitor} {value:.4f}")
        self.record.update(init=self.record.data["init"] | {pl_module.monitor: value})

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say so if no validation reached it."""
        assert isinstance(pl_module, Task)
        start = self.record.data["init"].get(pl_module.monitor)
        scores = [callback.best_model_score for callback in best_checkpoints(trainer)]
        best = max((float(score) for score in scores if score is not None), default=None)
        if start is not None and best is not None and best < start:
            say(
                f"{pl_module.monitor} stayed below that of the weights that the training began with: {best:.4f} at "
                f"best, {start:.4f} before. A lower optimizer.lr or more epochs may help"
            )
