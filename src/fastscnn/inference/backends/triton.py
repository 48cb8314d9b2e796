"""A network from uint8 pixels to coarse logits by the Triton programs, each layer with what follows it in one pass.

Which layers a program takes is read from the network's graph, so that it serves any network; every other layer stays
torch's own. Fast-SCNN takes 41 launches.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fastscnn.inference.backends.triton_layers import (
    Normalize,
    Pointwise,
    Pooling,
    Separable,
    Stem,
    TritonLayer,
    Upsample,
)
from fastscnn.inference.deployed import deployed
from fastscnn.kernels.cuda import labels
from fastscnn.kernels.cuda.pyramid import applies
from fastscnn.models.blocks import downscale, resize
from fastscnn.models.graph import CoarseLogits, addends, finish, layer, only_user, replace_nodes

ENDS: dict[type[nn.Module], float] = {nn.ReLU: math.inf, nn.ReLU6: 6.0}
"""The activations of the programs, and the highest value of each."""
MOST_OUTPUTS = 256
"""Output channels that the program of `Separable` supports."""
OLDEST = (8, 0)
"""The first compute capability that the programs run on: it has bfloat16, and enough shared memory."""
NORMALIZE = "normalize"
"""Name of the layer that normalises, where the first convolution does not."""


def obstacle(device: torch.device) -> str | None:
    """Why the programs do not run on a device, as a part of a sentence; None if they do."""
    if device.type != "cuda" or torch.version.hip is not None:
        return "it needs an NVIDIA GPU"
    if torch.cuda.get_device_capability(device) < OLDEST:
        return f"it needs a GPU of compute capability {OLDEST[0]}.{OLDEST[1]} or newer"
    return None if labels.usable(device) else "Triton is not installed, or does not run on this GPU"


class TritonNetwork(nn.Module):
    """A trained network, ready to run; the programs' sums are float32, and so are its logits.

    Args:
        network: The network; is left as it is.
        dtype: float16, bfloat16 or float32.
        scale: Height and width of what the network sees, as a share of the image's.

    Attributes:
        programs: The layers that are computed by our programs.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float16, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.graph = lowered(deployed(CoarseLogits(network)), dtype)
        self.programs = [
            name for name, module in self.graph.named_modules() if isinstance(module, TritonLayer) and name != NORMALIZE
        ]
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """RGB, uint8 [B, H, W, 3], to coarse logits, float32 [B, num_classes, h, w]."""
        pixels = images.permute(0, 3, 1, 2)
        if self.scale != 1:
            pixels = downscale(pixels.float(), self.scale)
        logits: Tensor = self.graph(pixels)
        return logits.float()


def lowered(graph: fx.GraphModule, dtype: torch.dtype) -> fx.GraphModule:
    """Put the Triton layers into a graph that `deployed` made; it then takes pixels of 0 to 255.

    Args:
        graph: The graph; is changed.
        dtype: Of features and weights.
    """
    _take_pixels(graph, dtype)
    for join in (_pooling, _upsampling, _depthwise, _pointwise):
        for node in list(graph.graph.nodes):
            if node in set(graph.graph.nodes):  # it may have been joined to another
                join(graph, node, dtype)
    _end_in_float32(graph)
    finish(graph)
    _convert_the_rest(graph, dtype)
    return graph


