"""Convolution, bias, activation and addition in one pass over memory, by oneDNN inside torch.

torch's own convolution leaves bias and activation to passes of their own, which take as long as the arithmetic. The
operators here are those that `torch.compile` emits (`torch.ops.mkldnn`; torch/_inductor/fx_passes/mkldnn_fusion.py).
Where a build of torch has none (Arm, macOS) the plain layers stay.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fastscnn.models.blocks import FeatureFusion, resize
from fastscnn.models.folding import folded

ATTRIBUTES: dict[type[nn.Module] | None, tuple[str, list[float]]] = {
    None: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
"""oneDNN's name and numbers of each activation."""


def available() -> bool:
    """Whether this build of torch has the operators."""
    has_library: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_library and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def fused(network: nn.Module) -> nn.Module:
    """A copy of a network in eval mode: BatchNorm folded, channels_last, activations inside the convolutions.

    It agrees with the network to float32's rounding; training it is no longer possible.
    """
    network = folded(network).to(memory_format=torch.channels_last)
    if not available():
        return network
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fuse(module)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, FeatureFusion):
                setattr(module, name, FusedFusion(child))
    return network


def _fuse(layers: nn.Sequential) -> None:
    """Replace each convolution of a sequence, with the activation after it where there is one."""
    names = list(layers._modules)
    for name, following in zip(names, [*names, None][1:], strict=True):
        layer = layers._modules[name]
        if isinstance(layer, nn.Conv2d):
            activation = layers._modules[following] if following else None
            takes = type(activation) in ATTRIBUTES and activation is not None
            layers._modules[name] = FusedConv(layer, activation if takes else None)
            if takes:
                assert following
                layers._modules[following] = nn.Identity()


class FusedConv(nn.Module):
    """A convolution with a bias, and with an activation.

    Args:
        convolution: Gives weights and geometry.
        activation: ReLU, ReLU6, or None.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self.weight = convolution.weight
        self.bias = convolution.bias
        self.geometry: tuple[Any, ...] = (
            convolution.padding,
            convolution.stride,
            convolution.dilation,
            convolution.groups,
        )
        self.attribute, self.scalars = ATTRIBUTES[type(activation) if activation is not None else None]

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W']."""
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(
            features, self.weight, self.bias, *self.geometry, self.attribute, self.scalars, ""
        )
        return output


class FusedFusion(nn.Module):
    """`FeatureFusion` with its addition and its last activation inside the convolution of the detail."""

    def __init__(self, fusion: FeatureFusion) -> None:
        super().__init__()
        self.skip = fusion.skip
        assert isinstance(fusion.high, nn.Conv2d)
        self.high = FusedConv(fusion.high, None)
        self.low = fusion.low
        self.activation = fusion.activation
        self.takes_activation = isinstance(
            fusion.activation, nn.ReLU
        )  # the only one that is taken in after an addition

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """See `FeatureFusion.forward`."""
        height, width = high.shape[-2:]
        context: Tensor = self.low(resize(low, (height, width)))
        if self.skip != "zero":
            detail = (self.high.weight, self.high.bias, *self.high.geometry)
            context = torch.ops.mkldnn._convolution_pointwise.binary(
                high, context, *detail, "add", 1.0, "relu" if self.takes_activation else None, [], ""
            )
            if self.takes_activation:
                return context
        output: Tensor = self.activation(context)
        return output
