"""The training loss: cross-entropy of the classifier and of the two auxiliary heads, and losses of regions."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fastscnn.kernels import HardPixels, reference, upsample_cross_entropy_and_weight, upsample_dice, upsample_lovasz
from fastscnn.training.global_batch import Part
from fastscnn.utils.errors import RequestError
from fastscnn.utils.values import check_number, check_switch


class SegmentationLoss(nn.Module):
    """Cross-entropy of the classifier plus the weighted ones of the auxiliary heads (section 3.1).

    The losses of regions, of the classifier alone, are added where they have a weight. They look at all labelled pixels
    alike: class weights, label smoothing and hard pixels are those of the cross-entropy.

    Args:
        auxiliary_weight: Weight of each auxiliary head.
        label_smoothing: Share of the target that is spread evenly over all classes.
        class_weights: Weight of each class.
        hard_pixels: `probability` and `keep` of `HardPixels`: only the pixels that a head finds hard count for it.
        fused: Whether upsampling and cross-entropy are one step; else full-size logits are made, as torch does it.
        ignore_index: Label of the pixels that are left out.
        num_classes: How many classes the weights are for.
        lovasz_weight: Weight of the Lovász loss of the classifier.
        dice_weight: Weight of its Dice loss.

    Raises:
        RequestError: A setting is not what it must be.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        auxiliary_weight: float = 0.4,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        hard_pixels: Mapping[str, float] | None = None,
        fused: bool = True,
        ignore_index: int = 255,
        num_classes: int | None = None,
        lovasz_weight: float = 0.0,
        dice_weight: float = 0.0,
    ) -> None:
        super().__init__()
        check_number("loss.auxiliary_weight", auxiliary_weight, minimum=0)
        check_number("loss.lovasz_weight", lovasz_weight, minimum=0)
        check_number("loss.dice_weight", dice_weight, minimum=0)
        check_number("loss.label_smoothing", label_smoothing, minimum=0, below=1)
        check_switch("loss.fused", fused)
        self.auxiliary_weight = auxiliary_weight
        self.label_smoothing = label_smoothing
        self.hard = _hard_pixels(hard_pixels)
        self._cross_entropy = (
            upsample_cross_entropy_and_weight if fused else reference.upsample_cross_entropy_and_weight
        )
        weighted = ((lovasz_weight, upsample_lovasz), (dice_weight, upsample_dice))
        self._regions = [(weight, loss) for weight, loss in weighted if weight]
        self.ignore_index = ignore_index
        self.register_buffer("class_weights", _weights(class_weights, num_classes), persistent=False)

    def forward(self, logits: Tensor, auxiliary: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Logits [B, C, h, w] and those of the auxiliary heads, labels [B, H, W]; returns a scalar."""
        mean, _ = self._one(logits, labels)
        total = mean + self.auxiliary_weight * sum(self._one(head, labels)[0] for head in auxiliary)
        for region in self._of_regions(logits, labels):
            total = total + region
        return total

    def part(self, logits: Tensor, auxiliary: Sequence[Tensor], labels: Tensor) -> Part:
        """As `forward`, where the batch is one part of a global batch; a head is a term.

        The regions are those of each part, whose losses are averaged over the parts by their labelled pixels.
        """
        heads = [self._one(head, labels) for head in (logits, *auxiliary)]
        factors = [1.0, *(self.auxiliary_weight for _ in auxiliary)]
        means = [factor * mean for factor, (mean, _) in zip(factors, heads, strict=True)]
        weights = [weight for _, weight in heads]
        if self._regions:
            pixels = (labels != self.ignore_index).sum().to(weights[0])
            means += self._of_regions(logits, labels)
            weights += [pixels for _ in self._regions]
        return Part(
            means=torch.stack(means),
            weights=torch.stack(weights),
            labelled=heads[0][1] if self.hard is None else self._labelled(labels),
            size=labels.numel(),
        )

    def _labelled(self, labels: Tensor) -> Tensor:
        """Sum of the weights of the labelled pixels' classes."""
        labelled = labels != self.ignore_index
        if self.class_weights is None:
            return labelled.sum()
        return self.class_weights[labels.where(labelled, 0).long()].where(labelled, 0).sum()

    def _of_regions(self, logits: Tensor, labels: Tensor) -> list[Tensor]:
        return [weight * loss(logits, labels, self.ignore_index) for weight, loss in self._regions]

    def _one(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self._cross_entropy(
            logits, labels, self.ignore_index, self.class_weights, self.label_smoothing, self.hard
        )


class ImageLoss(nn.CrossEntropyLoss):
    """Cross-entropy of images with one class each, or of mixed ones with a share of several.

    Args:
        label_smoothing: Share of the target that is spread evenly over all classes.

    Raises:
        RequestError: It is not from 0 to below 1.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        check_number("loss.label_smoothing", label_smoothing, minimum=0, below=1)
        super().__init__(label_smoothing=label_smoothing)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _weights(weights: object, num_classes: int | None) -> Tensor | None:
    if weights is None:
        return None
    if not isinstance(weights, Sequence) or not all(_is_number(weight) and weight >= 0 for weight in weights):
        raise RequestError(
            f"loss.class_weights={weights} is not null, enet, median, sqrt or a list of numbers of 0 or more.",
            key="loss.class_weights",
            fix="Give one for each class.",
        )
    if num_classes is not None and len(weights) != num_classes:
        raise RequestError(
            f"loss.class_weights has {len(weights)} numbers for {num_classes} classes.",
            key="loss.class_weights",
            fix="Give one for each class.",
        )
    if not any(weights):
        raise RequestError(
            "loss.class_weights is 0 for every class.",
            key="loss.class_weights",
            fix="Give one of them a number above 0.",
        )
    return torch.tensor(weights, dtype=torch.float32)


def _hard_pixels(settings: object) -> HardPixels | None:
    if settings is None:
        return None
    if not isinstance(settings, Mapping) or not set(settings) <= set(HardPixels._fields):
        raise RequestError(
            f"loss.hard_pixels={settings} is not null or {{probability: P, keep: K}}.",
            key="loss.hard_pixels",
            fix="Set loss=ohem, or these two.",
        )
    for name, value in settings.items():
        check_number(f"loss.hard_pixels.{name}", value, minimum=0, maximum=1)
    return HardPixels(**settings)
