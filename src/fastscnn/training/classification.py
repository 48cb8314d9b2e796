"""The LightningModule that trains and evaluates an image classifier, to pre-train a segmentation network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from timm.data.mixup import Mixup
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from fastscnn.data.datasets.frame_dataset import frame_seed
from fastscnn.data.datasets.images import ImageClasses, seeded
from fastscnn.inference.contents import image_classes
from fastscnn.inference.loader import Checkpoint, open_checkpoint
from fastscnn.models.build import build_classifier
from fastscnn.models.image_classifier import ImageClassifier
from fastscnn.runs.checkpoint import META
from fastscnn.training.global_batch import Part
from fastscnn.training.losses import ImageLoss
from fastscnn.training.metrics import percent
from fastscnn.training.own_loss import build_image_loss
from fastscnn.training.tally import Tally
from fastscnn.training.task import Task
from fastscnn.utils.errors import RequestError


@dataclass(frozen=True)
class TopK:
    """What an evaluation found; shares from 0 to 1.

    Attributes:
        top1: Share of the images whose class has the highest score.
        top5: Share of the images whose class is among the five highest; of all classes, where there are fewer.
    """

    top1: float
    top5: float

    def named(self, stage: str) -> dict[str, float]:
        """Metric name to value, as they are logged: `val/top1`, `val/top5`."""
        return {f"{stage}/top1": self.top1, f"{stage}/top5": self.top5}

    def table(self) -> Table:
        """A table with both, percent."""
        table = Table()
        table.add_column("accuracy")
        table.add_column("%", justify="right")
        table.add_row("top-1", percent(self.top1), style="bold")
        table.add_row("top-5", percent(self.top5))
        return table


class Classification(Task):
    """An image classifier, its loss and its metrics.

    Attributes:
        network: Maps normalised images [B, 3, H, W] to logits [B, C].
        mixing: timm's mixup and cutmix, which make soft targets; None where both are off.
        trained: Right answers and images of the training epoch that is going on.
        top1: Counts of the evaluation that is going on; so does `top5`.

    Args:
        config: Plain containers with `model`, `loss`, `optimizer`, `augment` and `seed`.
        classes: What to predict.
        trains: Whether the loss is built, whose class a config names: not for what is only evaluated.
    """

    monitor = "val/top1"
    result = TopK
    network: ImageClassifier

    def __init__(self, config: Mapping[str, Any], classes: ImageClasses, *, trains: bool = True) -> None:
        super().__init__(config, classes)
        self.network = build_classifier(self.config["model"], classes.num_classes)
        self._lay_out()
        self.trained = Tally(("hits", "images"))
        self._hits: list[Tensor] = []  # of the latest steps, left on the device
        self.mixing = _mixing(self.config["augment"], classes.num_classes)
        self.loss = build_image_loss(self.config["loss"]) if trains else ImageLoss()
        size = classes.num_classes
        self.top1, self.top5 = (
            MulticlassAccuracy(size, top_k=min(k, size), average="micro", validate_args=False) for k in (1, 5)
        )

    @classmethod
    def from_checkpoint(cls, source: str | Path | Checkpoint, *, weights: str | None = None) -> "Classification":
        """Rebuild a trained module from a checkpoint.

        Args:
            source: As `open_checkpoint` takes it, or what that returned.
            weights: As `open_checkpoint` takes it.

        Raises:
            RequestError: As `open_checkpoint`; or it holds no image classifier, or its tensors do not fit.
        """
        checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source, weights=weights)
        if not checkpoint.is_classifier:
            raise RequestError(
                f"checkpoint={checkpoint.source} holds a segmentation network, no image classifier.",
                key="checkpoint",
                fix="Name another checkpoint.",
            )
        module = cls(checkpoint.config, image_classes(checkpoint.classes, checkpoint.source), trains=False)
        module.take_weights(checkpoint)
        return module

    def metric_names(self, stage: str) -> list[str]:
        """The two accuracies."""
        return [*TopK(0, 0).named(stage)]

    def compile_network(self) -> None:
        """Compile the network; the names of the weights stay as they are."""
        self.network.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] to logits float [B, C]."""
        logits: Tensor = self.network(self._input(images))
        return logits

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Loss of one batch: `image` uint8 [B, 3, H, W], `target` int64 [B], `name`.

        Raises:
            NonFiniteLoss: The loss is NaN or infinite; names the step and the images. On the CPU; elsewhere it is
                raised when logging is due.
        """
        images, targets = self._input(batch["image"]), batch["target"]
        if self.mixing is not None:
            with seeded(frame_seed(self.config["seed"], self.current_epoch, batch_idx)):
                images, targets = self.mixing(images, targets)
        with self._remembering(images):
            logits = self.network(images)
        with self._part("loss"):
            loss: Tensor = self.loss(logits, targets)
            whole = loss
            if self.in_parts:
                count = loss.new_full((1,), len(images))
                loss, whole = self._in_global_batch(Part(loss[None], count, count[0], len(images)), batch_idx)
        self._log_loss(whole, loss, len(images), batch["name"])
        if self.mixing is None:
            self._hits.append((logits.argmax(1) == targets).sum())
            self.trained.add({"images": len(images)})
        return loss

    def on_train_epoch_end(self) -> None:
        """Log `train/top1` of the epoch."""
        if self.mixing is None:
            seen = self._gathered()
            self.log("train/top1", seen["hits"] / max(1, seen["images"]))
            self.trained.reset()

    def _gathered(self) -> dict[str, int]:
        """The counts of this epoch over all devices."""
        hits, self._hits = self._hits, []
        self.trained.add({"hits": sum(int(count) for count in hits)})
        return self.trained.gather(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the counts of the epoch that is going on, over all devices."""
        super().on_save_checkpoint(checkpoint)
        if self.attached_trainer:
            checkpoint[META]["trained"] = self._gathered()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from these counts."""
        super().on_load_checkpoint(checkpoint)
        self.trained.total |= checkpoint[META].get("trained", {})

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Count the right predictions."""
        self._count(batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """As `validation_step`."""
        self._count(batch)

    def _count(self, batch: Mapping[str, Any]) -> None:
        logits = self(batch["image"]).float()
        self.top1.update(logits, batch["target"])
        self.top5.update(logits, batch["target"])

    def _compute_scores(self) -> TopK:
        scores = TopK(float(self.top1.compute()), float(self.top5.compute()))
        self.top1.reset()
        self.top5.reset()
        return scores


def _mixing(augment: Mapping[str, Any], num_classes: int) -> Mixup | None:
    mixup, cutmix = augment.get("mixup", 0), augment.get("cutmix", 0)
    if not mixup and not cutmix:
        return None
    return Mixup(mixup, cutmix, label_smoothing=0.0, num_classes=num_classes)  # type: ignore[no-untyped-call]
