"""Two blocks of a user's own, in this file alone, and Fast-SCNN with them; and Fast-SCNN with few blocks."""

import contextlib
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn

from fastscnn.models import fast_scnn
from fastscnn.models.blocks import ACTIVATIONS, Bottleneck, ConvBN, DWConvBN


class StripPooling(nn.Module):
    """Averages over rows, over columns and over 2x3 bins, added to the map."""

    def __init__(self, in_channels, out_channels, *, activation="relu"):
        super().__init__()
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(size) for size in ((None, 1), (1, None), (2, 3)))
        self.convolutions = nn.ModuleList(nn.Conv2d(in_channels, in_channels, 1, bias=False) for _ in self.pools)
        self.norm = nn.BatchNorm2d(in_channels)
        self.project = nn.Sequential(ConvBN(in_channels, out_channels), ACTIVATIONS[activation](inplace=True))

    def forward(self, features):
        pooled = features
        for pool, convolution in zip(self.pools, self.convolutions, strict=True):
            context = self.norm(convolution(pool(features)))
            pooled = pooled + F.interpolate(context, features.shape[-2:], mode="bilinear", align_corners=False)
        return self.project(pooled)


class GatedFusion(nn.Module):
    """The low resolution, upsampled, opens and closes what both give together; much is written in place."""

    def __init__(self, high_channels, low_channels, out_channels, *, activation="relu", skip="keep"):
        super().__init__()
        self.high = nn.Conv2d(high_channels, out_channels, 1, bias=False)
        self.high_norm = nn.BatchNorm2d(out_channels)
        self.low = nn.Sequential(DWConvBN(low_channels, dilation=2), ConvBN(low_channels, out_channels))

    def forward(self, high, low):
        height, width = high.shape[-2:]
        context = self.low(F.interpolate(low, (height, width), mode="bilinear", align_corners=False))
        gate = torch.sigmoid(F.adaptive_avg_pool2d(context, 1))
        detail = self.high_norm(self.high(high))
        detail += context
        F.relu(detail, inplace=True)
        return detail * gate


class SizedFusion(GatedFusion):
    """Python code that asks about sizes, which no tracing follows."""

    def forward(self, high, low):
        return super().forward(high, low) if high.shape[-1] > 1 else super().forward(high, low * 2)


@contextlib.contextmanager
def edited(fusion=GatedFusion):
    """Fast-SCNN with these blocks in the place of its own, as an edit of its file would have it."""
    with (
        mock.patch("fastscnn.models.fast_scnn.PyramidPooling", StripPooling),
        mock.patch("fastscnn.models.fast_scnn.FeatureFusion", fusion),
    ):
        yield


class FewBottlenecks(nn.Sequential):
    """Each kind of bottleneck once: of both strides, with and without the addition.

    Fast-SCNN's nine, three times as wide inside, are the same layers, and take converters and interpreters far longer.
    """

    def __init__(self, activation="relu"):
        super().__init__(
            Bottleneck(64, 96, expansion=2, stride=2, activation=activation),
            Bottleneck(96, 96, expansion=2, activation=activation),
            Bottleneck(96, 128, expansion=2, stride=2, activation=activation),
            fast_scnn.PyramidPooling(128, 128, activation=activation),
        )


@contextlib.contextmanager
def shallow():
    """While this is entered, Fast-SCNN and its image classifier are built with few bottlenecks."""
    with (
        mock.patch("fastscnn.models.fast_scnn.GlobalFeatureExtractor", FewBottlenecks),
        mock.patch("fastscnn.models.image_classifier.GlobalFeatureExtractor", FewBottlenecks),
    ):
        yield
