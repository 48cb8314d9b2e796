"""Pictures, tables and models in whichever loggers a run has: each has a way of its own for them, or none."""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger

from fastscnn.runs.reporting import trackers

Array = npt.NDArray[Any]
KEEPS_MODEL = "keeps_model"
"""The attribute of W&B's logger by which it takes the best checkpoint; Lightning's own way knows no lineage."""


@dataclass(frozen=True)
class Frame:
    """A frame with its masks, as it is shown.

    Attributes:
        name: The frame's.
        image: RGB, uint8 [H, W, 3].
        prediction: Train ids, uint8 [H, W].
        truth: As `prediction`; None where there is none.
        panels: Input, truth and prediction side by side, RGB, uint8.
        file: Where the panels are written.
        classes: Train id to name, with the ignored one.
    """

    name: str
    image: Array
    prediction: Array
    truth: Array | None
    panels: Array
    file: Path
    classes: Mapping[int, str]


def show_frame(loggers: Iterable[Logger], key: str, frame: Frame, step: int) -> None:
    """Show one frame: in W&B with masks that can be switched on and off, elsewhere as panels beside each other."""
    for logger in trackers(loggers):
        if issubclass(logger.kind, WandbLogger):
            logger.report(lambda inner: inner.log_metrics({key: _with_masks(frame)}, step))
        elif issubclass(logger.kind, TensorBoardLogger):
            logger.report(lambda inner: _add_image(inner, key, frame.panels, step))
        elif issubclass(logger.kind, MLFlowLogger):
            logger.report(lambda inner: _log_image(inner, f"{key}_step{step}.png", frame.panels))
        elif hasattr(logger.kind, "log_image"):
            logger.log_image(key, [str(frame.file)], step=step)


def show_confusion(
    loggers: Iterable[Logger],
    matrix: Sequence[Sequence[int]],
    names: Sequence[str],
    iou: Mapping[str, float],
    step: int,
) -> None:
    """Show the confusion matrix of the best validation, rows are labels, and the IoU of each class.

    Args:
        loggers: The run's.
        matrix: Pixels by label and prediction.
        names: Of the classes.
        iou: Class to IoU, NaN where it does not occur.
        step: Of the validation.
    """
    for logger in trackers(loggers):
        if issubclass(logger.kind, WandbLogger):
            logger.report(lambda inner: inner.log_metrics(_tables(matrix, names, iou), step))
        elif issubclass(logger.kind, TensorBoardLogger):
            logger.report(lambda inner: _add_image(inner, "best/confusion", confusion_picture(matrix), step))
        elif issubclass(logger.kind, MLFlowLogger):
            logger.report(lambda inner: _log_confusion(inner, matrix, names))


def keep_model(loggers: Iterable[Logger], file: Path, about: Mapping[str, Any], source: str | None) -> None:
    """Store the best checkpoint as W&B's artifact `model-ID`, as `best` and `latest`, where `log_model` asks for it.

    Args:
        loggers: The run's.
        file: The checkpoint.
        about: What the artifact says of it.
        source: W&B's id of the run whose weights it started from: the artifact of that run is its input.
    """
    for logger in trackers(loggers):
        if issubclass(logger.kind, WandbLogger):
            logger.report(lambda inner: _log_model(inner, file, dict(about), source))


def confusion_picture(matrix: Sequence[Sequence[int]], side: int = 16) -> Array:
    """The matrix as squares, RGB: the darker, the larger the share of the label's pixels."""
    counts = np.asarray(matrix, np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    grey = (255 * (1 - shares)).astype(np.uint8).repeat(side, 0).repeat(side, 1)
    return np.stack([grey, grey, np.full_like(grey, 255)], axis=-1)


def restore_staging_folder() -> None:
    """Make the temporary folder anew through which W&B takes pictures and tables, if it is gone.

    W&B makes it once, as it is imported. A cleaner of old temporary files removes it, or the end of a process that was
    forked from this one. Its name is not documented: if a version of W&B uses another, nothing happens here.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from wandb.sdk.data_types._private import MEDIA_TMP

        os.makedirs(MEDIA_TMP.name, mode=0o700, exist_ok=True)


def _with_masks(frame: Frame) -> Any:
    import wandb

    restore_staging_folder()
    names = dict(frame.classes)
    masks = {"prediction": {"mask_data": frame.prediction, "class_labels": names}}
    if frame.truth is not None:
        masks["truth"] = {"mask_data": frame.truth, "class_labels": names}
    return wandb.Image(frame.image, masks=masks, caption=frame.name)


def _tables(matrix: Sequence[Sequence[int]], names: Sequence[str], iou: Mapping[str, float]) -> dict[str, Any]:
    import wandb

    restore_staging_folder()
    cells = [[label, found, int(matrix[a][b])] for a, label in enumerate(names) for b, found in enumerate(names)]
    confusion = wandb.plot_table(
        vega_spec_name="wandb/confusion_matrix/v1",
        data_table=wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=cells),
        fields={"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"},
        string_fields={"title": "best validation, pixels"},
    )
    rows = [
        [name, None if iou[name] != iou[name] else round(100 * iou[name], 2), int(sum(matrix[place]))]
        for place, name in enumerate(names)
    ]
    return {"best/confusion": confusion, "best/classes": wandb.Table(columns=["class", "IoU %", "pixels"], data=rows)}


def _log_model(inner: Any, file: Path, about: dict[str, Any], source: str | None) -> None:
    import wandb

    if not getattr(inner, KEEPS_MODEL, False):
        return
    run = inner.experiment
    if source and not run.offline:
        run.use_artifact(f"model-{source}:best")
    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=about | {"from": source})
    artifact.add_file(str(file), name="best.ckpt")
    run.log_artifact(artifact, aliases=["best", "latest"])


def _add_image(inner: Any, key: str, picture: Array, step: int) -> None:
    inner.experiment.add_image(key, picture, step, dataformats="HWC")


def _log_image(inner: Any, file: str, picture: Array) -> None:
    inner.experiment.log_image(inner.run_id, picture, artifact_file=file)


def _log_confusion(inner: Any, matrix: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    inner.experiment.log_dict(inner.run_id, {"classes": list(names), "pixels": matrix}, "best/confusion.json")
    _log_image(inner, "best/confusion.png", confusion_picture(matrix))
