"""Layers of a network by the Triton programs: weights of folded layers, made ready once.

All take and give features [B, C, H, W] whose channels lie side by side (channels_last), so that torch's own layers may
stand between them. `highest` is the activation's end: 0 for none, infinity for ReLU, 6 for
ReLU6.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.kernels.cuda.layers import WAVE, padded, pointwise, stem
from fastscnn.kernels.cuda.pyramid import pyramid_pooling, upsample
from fastscnn.kernels.cuda.separable import depthwise_pointwise
from fastscnn.models.blocks import resize


def _rows(features: Tensor) -> Tensor:
    return features.permute(0, 2, 3, 1)


def _planes(features: Tensor) -> Tensor:
    return features.permute(0, 3, 1, 2)


class TritonLayer(nn.Module):
    """A layer that keeps the types of its tensors when the rest of a network is converted to half precision."""


class Normalize(TritonLayer):
    """From pixels of 0 to 255, of any type, to what a network takes.

    Args:
        dtype: Of the output.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        deviation = torch.tensor(STD)
        self.dtype = dtype
        self.register_buffer("factor", 1 / (255 * deviation))
        self.register_buffer("offset", -torch.tensor(MEAN) / deviation)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] to the same shape."""
        return _planes(_rows(images).float() * self.factor + self.offset).to(self.dtype)


class Stem(Normalize):
    """The normalisation, a 3x3 convolution of stride 2 on three channels, and an activation.

    Args:
        convolution: Gives weights and bias.
        highest: Of the activation.
        dtype: Of features and weights.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d, highest: float, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.highest = highest
        self.register_buffer("weight", convolution.weight.permute(2, 3, 1, 0).flatten(0, 2).to(dtype).contiguous())
        self.register_buffer("bias", _bias(convolution))

    def forward(self, images: Tensor) -> Tensor:
        """Pixels of 0 to 255, uint8 or float [B, 3, H, W], to [B, C, ceil(H / 2), ceil(W / 2)]."""
        arguments = (self.factor, self.offset, self.weight, self.bias)
        return _planes(stem(_rows(images), *arguments, highest=self.highest))


