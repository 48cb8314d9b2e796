"""The mean over a global batch that is computed in parts: on several devices, or in several accumulation steps."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Part(NamedTuple):
    """The loss of one part of a global batch: one forward pass on one device.

    Attributes:
        means: Of each term of the loss, the mean over what counts for it, differentiable [terms].
        weights: The sum of the weights that each mean divides by [terms]; 0 where nothing counts.
        labelled: The sum of the weights of everything that is labelled, a scalar: by it the accumulation steps share.
        size: How many pixels, or images, there are, labelled or not; the same on every device.
    """

    means: Tensor
    weights: Tensor
    labelled: Tensor
    size: int


class GlobalBatch:
    """Makes every part count in the gradient as in the mean over the whole global batch.

    Over devices, each term is the sum over all of them divided by the sum of all their weights. Over accumulation
    steps, a step counts by its share of the labelled weight, which is known at the last step alone: each step's
    gradient is scaled by its own labelled weight, and `rescale` divides by the sum of them. Both wait for no device.
    """

    def __init__(self) -> None:
        self._size = 1
        self._share: Tensor | None = None
        self._loss: Tensor | None = None

    def add(self, part: Part, *, devices: int, steps: int, first: bool) -> tuple[Tensor, Tensor]:
        """Take a part, on every device at the same time.

        Args:
            part: This device's.
            devices: How many devices there are; their gradients are going to be averaged.
            steps: Accumulation steps of a global batch; their gradients are going to be averaged.
            first: Whether this is the first of them.

        Returns:
            What this device derives; and the loss of the global batch as far as it is known, the same on each device.
        """
        terms = len(part.means)
        with torch.no_grad():
            weights = part.weights.to(part.means)
            sums = torch.cat([part.means * weights, weights, part.labelled.to(weights)[None]])
            if devices > 1:
                torch.distributed.all_reduce(sums)
            totals, labelled = _divisor(sums[terms:-1]), sums[-1]
            loss = (sums[:terms] / totals).sum()
        own = (part.means * (weights / totals * devices)).sum()
        if steps == 1:
            return own, loss
        if first or self._share is None or self._loss is None:
            self._size, self._share, self._loss = part.size * devices, sums.new_zeros(()), sums.new_zeros(())
        share = labelled / self._size
        self._share, self._loss = self._share + share, self._loss + share * loss
        return own * share, self._loss / _divisor(self._share)

    def rescale(self, parameters: Iterable[torch.nn.Parameter], *, steps: int) -> None:
        """Make the average of the gradients over the accumulation steps that of the global batch.

        Args:
            parameters: Whose gradients; they may be scaled by a factor of their own, as in half precision.
            steps: What they were divided by, also where the last steps of an epoch were fewer.
        """
        if self._share is None:
            return
        factor = steps / self._share.where(self._share > 0, steps)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)


def _divisor(weight: Tensor) -> Tensor:
    """What a sum is divided by: where nothing counts, it is 0."""
    return weight.where(weight > 0, 1)
