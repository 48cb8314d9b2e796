"""An exponential moving average of the weights, validated and saved in place of those of the last step."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fastscnn.runs.checkpoint import LATEST_STATE
from fastscnn.training.optim import total_steps
from fastscnn.utils.progress import say


class EMA(EMAWeightAveraging):
    """Lightning's callback, exact also where a run is stopped within a validation or tested after its training.

    A checkpoint's `state_dict` is the average; the weights of the last step, from which a run goes on, stand beside it
    under `LATEST_STATE`.

    Args:
        decay: Share of the average that an update leaves.
        update_every_n_steps: Optimizer steps between two updates.
        update_starting_at_step: The step, counted from 0, of the first update, which copies the weights; None is the
            first one. Until then the average is the weights of the last step.
    """

    def __init__(
        self, decay: float = 0.999, update_every_n_steps: int = 1, update_starting_at_step: int | None = None
    ) -> None:
        super().__init__(
            decay=decay, update_every_n_steps=update_every_n_steps, update_starting_at_step=update_starting_at_step
        )
        self.decay = decay
        self._swapped = False
        self._tensors: list[tuple[list[Tensor], list[Tensor]]] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the average where the training is computed; the module is not there yet."""
        self._device = self._device or trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()  # asking a GPU would wait for it

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the tensors, which stay where they are from here on: floating ones, and counts."""
        averaged, current = self._both(pl_module)
        self._tensors = []
        for floating in (True, False):
            chosen = [[one for one in part if one.is_floating_point() == floating] for part in (averaged, current)]
            self._tensors.append((chosen[0], chosen[1]))
        start, steps = self.update_starting_at_step, total_steps(trainer)
        if trainer.is_global_zero and start is not None and start >= steps:
            say(
                f"callbacks.ema.update_starting_at_step={start} is not within the run's {steps} steps: nothing is "
                "averaged, and the weights of the last step are kept. Begin earlier, or train longer"
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after an optimizer step: in a few kernels, where Lightning starts several for a tensor."""
        step = trainer.global_step
        if step <= self._latest_update_step or not self.should_update(step_idx=step - 1):
            return
        assert self._average_model is not None
        (averaged, current), (averaged_counts, counts) = self._tensors
        if int(self._average_model.n_averaged):
            update = get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
            update(averaged, current, self._average_model.n_averaged)
        else:
            copy_all(averaged, current)
        copy_all(averaged_counts, counts)
        self._average_model.n_averaged += 1
        self._latest_update_step = step

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average, on every device with the batch statistics of the first one, which are saved."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._follow(pl_module)
        super().on_validation_epoch_start(trainer, pl_module)
        self._swapped = True
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the weights of the last step."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_validation_epoch_end(trainer, pl_module)
            self._swapped = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the weights as they are until the last checkpoint is saved."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the module."""
        self._follow(pl_module)
        self._copy_average_to_current(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save both; within a validation they have changed places."""
        self._follow(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._swapped:
            states = checkpoint["state_dict"], checkpoint[LATEST_STATE]
            checkpoint[LATEST_STATE], checkpoint["state_dict"] = states

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with both; a test keeps the average, which is what a checkpoint gives."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def _both(self, pl_module: pl.LightningModule) -> tuple[list[Tensor], list[Tensor]]:
        """The tensors of the average and those of the module, in the same order."""
        assert self._average_model is not None
        averaged, current = (
            [one.detach() for one in (*module.parameters(), *module.buffers())]
            for module in (self._average_model.module, pl_module)
        )
        return averaged, current

    def _follow(self, pl_module: pl.LightningModule) -> None:
        """Until its first update, the average is the weights of the last step."""
        if self._average_model is not None and not int(self._average_model.n_averaged):
            for averaged, current in zip(*self._both(pl_module), strict=True):
                averaged.copy_(current)


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy tensors into others, in a few kernels if torch has its private function for that, else one by one."""
    together = getattr(torch, "_foreach_copy_", None)
    if together is not None:
        together(targets, sources)
        return
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
