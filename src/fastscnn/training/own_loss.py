"""The loss of the `loss` group: ours, or any other that takes logits and labels."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastscnn.data.datasets.classes import IGNORE_INDEX
from fastscnn.models.blocks import resize
from fastscnn.training.global_batch import Part
from fastscnn.training.losses import ImageLoss, SegmentationLoss
from fastscnn.utils.errors import RequestError
from fastscnn.utils.targets import TARGET, build, check_arguments, named_object, parameters
from fastscnn.utils.values import check_number

AUXILIARY_WEIGHT = "auxiliary_weight"
"""Of the `loss` settings: what the auxiliary heads count; ours where the class does not take it."""


class OwnLoss(nn.Module):
    """A loss of a user's own or of any library, on the classifier and on the auxiliary heads.

    Args:
        loss: Takes logits float32 [B, C, H, W] and labels int64 [B, H, W], and gives a scalar.
        auxiliary_weight: Weight of each auxiliary head.
        ignore_index: Label of the pixels that are left out.
    """

    def __init__(self, loss: nn.Module, auxiliary_weight: float = 0.4, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        check_number("loss.auxiliary_weight", auxiliary_weight, minimum=0)
        self.loss = loss
        self.auxiliary_weight = auxiliary_weight
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, auxiliary: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Logits [B, C, h, w] and those of the auxiliary heads, labels [B, H, W]; returns a scalar."""
        return torch.stack(self._terms(logits, auxiliary, labels)).sum()

    def part(self, logits: Tensor, auxiliary: Sequence[Tensor], labels: Tensor) -> Part:
        """As `forward`, where the batch is one part of a global batch: a part counts by its labelled pixels."""
        means = torch.stack(self._terms(logits, auxiliary, labels))
        labelled = (labels != self.ignore_index).sum()
        return Part(means=means, weights=labelled.expand(len(means)), labelled=labelled, size=labels.numel())

    def _terms(self, logits: Tensor, auxiliary: Sequence[Tensor], labels: Tensor) -> list[Tensor]:
        size, targets = (labels.shape[-2], labels.shape[-1]), labels.long()
        main = self.loss(resize(logits.float(), size), targets)
        return [main, *(self.auxiliary_weight * self.loss(resize(head.float(), size), targets) for head in auxiliary)]


def build_loss(settings: Mapping[str, Any], *, ignore_index: int = IGNORE_INDEX, num_classes: int = 2) -> nn.Module:
    """Build the loss of a `loss` config for segmentation.

    Args:
        settings: `_target_` and the arguments of the class, which gets `ignore_index` and `num_classes` too where it
            takes them. A class that does not take `auxiliary_weight` leaves it to us.
        ignore_index: Label of the pixels that are left out.
        num_classes: Of the network.

    Raises:
        RequestError: The class cannot be imported, is no module of torch, or does not take an argument.
    """
    node, kind = _checked(settings, (AUXILIARY_WEIGHT,))
    if issubclass(kind, ImageLoss):
        raise RequestError("loss=classification is for data=imagenet.", key="loss", fix="Leave it out.")
    taken, _ = parameters(kind)
    given = {"ignore_index": ignore_index, "num_classes": num_classes}
    given = {name: value for name, value in given.items() if name in taken and name not in node}
    if issubclass(kind, SegmentationLoss):
        loss: nn.Module = build(node, "loss", **given)
        return loss
    weight = {} if AUXILIARY_WEIGHT in taken else {AUXILIARY_WEIGHT: node.pop(AUXILIARY_WEIGHT, 0.4)}
    return OwnLoss(build(node, "loss", **given), **weight, ignore_index=ignore_index)


def build_image_loss(settings: Mapping[str, Any]) -> nn.Module:
    """Build the loss of a `loss` config for images with one class each: logits [B, C] and targets to a scalar.

    Raises:
        RequestError: As `build_loss`; or it is one of segmentation.
    """
    node, kind = _checked(settings)
    if issubclass(kind, SegmentationLoss):
        raise RequestError(
            "data=imagenet and loss=classification go together.", key="loss", fix="Set loss=classification."
        )
    loss: nn.Module = build(node, "loss")
    return loss


def check_loss(settings: Mapping[str, Any], *, images: bool) -> None:
    """Check the `loss` config of a training before its data is read.

    Raises:
        RequestError: As `build_loss` and `build_image_loss`.
    """
    if images:
        build_image_loss(settings)
        return
    weights = settings.get("class_weights")  # a word stands for numbers that come from the data
    listed = len(weights) if isinstance(weights, list) else 2
    build_loss({**settings, **({"class_weights": None} if isinstance(weights, str) else {})}, num_classes=listed)


def _checked(settings: Mapping[str, Any], ours: Collection[str] = ()) -> tuple[dict[str, Any], type[nn.Module]]:
    """The node with its target, which earlier runs did not name, and the class."""
    node = dict(settings)
    if TARGET not in node:
        kind = ImageLoss if node.pop("name", None) == "classification" else SegmentationLoss
        node[TARGET] = f"{kind.__module__}.{kind.__name__}"
    found = named_object(node, "loss")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise RequestError(
            f"loss.{TARGET}={node[TARGET]} is no torch.nn.Module.",
            key=f"loss.{TARGET}",
            fix="Name a class that is one, such as torch.nn.CrossEntropyLoss.",
        )
    check_arguments({name: value for name, value in node.items() if name not in ours}, "loss", found)
    return node, found
