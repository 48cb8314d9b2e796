"""The building blocks of Fast-SCNN: Tables 2 and 3 of the paper, and the pyramid pooling of PSPNet."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


def check_arguments(num_classes: int, in_channels: int, activation: str) -> None:
    """Check the arguments that every network has.

    Raises:
        ValueError: One is outside what it may be.
    """
    if num_classes < 1 or in_channels < 1:
        raise ValueError(f"num_classes={num_classes} and in_channels={in_channels} must be 1 or more")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation} is not one of {', '.join(ACTIVATIONS)}")


def check_batch(images: Tensor, training: bool) -> None:
    """Check that a training batch has the batch statistics that pyramid pooling needs.

    Raises:
        ValueError: It is a single image.
    """
    if training and images.shape[0] == 1:
        raise ValueError(
            "a training batch of 1 image has no batch statistics at the 1x1 pooled map: "
            "use 2 or more images a device (data.batch_size)"
        )


def resize(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize `[B, C, h, w]` to `[B, C, *size]`, bilinear with half-pixel centres.

    A graph that is being exported serves all sizes, so that it always resizes.
    """
    is_tracing: Any = torch.jit.is_tracing  # type: ignore[attr-defined]
    if not (torch.compiler.is_exporting() or is_tracing()) and features.shape[-2:] == size:
        return features
    return F.interpolate(features, size, mode="bilinear", align_corners=False)


def downscale(images: Tensor, scale: float) -> Tensor:
    """Bring images to a share of their height and width: each pixel the mean of those that it replaces.

    Above 1 they are upsampled bilinearly (`align_corners=False`).

    Float [B, C, H, W] to [B, C, round(H * scale), round(W * scale)], both at least 1; as they are at scale 1.
    """
    if scale == 1:
        return images
    height, width = (max(1, round(side * scale)) for side in images.shape[-2:])
    small = resize(images, (height, width)) if scale > 1 else F.interpolate(images, (height, width), mode="area")
    return small.contiguous(memory_format=torch.channels_last)


class ConvBN(nn.Sequential):
    """Convolution and BatchNorm without an activation; the padding keeps the size at stride 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=dilation * (kernel_size // 2),
                dilation=dilation,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
        )


class DWConvBN(ConvBN):
    """Depthwise 3x3 convolution and BatchNorm without an activation."""

    def __init__(self, channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(channels, channels, 3, stride=stride, dilation=dilation, groups=channels)


class DSConv(nn.Sequential):
    """Depthwise separable convolution, no activation between depthwise and pointwise (section 2.2)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, activation: str = "relu") -> None:
        super().__init__(
            DWConvBN(in_channels, stride=stride),
            ConvBN(in_channels, out_channels),
            ACTIVATIONS[activation](inplace=True),
        )


class Bottleneck(nn.Module):
    """Inverted residual bottleneck (Table 2); the residual is added where input and output have one shape."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: int,
        stride: int = 1,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential(
            ConvBN(in_channels, hidden),
            ACTIVATIONS[activation](inplace=True),
            DWConvBN(hidden, stride=stride),
            ACTIVATIONS[activation](inplace=True),
            ConvBN(hidden, out_channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', ceil(H / stride), ceil(W / stride)]."""
        output: Tensor = self.layers(features)
        return features + output if self.residual else output


class PyramidPooling(nn.Module):
    """Pyramid pooling: averages over 1, 2, 3 and 6 bins a side, concatenated with the input (PSPNet)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bins: tuple[int, ...] = (1, 2, 3, 6),
        activation: str = "relu",
    ) -> None:
        super().__init__()
        pooled = in_channels // len(bins)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(size), ConvBN(in_channels, pooled), ACTIVATIONS[activation](inplace=True)
            )
            for size in bins
        )
        self.project = nn.Sequential(
            ConvBN(in_channels + pooled * len(bins), out_channels), ACTIVATIONS[activation](inplace=True)
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H, W]; any H and W from 1 up."""
        height, width = features.shape[-2:]
        context = [resize(stage(features), (height, width)) for stage in self.stages]
        output: Tensor = self.project(torch.cat([features, *context], dim=1))
        return output


class FeatureFusion(nn.Module):
    """Feature fusion by addition (Table 3): the lower resolution is upsampled, filtered and added."""

    def __init__(
        self,
        high_channels: int,
        low_channels: int,
        out_channels: int,
        *,
        dilation: int = 4,
        activation: str = "relu",
        skip: str = "keep",
    ) -> None:
        super().__init__()
        self.skip = skip
        self.high = ConvBN(high_channels, out_channels)
        self.low = nn.Sequential(
            DWConvBN(low_channels, dilation=dilation),
            ACTIVATIONS[activation](inplace=True),
            ConvBN(low_channels, out_channels),
        )
        self.activation = ACTIVATIONS[activation](inplace=True)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """High [B, C, H, W] and low [B, C', h, w] to [B, C'', H, W].

        With `skip="zero"` the contribution of the high-resolution branch is multiplied by zero (section 3.2);
        its weights stay in the graph, so distributed training sees a gradient for each of them. In eval mode the branch
        is left out.
        """
        height, width = high.shape[-2:]
        fused: Tensor = self.low(resize(low, (height, width)))
        if self.skip == "keep":
            fused = fused + self.high(high)
        elif self.training:
            fused = fused + self.high(high) * 0
        output: Tensor = self.activation(fused)
        return output


class AuxiliaryHead(nn.Sequential):
    """Segmentation head for the auxiliary losses (section 3.1); used in training only."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        hidden: int = 32,
        dropout: float = 0.1,
        activation: str = "relu",
    ) -> None:
        super().__init__(
            ConvBN(in_channels, hidden, 3),
            ACTIVATIONS[activation](inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, num_classes, 1),
        )