def _convolution(
    graph: fx.GraphModule, node: fx.Node | None, size: int, *, stride: int | None, depthwise: bool
) -> nn.Conv2d | None:
    """A node's convolution if it has that kernel size and a padding that keeps the size at stride 1."""
    module = layer(graph, node)
    if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or module.kernel_size != (size, size):
        return None
    dilation = module.dilation[0]
    groups = module.in_channels if depthwise else 1
    square = module.stride[0] == module.stride[1] and module.dilation == (dilation, dilation)
    padded = module.padding == (dilation * (size // 2),) * 2
    fits = square and padded and module.groups == groups and (not depthwise or module.out_channels == groups)
    return module if fits and stride in (None, module.stride[0]) else None


def _end(graph: fx.GraphModule, node: fx.Node | None) -> float:
    """The highest value of the activation that a node is; 0 if the programs do not have it."""
    module = layer(graph, node)
    return 0.0 if module is None else ENDS.get(type(module), 0.0)


def _tail(graph: fx.GraphModule, node: fx.Node) -> tuple[list[fx.Node], tuple[fx.Node, ...], float]:
    """The addition and the activation after a node, the addend, and the activation's highest value.

    Of two convolutions whose outputs are added, the earlier one takes up the addition.
    """
    chain: list[fx.Node] = []
    others: tuple[fx.Node, ...] = ()
    following = only_user(node)
    summands = addends(following)
    if following and summands and summands[0].meta["shape"] == summands[1].meta["shape"]:
        chain.append(following)
        others = tuple(each for each in summands if each is not node)
        following = only_user(following)
    highest = _end(graph, following)
    return [*chain, *([following] if following and highest else [])], others, highest


def _take_pixels(graph: fx.GraphModule, dtype: torch.dtype) -> None:
    """Normalise inside the first convolution if it alone takes the images, else before it."""
    images = next(node for node in graph.graph.nodes if node.op == "placeholder")
    takers = [user for user in images.users if user.meta["shape"] is not None]
    first = _convolution(graph, takers[0], 3, stride=2, depthwise=False) if len(takers) == 1 else None
    if first is not None and first.in_channels == 3 and first.dilation == (1, 1):
        following = only_user(takers[0])
        highest = _end(graph, following)
        chain = [takers[0], following] if following and highest else takers
        replace_nodes(graph, chain, "stem", Stem(first, highest, dtype), (images,))
        return
    graph.add_submodule(NORMALIZE, Normalize(dtype))
    with graph.graph.inserting_after(images):
        normalized = graph.graph.call_module(NORMALIZE, (images,))
    normalized.meta = dict(images.meta)
    images.replace_all_uses_with(normalized, lambda user: user is not normalized)


def _depthwise(graph: fx.GraphModule, node: fx.Node, dtype: torch.dtype) -> None:
    """Join a depthwise convolution with the 1x1 convolution after it, and with what follows that."""
    first = _convolution(graph, node, 3, stride=None, depthwise=True)
    if first is None:
        return
    between = only_user(node)
    highest_between = _end(graph, between)
    following = only_user(between) if between and highest_between else between
    last = _convolution(graph, following, 1, stride=1, depthwise=False)
    if following is None or last is None or last.out_channels > MOST_OUTPUTS:
        return
    tail, others, highest = _tail(graph, following)
    chain = [node, *([between] if between and highest_between else []), following, *tail]
    beside = next((_linear(graph, other) for other in others), None)
    if beside is not None:  # the addend is computed in the same program
        chain.insert(0, others[0])
        others = (others[0].args[0],)  # type: ignore[assignment]
    ending = only_user(chain[-1])
    head = _linear(graph, ending)
    if ending is not None and head is not None:
        chain.append(ending)
    module = Separable(first, last, highest_between, highest, dtype, beside=beside, head=head)
    replace_nodes(graph, chain, f"{following.target}_separable", module, (*node.args, *others))


def _linear(graph: fx.GraphModule, node: fx.Node | None) -> nn.Conv2d | None:
    """A node's 1x1 convolution, if neither an addition nor an activation follows it."""
    convolution = _convolution(graph, node, 1, stride=1, depthwise=False)
    if node is None or convolution is None or convolution.out_channels > MOST_OUTPUTS:
        return None
    following = only_user(node)
    return None if following is None or _end(graph, following) else convolution


def _pointwise(graph: fx.GraphModule, node: fx.Node, dtype: torch.dtype) -> None:
    """Join a 1x1 convolution with what follows it."""
    convolution = _convolution(graph, node, 1, stride=1, depthwise=False)
    if convolution is not None:
        tail, others, highest = _tail(graph, node)
        module = Pointwise(convolution, highest, dtype)
        replace_nodes(graph, [node, *tail], f"{node.target}_pointwise", module, (*node.args, *others))


def _pooling(graph: fx.GraphModule, joined: fx.Node, dtype: torch.dtype) -> None:
    """Join pyramid pooling: a map and its upsampled averages, concatenated and taken by a 1x1 convolution."""
    if joined.target is not torch.cat:
        return
    dimension = joined.kwargs.get("dim", joined.args[1] if len(joined.args) > 1 else 0)
    features, *upsampled = joined.args[0] if isinstance(joined.args[0], list | tuple) else [None]
    stages = [_stage(graph, node, features) for node in upsampled]
    following = only_user(joined)
    last = _convolution(graph, following, 1, stride=1, depthwise=False)
    if dimension != 1 or not stages or None in stages or last is None or following is None:
        return
    found: list[Any] = stages
    ends = {highest for *_, highest in found}
    if len(ends) > 1:
        return
    tail, others, highest = _tail(graph, following)
    if others:  # the program has no place for them
        tail, highest = [], 0.0
    before = [node for nodes, *_ in found for node in nodes]
    bins, convolutions = [bins for _, bins, *_ in found], [convolution for _, _, convolution, _ in found]
    if not applies(tuple(bins), sum(convolution.out_channels for convolution in convolutions)):
        return
    module = Pooling(bins, convolutions, last, ends.pop(), highest, dtype)
    replace_nodes(graph, [*before, joined, following, *tail], f"{following.target}_pooling", module, (features,))


def _stage(graph: fx.GraphModule, node: Any, features: Any) -> tuple[list[fx.Node], int, nn.Conv2d, float] | None:
    """A stage of pyramid pooling that ends with a node: its nodes, its bins, its convolution, its activation's end."""
    chain: list[fx.Node] = []
    for _ in range(4):
        if not isinstance(node, fx.Node) or only_user(node) is None or not node.args:
            return None
        chain.insert(0, node)
        node = node.args[0]
    pooled, convolved, activated, upsampled = chain
    pooling = layer(graph, pooled)
    convolution = _convolution(graph, convolved, 1, stride=1, depthwise=False)
    square = isinstance(pooling, nn.AdaptiveAvgPool2d) and isinstance(pooling.output_size, int)
    if node is not features or not square or convolution is None or not _end(graph, activated):
        return None
    if not _is_bilinear(upsampled):
        return None
    return chain, int(pooling.output_size), convolution, _end(graph, activated)  # type: ignore[union-attr,arg-type]


def _upsampling(graph: fx.GraphModule, node: fx.Node, dtype: torch.dtype) -> None:
    """Replace a bilinear interpolation."""
    if _is_bilinear(node):
        size = node.args[1] if len(node.args) > 1 else node.kwargs["size"]
        replace_nodes(graph, [node], f"{node.name}_upsample", Upsample(), (node.args[0], size))


def _is_bilinear(node: fx.Node) -> bool:
    """Whether a node resizes a map to a size by bilinear interpolation with half-pixel centres."""
    if node.target is resize:
        return True
    if node.target is not F.interpolate or not node.args:
        return False
    options = dict(node.kwargs)
    size = node.args[1] if len(node.args) > 1 else options.pop("size", None)
    plain = len(node.args) <= 2 and options == {"mode": "bilinear", "align_corners": False}
    return plain and size is not None and not isinstance(size, int)


def _end_in_float32(graph: fx.GraphModule) -> None:
    """Have the last layer give float32, if it is a Triton layer."""
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    last = layer(graph, output.args[0])
    ends = isinstance(last, Pointwise) or (isinstance(last, Separable) and last.head is not None)
    if ends and only_user(output.args[0]) is output:
        last.output_dtype = torch.float32  # type: ignore[union-attr]


def _convert_the_rest(graph: fx.GraphModule, dtype: torch.dtype) -> None:
    """Convert torch's own layers, and the tensors that functions take."""
    for node in graph.graph.nodes:
        if node.op == "call_module" and not isinstance(layer(graph, node), TritonLayer):
            graph.get_submodule(node.target).to(dtype).to(memory_format=torch.channels_last)
        elif node.op == "get_attr":
            *path, name = node.target.split(".")
            owner = graph.get_submodule(".".join(path))
            value = getattr(owner, name)
            if isinstance(value, Tensor) and value.is_floating_point():
                value.data = value.data.to(dtype)
