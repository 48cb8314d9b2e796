"""A network as a graph of its layers, from which its forms for folding, export and the backends are derived.

The graph is `torch.fx`'s. A module whose Python code cannot be traced, because it asks about the values or the sizes of
its inputs, stays one node of the graph and is called as it is.
"""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastscnn.models.blocks import downscale, resize

WHOLE_FUNCTIONS = (resize, downscale)
"""Functions that stay one node, because they ask about sizes."""


class CoarseLogits(nn.Module):
    """A network up to its coarse logits, as a module."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] to the logits before the last upsampling."""
        logits: Tensor = self.network.coarse_logits(images)
        return logits


class _Root(nn.Module):
    """Calls a module, which can then be a single node of a graph."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.whole = module

    def forward(self, images: Tensor) -> Any:
        return self.whole(images)


class _Tracer(fx.Tracer):
    """Traces into every module except torch's own layers and those that could not be traced before.

    Each node has in `meta["part"]` the path of the module that it belongs to.
    """

    def __init__(self, opaque: set[str]) -> None:
        super().__init__(autowrap_functions=WHOLE_FUNCTIONS)
        self.opaque = opaque
        self.failed: str | None = None
        self._parts = [""]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module stays one node."""
        return module_qualified_name in self.opaque or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Trace into a module; if that fails, remembers the innermost one."""
        self._parts.append(self.path_of_module(m))
        try:
            output = super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or self._parts[-1]
            raise
        self._parts.pop()
        return output

    def create_proxy(self, *args: Any, **kwargs: Any) -> fx.Proxy:
        """Make a node whose `meta` names its part."""
        proxy = super().create_proxy(*args, **kwargs)
        proxy.node.meta["part"] = self._parts[-1]
        return proxy


def traced(module: nn.Module, *, whole: bool = False) -> fx.GraphModule:
    """The graph of a module that takes images.

    Args:
        module: In eval mode. The graph's modules are its own, not copies.
        whole: Leave the module one node.
    """
    root = _Root(module)
    opaque = {"whole"} if whole else set()
    while True:
        tracer = _Tracer(opaque)
        try:
            return fx.GraphModule(root, tracer.trace(root))
        except Exception:  # a module's code may fail on a proxy in any way
            if tracer.failed is None or tracer.failed in opaque:
                raise
            opaque.add(tracer.failed)


def layer(graph: fx.GraphModule, node: Any) -> nn.Module | None:
    """The module that a node calls; None for any other node and for a module that several nodes call."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    if sum(other.op == "call_module" and other.target == node.target for other in graph.graph.nodes) > 1:
        return None
    return graph.get_submodule(str(node.target))


def only_user(node: fx.Node) -> fx.Node | None:
    """The node that takes a node's output, if there is exactly one."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def addends(node: fx.Node | None) -> tuple[fx.Node, fx.Node] | None:
    """The two different nodes of an addition, in the order in which they are computed; None for any other node."""
    if node is None or node.op != "call_function" or node.target not in (operator.add, torch.add) or node.kwargs:
        return None
    summands = [value for value in node.args if isinstance(value, fx.Node)]
    if len(node.args) != 2 or len(summands) != 2 or summands[0] is summands[1]:
        return None
    first, second = sorted(summands)
    return first, second


def replace_nodes(
    graph: fx.GraphModule, nodes: Sequence[fx.Node], name: str, module: nn.Module, inputs: tuple[Any, ...]
) -> fx.Node:
    """Replace a chain of nodes by a new module that computes the same.

    Args:
        graph: The graph.
        nodes: The chain in its order; other nodes take the output of the last one alone.
        name: The name of the new module.
        module: The new module.
        inputs: Its arguments.

    Returns:
        The node that calls it.
    """
    *before, last = nodes
    graph.add_submodule(name, module)
    with graph.graph.inserting_before(last):
        new = graph.graph.call_module(name, inputs)
    new.meta = dict(last.meta)
    last.replace_all_uses_with(new)
    for node in (last, *reversed(before)):
        graph.graph.erase_node(node)
    return new


def finish(graph: fx.GraphModule) -> fx.GraphModule:
    """Remove unused nodes and modules, and generate the graph's code anew."""
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return graph
