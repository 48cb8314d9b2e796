"""The base class of the modules that are trained: optimizer, logging, scores and checkpoint."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from rich.table import Table
from torch import Tensor, nn

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.datasets.images import ImageClasses
from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.loader import Checkpoint
from fastscnn.runs.checkpoint import META
from fastscnn.runs.metrics_csv import MetricsCSV
from fastscnn.training.global_batch import GlobalBatch, Part
from fastscnn.training.layer_programs import LayerPrograms, choose_layer_programs
from fastscnn.training.loss_monitor import SeenLosses
from fastscnn.training.optim import build_optimizer, same_layout, total_steps
from fastscnn.training.recompute import Recomputed, choose_recompute
from fastscnn.training.schedules import build_schedule, endless_warm_up, restore_settings
from fastscnn.training.step_graph import StepGraph, choose_step_graph, same_strides
from fastscnn.utils.errors import RequestError
from fastscnn.utils.progress import say


class Result(Protocol):
    """The scores of one evaluation."""

    def named(self, stage: str) -> dict[str, float]:
        """Metric name to value, as they are logged: `val/miou`."""

    def table(self) -> Table:
        """The table that is printed at the end."""


class Task(pl.LightningModule):
    """A network that is trained and evaluated for some task.

    Attributes:
        monitor: The metric that decides which checkpoint is the best; higher is better.
        result: The dataclass of its scores, with plain values only: the best are saved in every checkpoint.
        config: Plain containers, saved in every checkpoint.
        classes: What to predict; saved in every checkpoint.
        network: Maps normalised images [B, 3, H, W] to logits.
        channels_last: Whether weights and images have the memory format channels_last.
        losses: The losses of training.
        scores: Stage (`val`, `test`) to the scores of its latest evaluation.
        best_scores: Those of the validation with the highest `monitor`.
        scale: Height and width of what the network sees, as a share of the image's (section 3.3).
        weights: Which of a checkpoint's weights these are, `average` or `latest`; None where it has no average.
        frozen: Parts of the network whose batch statistics stay as they are.
    """

    monitor: str
    result: type[Any]
    network: nn.Module
    scale: float = 1.0

    def __init__(self, config: Mapping[str, Any], classes: ClassTable | ImageClasses) -> None:
        super().__init__()
        self.config = dict(config)
        self.classes = classes
        self.channels_last = bool(self.config.get("trainer", {}).get("channels_last", True))
        self.losses = SeenLosses()
        self.frozen: list[nn.Module] = []
        self._global_batch = GlobalBatch()
        self._recomputed: Recomputed | None = None
        self._layer_programs: LayerPrograms | None = None
        self._step_graph: StepGraph | None = None
        self._derived = False
        self.scores: dict[str, Result] = {}
        self.best_scores: Result | None = None
        self.weights: str | None = None

    @property
    def best(self) -> float:
        """The highest `monitor` so far; minus infinity before the first validation."""
        return self.best_scores.named("val")[self.monitor] if self.best_scores else float("-inf")

    @property
    def attached_trainer(self) -> pl.Trainer | None:
        """The trainer that trains or evaluates this module; None where there is none."""
        try:
            return self.trainer
        except RuntimeError:
            return None

    def train(self, mode: bool = True) -> "Task":
        """As any module, but for the frozen parts, which normalise as they are evaluated."""
        super().train(mode)
        for part in self.frozen:
            part.train(False)
        return self

    @abstractmethod
    def metric_names(self, stage: str) -> list[str]:
        """Names of the metrics that an evaluation of a stage (`val`, `test`) logs."""

    @abstractmethod
    def compile_network(self) -> None:
        """Compile the part that training and evaluation share; the names of the weights stay as they are."""

    def take_weights(self, checkpoint: Checkpoint) -> None:
        """Take the tensors of a checkpoint; see `load_trained`."""
        self.load_trained(checkpoint.tensors, checkpoint.source)
        self.weights = checkpoint.weights

    def load_trained(self, state_dict: Mapping[str, Tensor], path: str | Path) -> None:
        """Take the tensors of a checkpoint, which must hold all of the network's and none that is unknown.

        Raises:
            RequestError: They do not fit; names the file and the first tensor that does not.
        """
        try:
            wrong = self.load_state_dict(state_dict, strict=False)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise RequestError(
                f"checkpoint={path} does not fit its own config ({first}).",
                key="checkpoint",
                fix="Choose another file.",
            ) from None
        missing = [key for key in wrong.missing_keys if key.startswith("network.")]
        if missing or wrong.unexpected_keys:
            first = [*missing, *wrong.unexpected_keys][0]
            raise RequestError(
                f"checkpoint={path} does not hold the network that its config names ({first}).",
                key="checkpoint",
                fix="Choose another file.",
            )

    def on_validation_start(self) -> None:
        """Copy the first device's batch statistics, which are saved, to all devices, so that all evaluate with them."""
        if torch.distributed.is_available() and torch.distributed.is_initialized() and self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def on_validation_epoch_end(self) -> None:
        """Log `val/…`."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log `test/…`."""
        self._log_scores("test")

    def configure_optimizers(self) -> Any:
        """The optimizer of the config, and its schedule, a step at a time over the whole run."""
        clips = self.trainer.gradient_clip_val is not None
        optimizer = build_optimizer(self, self.config["optimizer"], self.device, clips=clips)
        steps = total_steps(self.trainer)
        schedule = build_schedule(self.config["scheduler"], optimizer, steps)
        if self.trainer.is_global_zero and (warning := endless_warm_up(self.config["scheduler"], steps)):
            say(warning)
        self._groups = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Restore the optimizer settings of this run: a resumed run may have other ones than its checkpoint."""
        schedule: Any = self.lr_schedulers()
        restore_settings(schedule, self._groups)
        same_layout(schedule.optimizer)

    def on_fit_start(self) -> None:
        """Choose what computes the layers, and whether the steps are replayed from a graph."""
        settings = self.config.get("trainer", {})
        self._layer_programs = choose_layer_programs(settings, self.attached_trainer, self)
        self._step_graph = choose_step_graph(settings, self.attached_trainer)

    def on_fit_end(self) -> None:
        """Free the graph's memory."""
        self._step_graph = self._layer_programs = None

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """As ever, unless the step's graph has written the gradients already."""
        if not self._derived:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As ever, unless the step's graph has written the gradients already."""
        if not self._derived:
            super().backward(loss, *args, **kwargs)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Before they are clipped, make the gradients those of the global batch, laid out as fused kernels ask for."""
        if self.device.type == "cuda" and not self._derived and any(g.get("fused") for g in optimizer.param_groups):
            same_strides(self.parameters())
        if self.trainer.accumulate_grad_batches > 1:
            self._global_batch.rescale(self.parameters(), steps=self.trainer.accumulate_grad_batches)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Check the losses when logging is due, which waits for the device in any case.

        Raises:
            NonFiniteLoss: One is NaN or infinite; names the step and the frames.
        """
        trainer: Any = self.trainer
        every = trainer.log_every_n_steps
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if every and stepped and self.global_step % every == 0:
            self.losses.read()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to rebuild the network, and the best scores so far, in plain containers."""
        best: Any = self.best_scores
        loggers: Any = self.attached_trainer.loggers if self.attached_trainer else ()
        checkpoint[META] = {
            "config": self.config,
            "classes": asdict(self.classes),
            "best_scores": asdict(best) if best else None,
            "rows": next((logger.rows for logger in loggers if isinstance(logger, MetricsCSV)), None),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue from the best scores of the resumed run."""
        best = checkpoint[META].get("best_scores")
        if best is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self.best_scores = self.result(**best)

    @property
    def in_parts(self) -> bool:
        """Whether a global batch is computed in parts: on several devices, or in several accumulation steps."""
        trainer: Any = self.attached_trainer
        return trainer is not None and (trainer.world_size > 1 or trainer.accumulate_grad_batches > 1)

    def _objective(self, objective: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """The loss of a batch; from the step's graph, where there is one, which sets the gradients too."""
        loss = self._step_graph(self, objective, *inputs) if self._step_graph else None
        self._derived = loss is not None
        return objective(*inputs) if loss is None else loss

    def _in_global_batch(self, part: Part, batch_idx: int) -> tuple[Tensor, Tensor]:
        """The loss of this device's part, to be differentiated, and the loss of the global batch so far."""
        steps = self.trainer.accumulate_grad_batches
        return self._global_batch.add(part, devices=self.trainer.world_size, steps=steps, first=batch_idx % steps == 0)

    @abstractmethod
    def _compute_scores(self) -> Result:
        """The scores of everything counted since the last call."""

    def _lay_out(self) -> None:
        """Give the weights the memory format of the images."""
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def _input(self, images: Tensor) -> Tensor:
        return normalize(images, channels_last=self.channels_last).to(self.dtype)  # of trainer.precision=bf16-true, ...

    def _remembering(self, images: Tensor) -> AbstractContextManager[Any]:
        """The block in which the network runs in training: what computes its layers, and what autograd stores."""
        if self._layer_programs is not None:
            return self._layer_programs
        settings = self.config.get("trainer", {})
        recompute, compiled = settings.get("recompute", "auto"), settings.get("compile", False)
        if not choose_recompute(recompute, images, compiled=compiled, scale=self.scale):
            return nullcontext()
        if self._recomputed is None:
            self._recomputed = Recomputed(self)
        return self._recomputed

    def _part(self, name: str) -> AbstractContextManager[Any]:
        """Mark this block as a part of the step for the profiler, if there is one."""
        trainer: Any = self.attached_trainer
        return trainer.profiler.profile(name) if trainer else nullcontext()

    def _log_loss(self, loss: Tensor, own: Tensor, batch_size: int, names: Sequence[str]) -> None:
        """Log the loss of the global batch; `own` is the share of this device's frames, which have these names."""
        with self._part("logging"):
            self.losses.add(loss, self.global_step, names, own)
            self.log("train/loss", loss, batch_size=batch_size)
            # A tensor on the CPU: Lightning would copy a number to the device, and wait for the copy.
            optimizer: Any = self.optimizers()
            self.log("train/lr", torch.tensor(optimizer.param_groups[0]["lr"]), batch_size=1)

    def _log_scores(self, stage: str) -> None:
        scores = self._compute_scores()
        self.scores[stage] = scores
        named = scores.named(stage)
        if stage == "val" and not self.trainer.sanity_checking and named[self.monitor] > self.best:
            self.best_scores = scores
        values = {name: value for name, value in named.items() if value == value}
        if stage == "val" and self.best_scores:
            values[self.monitor.replace("val/", "best/")] = self.best
        self.log_dict(values)
