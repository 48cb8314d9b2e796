"""The folded graph of a network's layers, from which every backend and every export is derived."""

import operator
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fastscnn.models.folding import folded
from fastscnn.models.graph import finish, layer, replace_nodes, traced

SIZES = ((2, 97, 203), (1, 64, 56))
"""Batch, height and width of the images with which a graph is compared with its module."""
TOLERANCE = 1e-2
"""How far an output may be off, as a share of the largest one: far above rounding, far below a wrong layer."""
IDENTITIES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity)
"""Layers that do nothing in eval mode."""
LAYERS: dict[Any, type[nn.Module]] = {F.relu: nn.ReLU, torch.relu: nn.ReLU, F.relu6: nn.ReLU6}
"""The layer that gives the same as a function of one argument."""
OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
"""The operator that gives the same as one that writes into its first argument."""


def deployed(module: nn.Module) -> fx.GraphModule:
    """The graph of a folded copy of a module that takes normalised images, float32 [B, 3, H, W].

    Each node has in `meta["shape"]` the shape of its output for the first of `SIZES`. Nothing writes into its inputs,
    so that a backend may move and join layers. A module that tracing gets wrong, because its Python code decides by
    what it computes, is one node.

    Args:
        module: A network, or its `CoarseLogits`; it is not changed.
    """
    graph = traced(folded(module))
    _name_layers(graph)
    _drop_identities(graph)
    _write_nothing_in_place(graph)
    finish(graph)
    if _writes_into_parts(graph) or not agrees(graph, module):
        graph = traced(deepcopy(module).eval().requires_grad_(False), whole=True)
    record_shapes(graph)
    return graph


def agrees(graph: nn.Module, module: nn.Module, tolerance: float = TOLERANCE) -> bool:
    """Whether a graph gives what its module gives, tried with images of two sizes."""
    reference = deepcopy(module).eval() if module.training else module
    for images in map(_images, SIZES):
        images = images.to(next(iter(module.parameters()), images))
        with torch.no_grad():
            expected, found = reference(images), graph(images)
        largest = float(expected.abs().max())
        if found.shape != expected.shape or not torch.allclose(
            found, expected, rtol=0, atol=tolerance * largest, equal_nan=True
        ):
            return False
    return True


def record_shapes(graph: fx.GraphModule) -> None:
    """Write the shape of each node's output into its `meta`, for images of the first of `SIZES`."""

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            output = super().run_node(n)
            n.meta["shape"] = tuple(output.shape) if isinstance(output, Tensor) else None
            return output

    images = _images(SIZES[0]).to(next(iter(graph.parameters()), torch.empty(0)))
    with torch.no_grad():
        Recorder(graph).run(images)


def _images(size: tuple[int, int, int]) -> Tensor:
    batch, height, width = size
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def _name_layers(graph: fx.GraphModule) -> None:
    """Replace each function that has a layer by this layer."""
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target in LAYERS and len(node.args) == 1:
            new = LAYERS[node.target](inplace=node.kwargs.get("inplace", False))
            replace_nodes(graph, [node], f"{node.name}_layer", new, node.args)


def _drop_identities(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        if isinstance(layer(graph, node), IDENTITIES):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)


def _write_nothing_in_place(graph: fx.GraphModule) -> None:
    """Give a layer that writes into its input a separate output, which all later nodes take instead of the input."""
    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        module = layer(graph, node)
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[union-attr]
        elif node.op == "call_function" and node.target in OUT_OF_PLACE:
            node.target = OUT_OF_PLACE[node.target]
        elif node.op == "call_method" and node.target.endswith("_") and not node.target.endswith("__"):
            node.target = node.target.removesuffix("_")
        else:
            continue
        node.args[0].replace_all_uses_with(node, lambda user, after=order[node]: order[user] > after)


def _writes_into_parts(graph: fx.GraphModule) -> bool:
    """Whether a part of a tensor is written into, which no separate output can replace."""
    return any(
        node.target is operator.setitem or "out" in node.kwargs or node.kwargs.get("inplace", False)
        for node in graph.graph.nodes
    )
