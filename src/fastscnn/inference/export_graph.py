"""A network in a form that exporters convert correctly at every size."""

import operator
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.inference.deployed import deployed
from fastscnn.inference.export_layers import BinAverages, Bins, Function, OneAverage, as_bins, scaled_length, shrink
from fastscnn.inference.loader import Trained
from fastscnn.models.blocks import resize
from fastscnn.models.graph import CoarseLogits, finish, layer

INPUTS = ("uint8", "normalized")
OUTPUTS = ("labels", "logits", "probabilities")
DIMENSIONS = {
    "labels": ("batch", "height", "width"),
    "logits": ("batch", "classes", "coarse_height", "coarse_width"),
    "probabilities": ("batch", "classes", "height", "width"),
}
"""Names of the dimensions of each output."""


class ExportGraph(nn.Module):
    """From images to an output, without code that depends on their size and without pooling of a fixed window.

    BatchNorm is folded. It agrees with the network to float32's rounding.

    Args:
        trained: The network, which is not changed.
        input: `uint8`, RGB [B, 3, H, W], normalised and brought to the network's resolution inside; or `normalized`,
            float32 as the network takes it.
        output: `labels`, uint8 [B, H, W]; `logits` before the last upsampling, float32 [B, C, h, w]; or
            `probabilities`, float32 [B, C, H, W]. The last two are calibrated where the network is.

    Raises:
        ValueError: Input or output is another word.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trained: Trained, *, input: str = "uint8", output: str = "labels") -> None:
        super().__init__()
        for value, options in ((input, INPUTS), (output, OUTPUTS)):
            if value not in options:
                raise ValueError(f"{value} is not one of {', '.join(options)}")
        self.input = input
        self.output = output
        self.scale = Fraction(trained.scale).limit_denominator(1000) if input == "uint8" else Fraction(1)
        self.temperature = trained.temperature
        self.network: Any = exportable(CoarseLogits(trained.network))
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(STD).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], any H and W from 1 up, to the output."""
        size = (images.shape[2], images.shape[3])
        if self.input == "uint8":
            images = (images.float() - self.mean) / self.std
            if self.scale > 1:
                images = resize(images, (scaled_length(size[0], self.scale), scaled_length(size[1], self.scale)))
            elif self.scale != 1:
                images = shrink(shrink(images, 2, self.scale), 3, self.scale)
        logits: Tensor = self.network(images)
        if self.temperature != 1 and self.output != "labels":
            logits = logits / self.temperature
        if self.output == "logits":
            return logits
        logits = resize(logits, size)
        return logits.softmax(1) if self.output == "probabilities" else logits.argmax(1).to(torch.uint8)


def exportable(module: nn.Module) -> fx.GraphModule:
    """The graph of a folded copy of a module, without the layers that exporters get wrong at some sizes.

    Adaptive average pooling becomes `BinAverages`, one for all poolings of one map.

    Args:
        module: A network, or its `CoarseLogits`; it is not changed.
    """
    graph = deployed(module)
    pooled: dict[Any, list[fx.Node]] = {}
    for node in graph.graph.nodes:
        if bins := _pooling(graph, node):
            pooled.setdefault(node if None in bins else node.args[0], []).append(node)
        elif node.op == "call_module":
            _replace_poolings(graph.get_submodule(str(node.target)))
    for nodes in pooled.values():
        _join_poolings(graph, nodes)
    _name_by_part(graph)
    return finish(graph)


def _pooling(graph: fx.GraphModule, node: fx.Node) -> Bins | None:
    """The size that a node pools its first argument to; None if it is not adaptive average pooling."""
    module = layer(graph, node)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return as_bins(module.output_size)
    if node.target is not F.adaptive_avg_pool2d or not node.args:
        return None
    size = node.args[1] if len(node.args) == 2 else node.kwargs["output_size"]
    return None if any(isinstance(value, fx.Node) for value in node.all_input_nodes[1:]) else as_bins(size)


def _replace_poolings(module: nn.Module) -> None:
    """Replace the poolings inside a module that could not be traced."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                setattr(parent, name, OneAverage(child.output_size))


def _join_poolings(graph: fx.GraphModule, nodes: Sequence[fx.Node]) -> None:
    """Replace all poolings of one map by one pair of matrix products, and each of them by its part of the result."""
    name = f"bin_averages_{nodes[0].name}"
    graph.add_submodule(name, BinAverages([_pooling(graph, node) or (None, None) for node in nodes]))
    with graph.graph.inserting_before(nodes[0]):
        averages = graph.graph.call_module(name, (nodes[0].args[0],))
        parts = [graph.graph.call_function(operator.getitem, (averages, i)) for i in range(len(nodes))]
    for node, part in zip(nodes, parts, strict=True):
        node.replace_all_uses_with(part)
        graph.graph.erase_node(node)


def _name_by_part(graph: fx.GraphModule) -> None:
    """Have the nodes of an exported file named after the parts of the network, as `/feature_fusion/high/0/Conv`.

    A file's nodes are named after the modules that call one another, of which a graph has one level alone: so each
    module gets its whole path as its name, and each function becomes a module.
    """
    for node in list(graph.graph.nodes):
        if node.op not in ("call_module", "call_function") or node.meta.get("shape") is None:
            continue
        with graph.graph.inserting_before(node):
            if node.op == "call_module":
                name, module = str(node.target), graph.get_submodule(str(node.target))
            else:
                name, module = f"{node.meta['part']}.{node.name}", Function(node.target)
            name = name.replace(".", "/")
            graph.add_submodule(name, module)
            named = graph.graph.call_module(name, node.args, node.kwargs)
        node.replace_all_uses_with(named)
        graph.graph.erase_node(node)
