"""What every task trains with: its module's named places, from config to checkpoint."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from rich.table import Table
from torch import Tensor, nn

from fastscnn.data.classes import ClassTable
from fastscnn.data.images import ImageClasses
from fastscnn.data.normalize import normalize
from fastscnn.errors import RequestError
from fastscnn.runs.checkpoint import META
from fastscnn.training.optim import poly, sgd


class NonFiniteLoss(Exception):
    """The loss became NaN or infinite; raised before the weights are touched by it."""


class Result(Protocol):
    """The scores of one evaluation."""

    def named(self, stage: str) -> dict[str, float]:
        """Metric name to value, as they are logged: `val/miou`."""

    def table(self) -> Table:
        """What a person sees of them at the end."""


class Task(pl.LightningModule):
    """A network that is trained and evaluated, whatever for.

    Attributes:
        monitor: The metric that decides which checkpoint is the best; higher is better.
        result: The dataclass of its scores, plain values alone: the best are saved in every checkpoint.
        config: Plain containers, saved in every checkpoint.
        classes: What to predict; saved in every checkpoint.
        network: Maps normalised images [B, 3, H, W] to logits.
        scores: Stage (`val`, `test`) to the scores of its latest evaluation.
        best_scores: Those of the validation with the highest `monitor`.
    """

    monitor: str
    result: type[Any]
    network: nn.Module

    def __init__(self, config: Mapping[str, Any], classes: ClassTable | ImageClasses) -> None:
        super().__init__()
        self.config = dict(config)
        self.classes = classes
        self.scores: dict[str, Result] = {}
        self.best_scores: Result | None = None

    @property
    def best(self) -> float:
        """The highest `monitor` so far; minus infinity before the first validation."""
        return self.best_scores.named("val")[self.monitor] if self.best_scores else float("-inf")

    @abstractmethod
    def compile_network(self) -> None:
        """Compile the part that training and evaluation share; the names of the weights stay as they are."""

    def load_trained(self, state_dict: Mapping[str, Tensor], path: str | Path) -> None:
        """Take the tensors of a checkpoint, which must hold all of the network's and none that is unknown.

        Raises:
            RequestError: They do not fit; names the file and the first tensor that does not.
        """
        try:
            wrong = self.load_state_dict(state_dict, strict=False)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise RequestError(f"checkpoint={path} does not fit its own config: {first}") from None
        missing = [key for key in wrong.missing_keys if key.startswith("network.")]
        if missing or wrong.unexpected_keys:
            first = [*missing, *wrong.unexpected_keys][0]
            raise RequestError(
                f"checkpoint={path} does not hold the network its config names ({first}): choose another file."
            )

    def on_validation_epoch_end(self) -> None:
        """Log `val/…`."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log `test/…`."""
        self._log_scores("test")

    def configure_optimizers(self) -> Any:
        """SGD with the poly schedule, a step at a time over the whole run."""
        settings = dict(self.config["optimizer"])
        power = settings.pop("power")
        optimizer = sgd(self, **settings)
        schedule = poly(optimizer, int(self.trainer.estimated_stepping_batches), power)
        self._groups = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Put this run's own settings over those that a checkpoint brought, which a resumed run may have changed.

        The learning rate is that of the poly curve over the whole run, as long as it is now, at the step reached.
        """
        schedule: Any = self.lr_schedulers()
        optimizer = schedule.optimizer
        schedule.base_lrs = [own["initial_lr"] for own in self._groups]
        for group, own, factor in zip(optimizer.param_groups, self._groups, schedule.lr_lambdas, strict=True):
            group |= own | {"lr": own["initial_lr"] * factor(schedule.last_epoch)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the network, and the best scores so far: plain containers only."""
        best: Any = self.best_scores
        checkpoint[META] = {
            "config": self.config,
            "classes": asdict(self.classes),
            "best_scores": asdict(best) if best else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the best scores of the run that is resumed."""
        best = checkpoint[META].get("best_scores")
        if best is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self.best_scores = self.result(**best)

    @abstractmethod
    def _judge(self) -> Result:
        """Scores of everything counted since the last call."""

    def _input(self, images: Tensor) -> Tensor:
        return normalize(images).contiguous(memory_format=torch.channels_last)

    def _log_loss(self, loss: Tensor, batch_size: int, names: Sequence[str]) -> None:
        if not torch.isfinite(loss):
            raise NonFiniteLoss(
                f"the loss is {loss.item()} at step {self.global_step} (frames {', '.join(names)}): lower "
                "optimizer.lr, or look at these frames; the checkpoints of the epochs before are kept"
            )
        self.log("train/loss", loss, batch_size=batch_size)
        self.log("train/lr", self.optimizers().param_groups[0]["lr"], batch_size=1)  # type: ignore[union-attr]

    def _log_scores(self, stage: str) -> None:
        scores = self._judge()
        self.scores[stage] = scores
        named = scores.named(stage)
        if stage == "val" and not self.trainer.sanity_checking and named[self.monitor] > self.best:
            self.best_scores = scores
        values = {name: value for name, value in named.items() if value == value}
        self.log_dict(values | {"epoch": float(self.current_epoch), "step": float(self.global_step)})


def dataset_of(config: Mapping[str, Any]) -> str | None:
    """Which data set a checkpoint's config trained on."""
    dataset: str | None = config.get("data", {}).get("dataset")
    return dataset
