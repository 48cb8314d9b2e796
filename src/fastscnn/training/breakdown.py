"""An evaluation taken apart: intervals over frames, boundaries, sizes of objects, and the worst frames."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.runs.evaluation_report import ReportedFrame
from fastscnn.training.frame_counts import (
    DRAWS,
    SEED,
    SHARE,
    Counts,
    accuracy_of,
    bootstrap,
    counts_of,
    interval,
    iou_of,
)
from fastscnn.training.label_regions import BAND, FOUND, SIDES, ObjectSizes, near_boundary

WORST = 10
"""Frames that are shown."""
WIDTH = 400
"""Largest width of their pictures, pixels."""
CONFUSIONS = 3
WRONG = np.array([235, 40, 50], np.uint8)
"""Colour of wrong pixels."""
Labels = npt.NDArray[np.uint8]


class Breakdown(pl.Callback):
    """Measures tested frames for the page of an evaluation; a frame leaves a few counts, and only the worst a picture.

    Attributes:
        worst: The frames with the smallest share of right pixels so far, the worst first.

    Args:
        classes: What is predicted.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.worst: list[ReportedFrame] = []
        self._reset()

    def _reset(self) -> None:
        self._whole: list[Counts] = []
        self._near: list[Counts] = []
        self._objects = ObjectSizes(self.classes.num_classes, self.classes.ignore_index)
        self.worst.clear()

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew: calibrate=true evaluates the frames twice."""
        self._reset()

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Add the frames of one batch."""
        if "label" not in batch:
            return
        for place, prediction in enumerate(outputs["predictions"]):
            name = batch["name"][place] if "index" in batch else f"frame {len(self._whole)}"
            label, predicted = (ids.to(torch.uint8).cpu().numpy() for ids in (batch["label"][place], prediction))
            self.add(name, batch["image"][place].permute(1, 2, 0).cpu().numpy(), label, predicted)

    def add(self, name: str, picture: npt.NDArray[np.uint8], labels: Labels, predictions: Labels) -> None:
        """Add a frame: RGB [H, W, 3], and train ids [H, W] of truth and prediction."""
        matrix = self._matrix(labels, predictions)
        near = self._matrix(labels, predictions, near_boundary(labels))
        self._whole.append(counts_of(matrix))
        self._near.append(counts_of(near))
        self._objects.add(labels, predictions)
        if not matrix.sum():
            return
        share = float(matrix.trace() / matrix.sum())
        if len(self.worst) < WORST or share < self.worst[-1].accuracy:
            frame = self._shown(name, share, matrix, picture, labels, predictions)
            self.worst = sorted([*self.worst, frame], key=lambda frame: frame.accuracy)[:WORST]

    def content(self, split: str) -> dict[str, Any]:
        """What `eval.json` holds of it; the metrics have the names that they have there."""
        whole, near = np.stack(self._whole), np.stack(self._near)
        drawn = bootstrap(whole)
        values = {f"{split}/miou": drawn.miou, f"{split}/accuracy": drawn.accuracy}
        values |= {f"{split}/iou/{name}": drawn.iou[:, place] for place, name in enumerate(self.classes.names)}
        one = len(whole) < 2  # says nothing about other frames
        return {
            "bootstrap": {"frames": len(whole), "draws": DRAWS, "seed": SEED, "share": SHARE},
            "intervals": {name: None if one else interval(draws) for name, draws in values.items()},
            "boundary": {
                "pixels": BAND,
                "near": self._scores(near.sum(0)),
                "away": self._scores(whole.sum(0) - near.sum(0)),
            },
            "objects": {
                "sides": list(SIDES),
                "found_from": FOUND,
                **{
                    part: dict(zip(self.classes.names, getattr(self._objects, part).tolist(), strict=True))
                    for part in ("objects", "found", "pixels", "right")
                },
            },
            "worst": [{"frame": frame.name, "accuracy": frame.accuracy} for frame in self.worst],
        }

    def _scores(self, counts: Counts) -> dict[str, Any]:
        iou = iou_of(counts)
        known = iou[np.isfinite(iou)]
        return {
            "pixels": int(counts[1].sum()),
            "miou": float(known.mean()) if len(known) else float("nan"),
            "accuracy": float(accuracy_of(counts)),
            "iou": dict(zip(self.classes.names, iou.tolist(), strict=True)),
        }

    def _matrix(
        self, labels: Labels, predictions: Labels, inside: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int64]:
        size = self.classes.num_classes
        counted = (labels < size) & (labels != self.classes.ignore_index)
        if inside is not None:
            counted &= inside
        pairs = labels[counted].astype(np.int32) * size + predictions[counted]
        return np.bincount(pairs, minlength=size**2).reshape(size, size)

    def _shown(
        self,
        name: str,
        accuracy: float,
        matrix: npt.NDArray[np.int64],
        picture: npt.NDArray[np.uint8],
        labels: Labels,
        predictions: Labels,
    ) -> ReportedFrame:
        wrong = matrix - np.diag(matrix.diagonal())
        first = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
        names, total = self.classes.names, max(1, int(wrong.sum()))
        pairs = [(*divmod(int(place), len(names)), int(wrong.flat[place])) for place in first]
        error = np.repeat((picture.mean(2, keepdims=True) * 0.6 + 60).astype(np.uint8), 3, axis=2)
        error[labels != predictions] = WRONG
        error[labels == self.classes.ignore_index] = 0
        return ReportedFrame(
            name=name,
            accuracy=accuracy,
            confused=[(names[row], names[column], count / total) for row, column, count in pairs if count],
            picture=_small(picture, cv2.INTER_AREA),
            truth=_small(self.classes.colorize(labels), cv2.INTER_NEAREST_EXACT),
            prediction=_small(self.classes.colorize(predictions), cv2.INTER_NEAREST_EXACT),
            error=_small(error, cv2.INTER_AREA),
        )


def _small(picture: npt.NDArray[np.uint8], how: int) -> npt.NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if width <= WIDTH:
        return np.ascontiguousarray(picture)
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)
