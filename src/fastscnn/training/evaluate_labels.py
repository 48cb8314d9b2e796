"""Scores of labels that another program than the training module makes, such as an exported file."""

from collections.abc import Callable

import torch
from torch import Tensor

from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.training.metrics import ConfusionMatrix, Scores, score
from fastscnn.utils.progress import Progress


def evaluate_labels(labels: Callable[[Tensor], Tensor], data: SegmentationData, split: str) -> Scores:
    """Scores over whole frames of a split at full label resolution, as in validation during training.

    Args:
        labels: Maps images, uint8 [B, 3, H, W], to train ids, uint8 [B, H, W].
        data: The data set.
        split: `train`, `val` or `test`.

    Raises:
        RequestError: The split has no labels.
    """
    data.check_labels(split, "Choose a split that has labels.")
    confusion = ConfusionMatrix(data.classes)
    with Progress(f"evaluating on {split}", len(data.frames(split)), "image") as progress:
        for batch in data.whole_frames(split):
            confusion.update(labels(batch["image"]), batch["label"])
            progress.advance(len(batch["image"]))
    return score(confusion.compute(), data.classes)


def some_images(data: SegmentationData, split: str, count: int) -> list[Tensor]:
    """Frames spread evenly over a split, not augmented; uint8 [1, 3, H, W] each."""
    frames = data.frames(split)
    chosen = torch.linspace(0, len(frames) - 1, min(count, len(frames))).round().long().tolist()
    dataset = data.whole_frames(split).dataset
    return [torch.as_tensor(dataset[index]["image"])[None] for index in chosen]
