"""The LightningModule that trains and evaluates a segmentation network."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fastscnn.data.classes import ClassTable
from fastscnn.data.normalize import normalize
from fastscnn.errors import RequestError
from fastscnn.network.blocks import AuxiliaryHead, resize
from fastscnn.network.build import build_network
from fastscnn.runs.checkpoint import META, read_checkpoint
from fastscnn.training.losses import SegmentationLoss
from fastscnn.training.metrics import ConfusionMatrix, Scores, score
from fastscnn.training.optim import poly, sgd


class NonFiniteLoss(Exception):
    """The loss became NaN or infinite; raised before the weights are touched by it."""


class Segmentation(pl.LightningModule):
    """A network, its auxiliary heads, its loss and its metrics.

    Attributes:
        network: Maps normalised images [B, 3, H, W] to logits [B, C, H, W].
        auxiliary: Heads on the learning to downsample and the global feature extractor; training only, none where
            their weight is 0.
        loss: Cross-entropy over all heads.
        confusion: Counts of the evaluation that is going on.
        scores: Stage (`val`, `test`) to the scores of its latest evaluation.
        best_scores: Those of the validation with the highest `miou`.

    Args:
        config: Plain containers with `model`, `loss` and `optimizer`; saved in every checkpoint.
        classes: What to predict; saved in every checkpoint.
    """

    def __init__(self, config: Mapping[str, Any], classes: ClassTable) -> None:
        super().__init__()
        self.config = dict(config)
        self.classes = classes
        model = self.config["model"]
        self.network = build_network(model, classes.num_classes).to(memory_format=torch.channels_last)
        self.loss = SegmentationLoss(**self.config["loss"], ignore_index=classes.ignore_index)
        self.auxiliary = nn.ModuleList(
            AuxiliaryHead(channels, classes.num_classes, dropout=model["dropout"], activation=model["activation"])
            for channels in (64, 128)
            if self.loss.auxiliary_weight > 0
        )
        self.confusion = ConfusionMatrix(classes)
        self.scores: dict[str, Scores] = {}
        self.best_scores: Scores | None = None

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, skip: str | None = None) -> "Segmentation":
        """Rebuild a trained module from a checkpoint, with or without the auxiliary heads in it.

        Args:
            path: A file that `train.py` wrote.
            skip: `keep` or `zero` instead of what the network was trained with (section 3.2).

        Raises:
            RequestError: The file is no checkpoint, or its tensors do not fit its config.
        """
        content = read_checkpoint(path)
        meta = content[META]
        config = dict(meta["config"])
        if skip is not None:
            config["model"] = config["model"] | {"skip": skip}
        module = cls(config, ClassTable(**meta["classes"]))
        try:
            wrong = module.load_state_dict(content["state_dict"], strict=False)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise RequestError(f"checkpoint={path} does not fit its own config: {first}") from None
        missing = [key for key in wrong.missing_keys if key.startswith("network.")]
        if missing or wrong.unexpected_keys:
            first = [*missing, *wrong.unexpected_keys][0]
            raise RequestError(
                f"checkpoint={path} does not hold the network its config names ({first}): choose another file."
            )
        return module

    def compile_network(self) -> None:
        """Compile the part that training and evaluation share; the names of the weights stay as they are."""
        self.network.features = torch.compile(self.network.features)  # type: ignore[method-assign]

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] to logits float [B, C, H, W]."""
        output: Tensor = self.network(self._input(images))
        return output

    def predict_labels(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] to train ids [B, H, W]; upsampled in float32 at any precision of the network."""
        height, width = images.shape[-2:]
        coarse = self.network.coarse_logits(self._input(images))
        return resize(coarse.float(), (height, width)).argmax(1)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Loss of one batch: `image` uint8 [B, 3, H, W], `label` uint8 [B, H, W], `name`.

        Raises:
            NonFiniteLoss: The loss is NaN or infinite; names the step and the frames.
        """
        features = self.network.features(self._input(batch["image"]))
        inner = (features.detail, features.context)
        heads = [head(feature) for head, feature in zip(self.auxiliary, inner, strict=False)]
        loss: Tensor = self.loss(features.logits, heads, batch["label"])
        if not torch.isfinite(loss):
            raise NonFiniteLoss(
                f"the loss is {loss.item()} at step {self.global_step} (frames {', '.join(batch['name'])}): lower "
                "optimizer.lr, or look at these frames; the checkpoints of the epochs before are kept"
            )
        self.log("train/loss", loss, batch_size=len(batch["image"]))
        self.log("train/lr", self.optimizers().param_groups[0]["lr"], batch_size=1)  # type: ignore[union-attr]
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Count the predictions of whole frames at full label resolution."""
        self._count(batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """As `validation_step`, for the test split; `predictions` are the train ids, [B, H, W]."""
        return {"predictions": self._count(batch)}

    def on_validation_epoch_end(self) -> None:
        """Log `val/miou` and the rest."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log `test/miou` and the rest."""
        self._log_scores("test")

    def configure_optimizers(self) -> Any:
        """SGD with the poly schedule, a step at a time over the whole run."""
        settings = dict(self.config["optimizer"])
        power = settings.pop("power")
        optimizer = sgd(self, **settings)
        schedule = poly(optimizer, int(self.trainer.estimated_stepping_batches), power)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the network: plain containers only."""
        checkpoint[META] = {"config": self.config, "classes": asdict(self.classes)}

    def _input(self, images: Tensor) -> Tensor:
        return normalize(images).contiguous(memory_format=torch.channels_last)

    def _count(self, batch: Mapping[str, Any]) -> Tensor:
        predictions = self.predict_labels(batch["image"])
        if "label" in batch:
            self.confusion.update(predictions, batch["label"])
        return predictions

    def _log_scores(self, stage: str) -> None:
        scores = score(self.confusion.compute(), self.classes)
        self.confusion.reset()
        self.scores[stage] = scores
        if stage == "val" and not self.trainer.sanity_checking:
            if scores.pixels == 0:
                raise RequestError("val has no labelled pixel, so nothing can be judged: look at its label files.")
            if self.best_scores is None or scores.miou > self.best_scores.miou:
                self.best_scores = scores
        values = {name: value for name, value in scores.named(stage).items() if value == value}
        self.log_dict(values | {"epoch": float(self.current_epoch), "step": float(self.global_step)})
