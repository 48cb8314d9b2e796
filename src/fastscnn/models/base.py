"""The interface of a segmentation network, which training, inference and benchmarks use."""

from abc import abstractmethod
from typing import NamedTuple, Protocol

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
        auxiliary_channels: Channels of each feature map that an auxiliary head is trained on.
    """

    num_classes: int
    auxiliary_channels: tuple[int, ...] = ()

    @abstractmethod
    def features(self, images: Tensor) -> Features:
        """Run the network up to its coarse logits.

        Raises:
            ValueError: Training with a single image, which has no batch statistics when it is pooled to 1x1.
        """

    def coarse_logits(self, images: Tensor) -> Tensor:
        """[B, in_channels, H, W] to the logits before the last upsampling, [B, num_classes, h, w].

        They cover the whole image: h is H divided by the network's stride, rounded up.
        """
        return self.features(images).logits

    def forward(self, images: Tensor) -> Tensor:
        """[B, in_channels, H, W] to logits [B, num_classes, H, W]."""
        height, width = images.shape[-2:]
        return resize(self.coarse_logits(images), (height, width))
