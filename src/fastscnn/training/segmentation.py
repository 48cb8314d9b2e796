"""The LightningModule that trains and evaluates a segmentation network."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.inference.loader import Checkpoint, open_checkpoint
from fastscnn.inference.padding import padded, padding_multiple
from fastscnn.kernels import upsample_confidence, upsample_labels
from fastscnn.models.base import SegmentationNetwork
from fastscnn.models.blocks import AuxiliaryHead, downscale, resize
from fastscnn.models.build import build_network
from fastscnn.models.folding import folded
from fastscnn.training.calibration import Calibration, TemperatureFit
from fastscnn.training.distillation import Teacher
from fastscnn.training.losses import SegmentationLoss
from fastscnn.training.metrics import ConfusionMatrix, Scores, score
from fastscnn.training.own_loss import AUXILIARY_WEIGHT, build_loss
from fastscnn.training.task import Task
from fastscnn.utils.errors import RequestError


class Segmentation(Task):
    """A network, its auxiliary heads, its loss and its metrics.

    Attributes:
        network: Maps normalised images [B, 3, H, W] to logits [B, C, H, W].
        auxiliary: Heads on the network's inner feature maps; training only, none where their weight is 0.
        loss: Cross-entropy over all heads.
        confusion: Counts of the evaluation that is going on.
        calibration: Probabilities of the tested frames; None where they are not measured.
        fit: What fits a temperature to the tested frames; None where none is fitted.
        temperature: What logits are divided by before they become probabilities.
        teacher: A trained network whose logits it learns from as well; None without one.
        matrix: Pixels of the latest evaluation by label and prediction; None before the first.

    Args:
        config: Plain containers with `model`, `loss`, `optimizer` and `resolution`.
        classes: What to predict.
        predictor: Makes the labels of an evaluation in the network's place, train ids uint8 [B, H, W] of images uint8
            [B, 3, H, W]; None for the network itself.
        trains: Whether the loss is built, whose class a config names: not for what is only evaluated.
        teacher: A trained network with the same classes, to learn from as well.
    """

    monitor = "val/miou"
    result = Scores
    network: SegmentationNetwork
    loss: Any
    classes: ClassTable
    scores: dict[str, Scores]  # type: ignore[assignment]
    best_scores: Scores | None

    def __init__(
        self,
        config: Mapping[str, Any],
        classes: ClassTable,
        *,
        predictor: Callable[[Tensor], Tensor] | None = None,
        trains: bool = True,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(config, classes)
        model = self.config["model"]
        self.network = build_network(model, classes.num_classes, pretrained=trains)
        self.loss = (
            build_loss(self.config["loss"], ignore_index=classes.ignore_index, num_classes=classes.num_classes)
            if trains
            else SegmentationLoss(self.config["loss"].get(AUXILIARY_WEIGHT, 0.4))
        )
        heads = self.loss.auxiliary_weight > 0
        self.teacher = teacher
        self.auxiliary = auxiliary_heads(self.network, model, classes.num_classes) if heads else nn.ModuleList()
        self._lay_out()
        self._folded: list[nn.Module] = []  # a list, that it is no part of this module
        self._predictor = predictor
        self.confusion = ConfusionMatrix(classes)
        self.calibration: Calibration | None = None
        self.fit: TemperatureFit | None = None
        self.temperature = float(self.config.get("calibration", {}).get("temperature", 1.0))
        self.matrix: list[list[int]] | None = None
        self.scale = self.config.get("resolution", {"scale": 1.0})["scale"]
        self.multiple = padding_multiple(self.config)

    @classmethod
    def from_checkpoint(
        cls,
        source: str | Path | Checkpoint,
        *,
        skip: str | None = None,
        resolution: Mapping[str, Any] | None = None,
        weights: str | None = None,
        predictor: Callable[[Tensor], Tensor] | None = None,
    ) -> "Segmentation":
        """Rebuild a trained module from a checkpoint, with or without the auxiliary heads in it.

        Args:
            source: As `open_checkpoint` takes it, or what that returned.
            skip: As `open_checkpoint` takes it.
            resolution: As `open_checkpoint` takes it.
            weights: As `open_checkpoint` takes it.
            predictor: As the class takes it.

        Raises:
            RequestError: As `open_checkpoint`; or it holds no segmentation network, or its tensors do not fit.
        """
        checkpoint = (
            source
            if isinstance(source, Checkpoint)
            else open_checkpoint(source, skip=skip, resolution=resolution, weights=weights)
        )
        module = cls(checkpoint.config, checkpoint.class_table(), predictor=predictor, trains=False)
        module.take_weights(checkpoint)
        return module

    def metric_names(self, stage: str) -> list[str]:
        """The mean, and the IoU of every class and category."""
        size = self.classes.num_classes
        return [*score(torch.zeros(size, size, dtype=torch.int64), self.classes).named(stage)]

    def compile_network(self) -> None:
        """Compile the part that training and evaluation share, and the heads; weights keep their names."""
        self.network.features = torch.compile(self.network.features)  # type: ignore[method-assign]
        for head in self.auxiliary:
            head.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] to logits float [B, C, H, W], at any resolution of the network's input."""
        height, width = images.shape[-2:]
        images = padded(images, self.multiple)
        logits = resize(self.network.coarse_logits(self._input(images)), (images.shape[-2], images.shape[-1]))
        return logits[..., :height, :width]

    def predict_labels(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] to train ids, uint8 [B, H, W]; upsampled in float32 at any precision."""
        if self._predictor is not None:
            return self._predictor(images)
        height, width = images.shape[-2:]
        images = padded(images, self.multiple)
        network: Any = self._folded[0] if self._folded else self.network
        labels = upsample_labels(network.coarse_logits(self._input(images)), (images.shape[-2], images.shape[-1]))
        return labels[:, :height, :width]

    def measure_calibration(self, *, fit: bool = False) -> None:
        """Measure from here on how often tested labels of a probability are right; with `fit`, fit a temperature."""
        self.calibration = Calibration(self.classes.ignore_index)
        self.fit = TemperatureFit(self.classes.ignore_index) if fit else None

    def on_fit_start(self) -> None:
        """Have the teacher where the network is."""
        super().on_fit_start()
        if self.teacher:
            self.teacher.to(self.device)

    def on_validation_epoch_start(self) -> None:
        """Predict with the norms folded into the convolutions."""
        self._fold()

    def on_test_epoch_start(self) -> None:
        """As before a validation."""
        self._fold()

    def on_validation_epoch_end(self) -> None:
        """Log the scores; what was folded is out of date with the next step."""
        super().on_validation_epoch_end()
        self._folded.clear()

    def on_test_epoch_end(self) -> None:
        """As after a validation."""
        super().on_test_epoch_end()
        self._folded.clear()

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Loss of one batch: `image` uint8 [B, 3, H, W], `label` uint8 [B, H, W], `name`.

        Raises:
            NonFiniteLoss: The loss is NaN or infinite; names the step and the frames. On the CPU; elsewhere it is
                raised when logging is due.
        """
        images, labels = batch["image"], batch["label"]
        if not self.in_parts:
            loss = whole = self._objective(self.objective, images, labels)
        else:
            logits, heads = self._heads(images)
            with self._part("loss"):
                part = self.loss.part(logits, heads, labels)
                part = self.teacher.added(part, logits, images) if self.teacher else part
                loss, whole = self._in_global_batch(part, batch_idx)
        self._log_loss(whole, loss, len(images), batch["name"])
        return loss

    def objective(self, images: Tensor, labels: Tensor) -> Tensor:
        """What training makes small: the loss over all heads of images uint8 [B, 3, H, W], labels uint8 [B, H, W]."""
        logits, heads = self._heads(images)
        with self._part("loss"):
            loss: Tensor = self.loss(logits, heads, labels)
            if self.teacher:
                loss = loss + self.teacher.loss(logits, images)
        return loss

    def _heads(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits of the classifier and of the auxiliary heads, at the resolution of each."""
        with self._remembering(images):
            features = self.network.features(self._input(images))
            heads = [head(feature) for head, feature in zip(self.auxiliary, features.inner, strict=False)]
        return features.logits, heads

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Count the predictions of whole frames at full label resolution."""
        self._count(batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """As `validation_step`, for the test split; `predictions` are the train ids, [B, H, W]."""
        if self.calibration is not None and "label" in batch:
            return {"predictions": self._calibrate(self.calibration, batch)}
        return {"predictions": self._count(batch)}

    def _calibrate(self, calibration: Calibration, batch: Mapping[str, Any]) -> Tensor:
        """As `_count`, and count the probabilities as well; try temperatures where one is fitted."""
        height, width = batch["label"].shape[-2:]
        images = padded(batch["image"], self.multiple)
        labels = padded(batch["label"], self.multiple, self.classes.ignore_index)
        network: Any = self._folded[0] if self._folded else self.network
        logits = network.coarse_logits(self._input(images))
        size = (labels.shape[-2], labels.shape[-1])
        predictions, confidence = upsample_confidence(logits.float() / self.temperature, size)
        calibration.update(predictions, confidence, labels)
        self.confusion.update(predictions, labels)
        if self.fit is not None:
            self.fit.update(logits, labels)
        return predictions[:, :height, :width]

    def _fold(self) -> None:
        """On a CPU, where it saves a quarter of the time exactly but for rounding; a compiled network does it."""
        compiled = self.config.get("trainer", {}).get("compile", False)
        self._folded = [folded(self.network)] if self.device.type == "cpu" and not compiled else []

    def _input(self, images: Tensor) -> Tensor:
        images = downscale(super()._input(images), self.scale)
        return images if self.channels_last else images.contiguous()

    def _count(self, batch: Mapping[str, Any]) -> Tensor:
        predictions = self.predict_labels(batch["image"])
        if "label" in batch:
            self.confusion.update(predictions, batch["label"])
        return predictions

    def _compute_scores(self) -> Scores:
        counts = self.confusion.compute()
        scores, self.matrix = score(counts, self.classes), counts.tolist()
        self.confusion.reset()
        if scores.pixels == 0 and self.trainer.validating:
            raise RequestError("val has no labelled pixel to evaluate.", key="data.root", fix="Check its label files.")
        return scores


def auxiliary_heads(network: SegmentationNetwork, model: Mapping[str, Any], num_classes: int) -> nn.ModuleList:
    """A head for each inner feature map that the network has; `model` is its config."""
    return nn.ModuleList(
        AuxiliaryHead(
            channels, num_classes, dropout=model.get("dropout", 0.1), activation=model.get("activation", "relu")
        )
        for channels in network.auxiliary_channels
    )
