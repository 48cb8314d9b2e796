"""Fast-SCNN from uint8 pixels to coarse logits in about 35 launches: every layer with what follows it in one pass."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.kernels.cuda import labels
from fastscnn.kernels.cuda.layers import WAVE, _padded, depthwise_pointwise, pointwise, stem
from fastscnn.kernels.cuda.pyramid import pyramid_pooling, upsample
from fastscnn.models.blocks import PyramidPooling, downscale
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.models.folding import folded

OLDEST = (8, 0)
"""The first compute capability that has all that the programs use: bfloat16, and enough shared memory."""


def can_run(network: nn.Module, device: torch.device) -> bool:
    """Whether the programs have this network's layers, and run on this GPU."""
    return (
        isinstance(network, FastSCNN)
        and device.type == "cuda"
        and torch.version.hip is None
        and labels.usable(device)
        and torch.cuda.get_device_capability(device) >= OLDEST
    )


class GPUFastSCNN(nn.Module):
    """A trained Fast-SCNN, ready to run; its sums are float32, and so are its logits.

    Args:
        network: The network; is left as it is.
        dtype: float16, bfloat16 or float32.
        scale: Height and width of what the network sees, as a share of the image's.
    """

    factor: Tensor
    offset: Tensor
    stem_weight: Tensor
    stem_bias: Tensor

    def __init__(self, network: FastSCNN, dtype: torch.dtype = torch.float16, scale: float = 1.0) -> None:
        super().__init__()
        body: Any = folded(network)
        self.scale = scale
        self.skip = body.feature_fusion.skip
        first, activation, *separable = body.learning_to_downsample
        self.highest = 6.0 if isinstance(activation, nn.ReLU6) else math.inf
        deviation = torch.tensor(STD)
        self.register_buffer("factor", 1 / (255 * deviation))
        self.register_buffer("offset", -torch.tensor(MEAN) / deviation)
        self.register_buffer("stem_weight", first.weight.permute(2, 3, 1, 0).flatten(0, 2).to(dtype).contiguous())
        self.register_buffer("stem_bias", first.bias.float())
        self.downsample = nn.ModuleList(_Separable(ds[0], ds[1], dtype) for ds in separable)
        *bottlenecks, pooling = body.global_feature_extractor
        self.expand = nn.ModuleList(_Pointwise(block.layers[0], dtype) for block in bottlenecks)
        self.project = nn.ModuleList(_Separable(block.layers[2], block.layers[4], dtype) for block in bottlenecks)
        self.residual = [bool(block.residual) for block in bottlenecks]
        self.pooling = _Pooling(pooling, dtype, self.highest)
        fusion = body.feature_fusion
        self.high = _Pointwise(fusion.high, dtype)
        self.low = _Separable(fusion.low[0], fusion.low[2], dtype)
        if self.skip != "zero":
            self.low.pointwise.bias += self.high.bias  # the two are added
        self.classify = nn.ModuleList(_Separable(ds[0], ds[1], dtype) for ds in list(body.classifier)[:2])
        self.classes = _Pointwise(body.classifier[3], dtype)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """RGB, uint8 [B, H, W, 3], to coarse logits, float32 [B, num_classes, h, w], channels_last."""
        highest = self.highest
        if self.scale != 1:
            images = downscale(images.permute(0, 3, 1, 2).float(), self.scale).permute(0, 2, 3, 1)
        detail = stem(images, self.factor, self.offset, self.stem_weight, self.stem_bias, highest=highest)
        for layer in self.downsample:
            detail = layer(detail, highest=highest)
        context = detail
        for expand, project, residual in zip(self.expand, self.project, self.residual, strict=True):
            hidden = expand(context, highest=highest)
            context = project(hidden, highest_between=highest, addend=context if residual else None)
        context = self.pooling(context)
        height, width = detail.shape[1:3]
        wide = upsample(context, (height, width))
        beside = None if self.skip == "zero" else (detail, self.high.weight)
        fused = self.low(wide, highest_between=highest, highest=highest, beside=beside)
        head = {"head": (self.classes.weight, self.classes.bias), "head_dtype": torch.float32}
        fused = self.classify[0](fused, highest=highest)
        logits: Tensor = self.classify[1](fused, highest=highest, **head)
        return logits.permute(0, 3, 1, 2)


class _Pointwise(nn.Module):
    """A 1x1 convolution's weight as [C, N], and its bias."""

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        assert convolution.bias is not None
        self.register_buffer("weight", convolution.weight.flatten(1).t().to(dtype).contiguous())
        self.register_buffer("bias", convolution.bias.float())

    def forward(self, features: Tensor, **options: Any) -> Tensor:
        return pointwise(features, self.weight, self.bias, **options)


class _Separable(nn.Module):
    """A depthwise 3x3 convolution and the 1x1 after it."""

    taps: Tensor
    taps_bias: Tensor
    arrivals: Tensor

    def __init__(self, depthwise: nn.Conv2d, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        assert depthwise.bias is not None
        self.stride, self.dilation = depthwise.stride[0], depthwise.dilation[0]
        self.register_buffer("taps", depthwise.weight.flatten(1).t().float().contiguous())
        self.register_buffer("taps_bias", depthwise.bias.float())
        self.register_buffer("arrivals", torch.zeros(WAVE, dtype=torch.int32))
        self.pointwise = _Pointwise(convolution, dtype)

    def forward(self, features: Tensor, **options: Any) -> Tensor:
        point = self.pointwise
        return depthwise_pointwise(
            features,
            self.taps,
            self.taps_bias,
            point.weight,
            point.bias,
            stride=self.stride,
            dilation=self.dilation,
            arrivals=self.arrivals,
            **options,
        )


class _Pooling(nn.Module):
    """Pyramid pooling, over all bins of all stages at once: 50 places instead of a whole map."""

    reduce: Tensor
    reduce_bias: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor
    arrivals: Tensor

    def __init__(self, pooling: PyramidPooling, dtype: torch.dtype, highest: float) -> None:
        super().__init__()
        stages: Any = pooling.stages
        last: Any = pooling.project[0]
        self.highest = highest
        self.bins = tuple(int(stage[0].output_size) for stage in stages)
        channels, pooled = stages[0][1].in_channels, stages[0][1].out_channels
        reduced = torch.cat([stage[1].weight.flatten(1) for stage in stages])
        # A place of one stage has no part in another's channels: their activation is 0.
        places = _padded(sum(bins * bins for bins in self.bins))
        bias = torch.full((places, len(reduced)), -torch.inf)
        first = 0
        for number, (stage, bins) in enumerate(zip(stages, self.bins, strict=True)):
            bias[first : first + bins * bins, number * pooled : (number + 1) * pooled] = stage[1].bias.cpu()
            first += bins * bins
        weight = last.weight.flatten(1).t()
        self.register_buffer("reduce", reduced.t().float().contiguous())
        self.register_buffer("reduce_bias", bias.to(reduced.device))
        self.register_buffer("spread", weight[channels:].float().contiguous())
        self.register_buffer("weight", weight[:channels].to(dtype).contiguous())
        self.register_buffer("bias", last.bias.float())
        self.register_buffer("arrivals", torch.zeros(WAVE, dtype=torch.int32))

    def forward(self, features: Tensor) -> Tensor:
        """[B, h, w, C] to [B, h, w, C']."""
        return pyramid_pooling(
            features,
            self.bins,
            self.reduce,
            self.reduce_bias,
            self.spread,
            self.weight,
            self.bias,
            highest_between=self.highest,
            highest=self.highest,
            arrivals=self.arrivals,
        )
