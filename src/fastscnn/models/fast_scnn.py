"""Fast-SCNN (Poudel, Liwicki, Cipolla 2019): Table 1 of the paper from top to bottom."""

from typing import NamedTuple

from torch import Tensor, nn

from fastscnn.models.base import SegmentationNetwork
from fastscnn.models.blocks import (
    ACTIVATIONS,
    Bottleneck,
    ConvBN,
    DSConv,
    FeatureFusion,
    PyramidPooling,
    check_arguments,
    check_batch,
)

SKIPS = ("keep", "zero")


class Features(NamedTuple):
    """The intermediate results of the network, for the auxiliary losses."""

    detail: Tensor  # learning to downsample, [B, 64, H/8, W/8]
    context: Tensor  # global feature extractor, [B, 128, H/32, W/32]
    logits: Tensor  # classifier, [B, num_classes, H/8, W/8]

    @property
    def inner(self) -> tuple[Tensor, ...]:
        """The feature maps that the auxiliary heads take."""
        return self.detail, self.context


class LearningToDownsample(nn.Sequential):
    """Low-level features at 1/8 of the input, shared by both branches."""

    def __init__(self, in_channels: int = 3, activation: str = "relu") -> None:
        super().__init__(
            ConvBN(in_channels, 32, 3, stride=2),
            ACTIVATIONS[activation](inplace=True),
            DSConv(32, 48, stride=2, activation=activation),
            DSConv(48, 64, stride=2, activation=activation),
        )


class GlobalFeatureExtractor(nn.Sequential):
    """Context at 1/32 of the input: nine bottlenecks and pyramid pooling."""

    def __init__(self, activation: str = "relu") -> None:
        blocks: list[nn.Module] = []
        in_channels = 64
        for expansion, out_channels, repeats, first_stride in ((6, 64, 3, 2), (6, 96, 3, 2), (6, 128, 3, 1)):
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                blocks.append(
                    Bottleneck(in_channels, out_channels, expansion=expansion, stride=stride, activation=activation)
                )
                in_channels = out_channels
        super().__init__(*blocks, PyramidPooling(in_channels, 128, activation=activation))


class Classifier(nn.Sequential):
    """Two depthwise separable convolutions, dropout, and the class scores."""

    def __init__(self, num_classes: int, dropout: float = 0.1, activation: str = "relu") -> None:
        super().__init__(
            DSConv(128, 128, activation=activation),
            DSConv(128, 128, activation=activation),
            nn.Dropout(dropout),
            nn.Conv2d(128, num_classes, 1),
        )


class FastSCNN(SegmentationNetwork):
    """Fast-SCNN: 1,137,795 parameters with 19 classes, 1,114,115 of them outside BatchNorm.

    Args:
        num_classes: Number of classes, 1 or more.
        in_channels: Channels of the image.
        activation: `relu` (the paper's choice) or `relu6`.
        skip: `keep`, or `zero` to cut the high-resolution branch out of the fusion (section 3.2).
        dropout: Share of the last features dropped in training.

    Raises:
        ValueError: An argument is outside these.
    """

    auxiliary_channels = (64, 128)
    stride = 8

    def __init__(
        self,
        num_classes: int = 19,
        in_channels: int = 3,
        activation: str = "relu",
        skip: str = "keep",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_arguments(num_classes, in_channels, activation)
        if skip not in SKIPS:
            raise ValueError(f"skip={skip} is not one of {', '.join(SKIPS)}")
        self.num_classes = num_classes
        self.learning_to_downsample = LearningToDownsample(in_channels, activation)
        self.global_feature_extractor = GlobalFeatureExtractor(activation)
        self.feature_fusion = FeatureFusion(64, 128, 128, activation=activation, skip=skip)
        self.classifier = Classifier(num_classes, dropout, activation)

    def features(self, images: Tensor) -> Features:
        """Run the network up to its logits at 1/8 and keep the two inner feature maps.

        Args:
            images: Float [B, in_channels, H, W], normalised; any H and W from 1 up.

        Raises:
            ValueError: Training with a single image: the 1x1 pooled map has no batch statistics.
        """
        check_batch(images, self.training)
        detail = self.learning_to_downsample(images)
        context = self.global_feature_extractor(detail)
        return Features(detail, context, self.classifier(self.feature_fusion(detail, context)))
