"""The contract of a segmentation network, which training, inference, export and benchmarks use.

A network of your own keeps it in one of two ways:

- Any `torch.nn.Module` that gives logits needs nothing: `model=external model.network._target_=my_net.MyNet` wraps it
  (`fastscnn.models.external`).
- A network that trains auxiliary heads, or whose last upsampling is to be left to the fused head, is a
  `SegmentationNetwork`: `features` and three attributes are all that it writes.

What every network promises: `forward` takes normalised images of any height and width from 1 up and gives logits of
their size; `coarse_logits` gives them before the last upsampling. The loss, the labels and the probabilities are
computed from the coarse logits, which are upsampled bilinearly with half-pixel centres in the same pass.
"""

from abc import abstractmethod
from typing import Any, NamedTuple, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from fastscnn.models.blocks import resize


class Features(Protocol):
    """The intermediate results of a network."""

    @property
    def logits(self) -> Tensor:
        """Before the last upsampling, [B, num_classes, h, w]."""

    @property
    def inner(self) -> tuple[Tensor, ...]:
        """Feature maps for the auxiliary heads, of `SegmentationNetwork.auxiliary_channels` channels."""


class OnlyLogits(NamedTuple):
    """The features of a network without auxiliary heads."""

    logits: Tensor
    inner: tuple[Tensor, ...] = ()


class SegmentationNetwork(nn.Module):
    """Maps normalised images, float [B, in_channels, H, W] of any H and W from 1 up, to logits.

    Attributes:
        num_classes: Number of classes.
        auxiliary_channels: Channels of each feature map that an auxiliary head is trained on; empty for no heads.
        stride: Pixels of the image, along a side, to one of the coarse logits; 1 for logits of full size.
    """

    num_classes: int
    auxiliary_channels: tuple[int, ...] = ()
    stride: int = 1

    @abstractmethod
    def features(self, images: Tensor) -> Features:
        """Run the network up to its coarse logits.

        Raises:
            ValueError: Training with a single image, which has no batch statistics when it is pooled to 1x1.
        """

    def coarse_logits(self, images: Tensor) -> Tensor:
        """[B, in_channels, H, W] to the logits before the last upsampling, [B, num_classes, h, w].

        They cover the whole image: h is H divided by `stride`, rounded up.
        """
        return self.features(images).logits

    def forward(self, images: Tensor) -> Tensor:
        """[B, in_channels, H, W] to logits [B, num_classes, H, W]."""
        height, width = images.shape[-2:]
        return resize(self.coarse_logits(images), (height, width))


def pad_to_multiple(images: Any, multiple: int) -> Any:
    """Images [B, C, H, W] with zeros at the right and at the bottom, up to a multiple of a number of pixels."""
    height, width = images.shape[-2], images.shape[-1]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))