class Pointwise(TritonLayer):
    """A 1x1 convolution, optionally an addition, and an activation.

    Args:
        convolution: Gives weights and bias.
        highest: Of the activation.
        dtype: Of features and weights.

    Attributes:
        output_dtype: Of the output; None for that of the features.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d, highest: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.highest = highest
        self.output_dtype: torch.dtype | None = None
        self.register_buffer("weight", _matrix(convolution, dtype))
        self.register_buffer("bias", _bias(convolution))

    def forward(self, features: Tensor, addend: Tensor | None = None) -> Tensor:
        """[B, C, H, W] and the addend [B, C', H, W] to [B, C', H, W]."""
        added = None if addend is None else _rows(addend)
        arguments = (_rows(features), self.weight, self.bias)
        return _planes(pointwise(*arguments, highest=self.highest, addend=added, dtype=self.output_dtype))


class Separable(TritonLayer):
    """A depthwise 3x3 convolution, an activation, a 1x1 convolution, an addition, an activation, a 1x1 convolution.

    Args:
        depthwise: Gives its weights, bias and geometry.
        convolution: The first 1x1 convolution.
        highest_between: Of the first activation.
        highest: Of the second.
        dtype: Of features and weights.
        beside: A 1x1 convolution of other features whose output is added; None where the addend is given, or nothing.
        head: The last convolution; None for none.

    Attributes:
        output_dtype: The dtype of the output if there is a head; None for that of the features.
    """

    taps: Tensor
    taps_bias: Tensor
    weight: Tensor
    bias: Tensor
    beside: Tensor | None
    head: Tensor | None
    head_bias: Tensor | None
    arrivals: Tensor

    def __init__(
        self,
        depthwise: nn.Conv2d,
        convolution: nn.Conv2d,
        highest_between: float,
        highest: float,
        dtype: torch.dtype,
        *,
        beside: nn.Conv2d | None = None,
        head: nn.Conv2d | None = None,
    ) -> None:
        super().__init__()
        self.geometry = {"stride": int(depthwise.stride[0]), "dilation": int(depthwise.dilation[0])}
        self.ends = {"highest_between": highest_between, "highest": highest}
        self.output_dtype: torch.dtype | None = None
        self.register_buffer("taps", depthwise.weight.flatten(1).t().float().contiguous())
        self.register_buffer("taps_bias", _bias(depthwise))
        self.register_buffer("weight", _matrix(convolution, dtype))
        self.register_buffer("bias", _bias(convolution) + (0 if beside is None else _bias(beside)))
        self.register_buffer("beside", None if beside is None else _matrix(beside, dtype))
        self.register_buffer("head", None if head is None else _matrix(head, dtype))
        self.register_buffer("head_bias", None if head is None else _bias(head))
        self.register_buffer("arrivals", torch.zeros(WAVE, dtype=torch.int32))

    def forward(self, features: Tensor, other: Tensor | None = None) -> Tensor:
        """[B, C, H, W] to [B, C', H', W']; `other`: the addend, [B, N, H', W'], or the features beside, [B, M, H', W'].

        Raises:
            RuntimeError: As `depthwise_pointwise`.
        """
        options: dict[str, Any] = {**self.geometry, **self.ends, "arrivals": self.arrivals}
        if other is not None:
            rows = _rows(other)
            options |= {"addend": rows} if self.beside is None else {"beside": (rows, self.beside)}
        if self.head is not None:
            options |= {"head": (self.head, self.head_bias), "head_dtype": self.output_dtype}
        arguments = (_rows(features), self.taps, self.taps_bias, self.weight, self.bias)
        return _planes(depthwise_pointwise(*arguments, **options))


class Pooling(TritonLayer):
    """Pyramid pooling, over all bins of all stages at once: 50 places instead of a whole map.

    Args:
        bins: Bins a side of each stage.
        stages: The 1x1 convolution of each stage.
        last: The 1x1 convolution on the map and the upsampled stages, concatenated in this order.
        highest_between: Of the stages' activation, which there must be.
        highest: Of the last activation.
        dtype: Of features and weights.
    """

    reduce: Tensor
    reduce_bias: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        bins: Sequence[int],
        stages: Sequence[nn.Conv2d],
        last: nn.Conv2d,
        highest_between: float,
        highest: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.ends: dict[str, Any] = {"highest_between": highest_between, "highest": highest}
        self.bins = tuple(bins)
        channels = stages[0].in_channels
        reduced = torch.cat([stage.weight.flatten(1) for stage in stages])
        # A place of one stage has no part in another's channels: their activation is 0.
        bias = torch.full((padded(sum(side * side for side in bins)), len(reduced)), -torch.inf)
        place = channel = 0
        for stage, side in zip(stages, bins, strict=True):
            bias[place : place + side * side, channel : channel + stage.out_channels] = _bias(stage).cpu()
            place, channel = place + side * side, channel + stage.out_channels
        weight = last.weight.flatten(1).t()
        self.register_buffer("reduce", reduced.t().float().contiguous())
        self.register_buffer("reduce_bias", bias.to(reduced.device))
        self.register_buffer("spread", weight[channels:].float().contiguous())
        self.register_buffer("weight", weight[:channels].to(dtype).contiguous())
        self.register_buffer("bias", _bias(last))

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C', h, w]."""
        weights = (self.reduce, self.reduce_bias, self.spread, self.weight, self.bias)
        return _planes(pyramid_pooling(_rows(features), self.bins, *weights, **self.ends))


class Upsample(TritonLayer):
    """Bilinear interpolation with half-pixel centres."""

    def forward(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """[B, C, h, w] to [B, C, *size]; torch's own if a side becomes smaller."""
        target = (int(size[0]), int(size[1]))
        if target[0] < features.shape[2] or target[1] < features.shape[3] or features.shape[2:] == target:
            return resize(features, target)
        return _planes(upsample(_rows(features), target))


def _matrix(convolution: nn.Conv2d, dtype: torch.dtype) -> Tensor:
    """The weight of a 1x1 convolution, [C, N]."""
    return convolution.weight.flatten(1).t().to(dtype).contiguous()


def _bias(convolution: nn.Conv2d) -> Tensor:
    """A convolution's bias, float32; zeros if it has none."""
    if convolution.bias is None:
        return torch.zeros(convolution.out_channels, device=convolution.weight.device)
    return convolution.bias.float()
