"""Convolution, bias, addition and activation in one pass over memory, by oneDNN inside torch.

torch's own convolution computes bias and activation in separate passes, which take as long as the arithmetic. The
operators here are those that `torch.compile` emits (torch/_inductor/fx_passes/mkldnn_fusion.py); torch has no public
name for them. In a build of torch without them (Arm, macOS) the plain layers stay.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from fastscnn.inference.deployed import agrees, deployed
from fastscnn.models.graph import CoarseLogits, addends, finish, layer, only_user, replace_nodes

ATTRIBUTES: dict[type[nn.Module] | None, tuple[str, list[float]]] = {
    None: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
"""oneDNN's name and numbers of each activation."""
AFTER_ADDITION = (nn.ReLU,)
"""The activations that an operator takes up after an addition."""


def available() -> bool:
    """Whether this build of torch has the operators."""
    has_library: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_library and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def fused(network: nn.Module) -> fx.GraphModule:
    """A network from normalised images to coarse logits: folded, channels_last, with fused convolutions.

    It agrees with the network to float32's rounding.

    Args:
        network: Is left as it is.
    """
    module = CoarseLogits(network)
    graph = deployed(module)
    if available():
        for node in list(graph.graph.nodes):
            _fuse(graph, node)
        finish(graph)
        if not _works(graph, module):
            graph = deployed(module)
    for node in graph.graph.nodes:
        following = only_user(node)
        activation = layer(graph, following)
        if hasattr(activation, "inplace") and _is_fresh(graph, node):
            activation.inplace = True  # type: ignore[union-attr]
    return graph.to(memory_format=torch.channels_last)


def _works(graph: fx.GraphModule, module: nn.Module) -> bool:
    """Whether the operators take these arguments, which another version of torch may change, and give the same."""
    try:
        return agrees(graph, module)
    except (RuntimeError, TypeError):
        return False


def _fuse(graph: fx.GraphModule, node: fx.Node) -> None:
    """Replace a convolution, with an addition and an activation that follow it."""
    convolution = layer(graph, node)
    if not _is_convolution(convolution):
        return
    assert isinstance(convolution, nn.Conv2d)
    name = f"{node.target}_fused"
    following = only_user(node)
    activation = layer(graph, following)
    if following is not None and activation is not None and type(activation) in ATTRIBUTES:
        replace_nodes(graph, [node, following], name, FusedConv(convolution, activation), node.args)
        return
    other = _addend(graph, node, following)
    if following is None or other is None:
        replace_nodes(graph, [node], name, FusedConv(convolution, None), node.args)
        return
    ending = only_user(following)
    chain = [node, following, ending] if ending and type(layer(graph, ending)) in AFTER_ADDITION else [node, following]
    module = FusedConvAdd(convolution, activates=len(chain) == 3)
    replace_nodes(graph, chain, name, module, (*node.args, other))


def _addend(graph: fx.GraphModule, node: fx.Node, following: fx.Node | None) -> fx.Node | None:
    """The node that is added to a convolution's output and has its shape; None if there is none.

    Of two convolutions whose outputs are added, the later one takes up the addition.
    """
    summands = addends(following)
    if summands is None or summands[0].meta["shape"] != summands[1].meta["shape"]:
        return None
    first, last = summands
    return first if last is node else None if _is_convolution(layer(graph, last)) else last


def _is_convolution(module: nn.Module | None) -> bool:
    """Whether the operators take that layer's geometry."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _is_fresh(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node's output is memory of its own."""
    return isinstance(layer(graph, node), FusedConv | nn.Conv2d) or addends(node) is not None


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


class FusedConvAdd(FusedConv):
    """A convolution with a bias, an addition, and optionally ReLU.

    Args:
        convolution: As `FusedConv` takes it.
        activates: Whether ReLU ends it.
    """

    def __init__(self, convolution: nn.Conv2d, *, activates: bool) -> None:
        super().__init__(convolution, None)
        self.attribute_after = "relu" if activates else None

    def forward(self, features: Tensor, addend: Tensor) -> Tensor:  # type: ignore[override]
        """[B, C, H, W] and the addend [B, C', H', W'] to [B, C', H', W']."""
        output: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            features, addend, self.weight, self.bias, *self.geometry, "add", 1.0, self.attribute_after, [], ""
        )
        return output
