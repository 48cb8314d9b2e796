"""Intersection over union and pixel accuracy from one integer confusion matrix."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor
from torchmetrics import Metric

from fastscnn.data.datasets.classes import ClassTable


@dataclass(frozen=True)
class Scores:
    """What an evaluation found; shares from 0 to 1, NaN where there was nothing to evaluate.

    Attributes:
        iou: Class name to intersection over union; NaN for a class that neither occurs nor is predicted.
        miou: Mean over the classes that are not NaN.
        category_iou: Category name to intersection over union; empty where the data has no categories.
        category_miou: Mean over the categories that are not NaN, or NaN without categories.
        accuracy: Share of the labelled pixels that are right.
        pixels: Number of labelled pixels.
    """

    iou: Mapping[str, float]
    miou: float
    category_iou: Mapping[str, float]
    category_miou: float
    accuracy: float
    pixels: int

    @property
    def absent(self) -> list[str]:
        """Classes that never occur, which the mean leaves out."""
        return [name for name, iou in self.iou.items() if iou != iou]

    def named(self, stage: str) -> dict[str, float]:
        """Metric name to value, as they are logged: `val/miou`, `val/iou/road` and so on."""
        values = {f"{stage}/miou": self.miou, f"{stage}/accuracy": self.accuracy}
        if self.category_iou:
            values[f"{stage}/category_miou"] = self.category_miou
        values |= {f"{stage}/iou/{name}": iou for name, iou in self.iou.items()}
        return values | {f"{stage}/category_iou/{name}": iou for name, iou in self.category_iou.items()}

    def table(self) -> Table:
        """A table with the IoU of every class and category, and the means; percent."""
        table = Table()
        table.add_column("class")
        table.add_column("IoU %", justify="right")
        for name, iou in self.iou.items():
            table.add_row(name, percent(iou))
        if self.category_iou:
            table.add_section()
            for name, iou in self.category_iou.items():
                table.add_row(name, percent(iou), style="dim")
        table.add_section()
        table.add_row("class mIoU", percent(self.miou), style="bold")
        if self.category_iou:
            table.add_row("category mIoU", percent(self.category_miou), style="bold")
        table.add_row("pixel accuracy", percent(self.accuracy))
        if self.absent:
            table.caption = f"never occur and are left out of the mean: {', '.join(self.absent)}"
            table.caption_justify = "left"
        return table


def percent(share: float) -> str:
    """A share as percent with two decimals; `-` for NaN."""
    return f"{100 * share:.2f}" if share == share else "-"


class ConfusionMatrix(Metric):
    """Counts of (label, prediction) pairs over all frames; ignored pixels are left out.

    The counts are int64, so the result depends neither on the order of the frames nor on how they were split
    over batches and devices. One `bincount` of 32-bit pairs an update, ignored pixels counted apart instead of
    looked up: torchmetrics' own matrix checks its input at many times the price.
    """

    full_state_update = False
    matrix: Tensor

    def __init__(self, classes: ClassTable) -> None:
        super().__init__()
        self.classes = classes
        size = classes.num_classes
        self.add_state("matrix", torch.zeros(size, size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Add frames; predictions and labels are integer train ids of one shape, [B, H, W].

        Raises:
            ValueError: The shapes differ.
        """
        if predictions.shape != labels.shape:
            raise ValueError(f"predictions {tuple(predictions.shape)} and labels {tuple(labels.shape)} differ")
        size, ignored = self.classes.num_classes, self.classes.ignore_index
        rows = max(size, ignored + 1)
        pairs = labels.to(torch.int32, copy=True).mul_(size).add_(predictions).flatten()
        counts = torch.bincount(pairs, minlength=rows * size).view(rows, size)[:size]
        if ignored < size:
            counts[ignored] = 0
        self.matrix += counts

    def compute(self) -> Tensor:
        """Counts of everything added so far, over all devices; int64 [C, C], rows are labels."""
        return self.matrix


def score(matrix: Tensor, classes: ClassTable) -> Scores:
    """Scores of a confusion matrix; int64 [C, C], rows are labels, columns predictions."""
    matrix = matrix.cpu()
    iou, miou = _iou(matrix)
    category_iou, category_miou = _iou(_by_category(matrix, classes))
    total = int(matrix.sum())
    return Scores(
        iou=dict(zip(classes.names, iou, strict=True)),
        miou=miou,
        category_iou=dict(zip(classes.category_names, category_iou, strict=True)),
        category_miou=category_miou,
        accuracy=int(matrix.trace()) / total if total else float("nan"),
        pixels=total,
    )


def _by_category(matrix: Tensor, classes: ClassTable) -> Tensor:
    names = classes.category_names
    if not names:
        return matrix.new_zeros(0, 0)
    category = torch.tensor([names.index(name) for name in classes.categories])
    merged = matrix.new_zeros(len(names), len(names))
    return merged.index_put_((category[:, None], category[None, :]), matrix, accumulate=True)


def _iou(matrix: Tensor) -> tuple[list[float], float]:
    hits = matrix.diagonal().double()
    iou = hits / (matrix.sum(0) + matrix.sum(1) - hits)
    return iou.tolist(), float(iou.nanmean())
