"""A network in the form that exporters get right at every size, and its ONNX file."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastscnn.data.transforms.normalize import MEAN, STD
from fastscnn.inference.loader import Trained
from fastscnn.inference.runtimes import INPUT
from fastscnn.models.blocks import FeatureFusion, PyramidPooling
from fastscnn.models.folding import folded
from fastscnn.utils.errors import RequestError

INPUTS = ("uint8", "normalized")
OUTPUTS = ("labels", "logits", "probabilities")
DIMENSIONS = {
    "labels": ("batch", "height", "width"),
    "logits": ("batch", "classes", "coarse_height", "coarse_width"),
    "probabilities": ("batch", "classes", "height", "width"),
}
"""Names of the dimensions of each output."""
OPSET = 18


class ExportGraph(nn.Module):
    """From images to an answer, without a question about their size and without pooling of a fixed window.

    BatchNorm is folded. It agrees with the network to float32's rounding.

    Args:
        trained: The network; stays as it is.
        input: `uint8`, RGB [B, 3, H, W], normalised and brought to the network's resolution inside; or `normalized`,
            float32 as the network takes it.
        output: `labels`, uint8 [B, H, W]; `logits` before the last upsampling, float32 [B, C, h, w]; or
            `probabilities`, float32 [B, C, H, W].

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
        self.network: Any = exportable(folded(trained.network))
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(STD).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], any H and W from 1 up, to what `output` says."""
        size = (images.shape[2], images.shape[3])
        if self.input == "uint8":
            images = (images.float() - self.mean) / self.std
            if self.scale > 1:
                images = _upsample(images, (scaled_length(size[0], self.scale), scaled_length(size[1], self.scale)))
            elif self.scale != 1:
                images = shrink(shrink(images, 2, self.scale), 3, self.scale)
        logits: Tensor = self.network.coarse_logits(images)
        if self.output == "logits":
            return logits
        logits = _upsample(logits, size)
        return logits.softmax(1) if self.output == "probabilities" else logits.argmax(1).to(torch.uint8)


def exportable(network: nn.Module) -> nn.Module:
    """A copy of a network in eval mode without the layers that exporters get wrong at some sizes."""
    network = deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, PyramidPooling):
                setattr(module, name, _PyramidPooling(child))
            elif isinstance(child, FeatureFusion):
                setattr(module, name, _FeatureFusion(child))
            elif isinstance(child, nn.AdaptiveAvgPool2d) and isinstance(child.output_size, int):
                setattr(module, name, BinAverages((child.output_size,)))
    return network


class BinAverages(nn.Module):
    """Adaptive average pooling to squares of bins, as two matrix products.

    The matrices are computed from the map's size inside the graph, so that one file serves all sizes; where the size is
    fixed they become constants. Exporters take `nn.AdaptiveAvgPool2d` only where the bins divide the map.

    Args:
        bins: Numbers of bins a side; all of them in one pair of products.
    """

    number: Tensor
    count: Tensor

    def __init__(self, bins: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("number", torch.tensor([[i] for n in bins for i in range(n)]))
        self.register_buffer("count", torch.tensor([[n] for n in bins for _ in range(n)]))

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C, sum(bins), sum(bins)]; pooling to n bins is a square on the diagonal."""
        batch, channels, height, width = features.shape
        bins = len(self.number)
        across = features.reshape(-1, width) @ self.matrix(width).T  # 2-D: torch.export asks about sides of 1 otherwise
        planes = across.view(-1, height, bins)
        down = self.matrix(height).expand(batch * channels, bins, height)
        return torch.bmm(down, planes).view(batch, channels, bins, bins)

    def matrix(self, length: int) -> Tensor:
        """What averages a line of that many values over each number of bins; float32 [sum(bins), length]."""
        start, end = _window(self.number, self.count, length)
        place = torch.arange(length, device=self.number.device)
        inside = (place >= start) & (place < end)
        return inside.float() / (end - start).float()


class _PyramidPooling(nn.Module):
    """`PyramidPooling` by `BinAverages`."""

    def __init__(self, pooling: PyramidPooling) -> None:
        super().__init__()
        self.bins = [int(stage[0].output_size) for stage in pooling.stages]  # type: ignore[index]
        self.averages = BinAverages(tuple(self.bins))
        self.stages = nn.ModuleList(stage[1:] for stage in pooling.stages)  # type: ignore[index]
        self.project = pooling.project

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H, W]."""
        size = (features.shape[2], features.shape[3])
        averages = self.averages(features)
        context, start = [], 0
        for bins, stage in zip(self.bins, self.stages, strict=True):
            here = slice(start, start + bins)
            context.append(_upsample(stage(averages[:, :, here, here]), size))
            start += bins
        output: Tensor = self.project(torch.cat([features, *context], dim=1))
        return output


class _FeatureFusion(nn.Module):
    """`FeatureFusion` without its question whether the two resolutions are the same."""

    def __init__(self, fusion: FeatureFusion) -> None:
        super().__init__()
        self.high = None if fusion.skip == "zero" else fusion.high
        self.low = fusion.low
        self.activation = fusion.activation

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """High [B, C, H, W] and low [B, C', h, w] to [B, C'', H, W]."""
        output: Tensor = self.low(_upsample(low, (high.shape[2], high.shape[3])))
        if self.high is not None:
            output = self.high(high) + output
        output = self.activation(output)
        return output


def shrink(images: Tensor, side: int, scale: Fraction) -> Tensor:
    """`fastscnn.models.blocks.downscale` along one side (2 or 3), as a sum of picked rows or columns."""
    length = images.shape[side]
    count = scaled_length(length, scale)
    start, end = _window(torch.arange(count, device=images.device), count, length)
    shape = [-1 if dim == side else 1 for dim in range(4)]
    most = int(1.5 / scale) + 2  # pixels that one replaces
    total = images.new_zeros(())
    for offset in range(most):
        inside = (start + offset < end).float().view(shape)
        total = total + images.index_select(side, torch.minimum(start + offset, end - 1)) * inside
    return total / (end - start).float().view(shape)


def scaled_length(length: Any, scale: Fraction) -> Any:
    """`max(1, round(length * scale))` in whole numbers alone and without a branch.

    The length may be a symbol of the graph.
    """
    up, down = scale.numerator, scale.denominator
    twice = 2 * length * up + down
    count = twice // (2 * down)
    count = count - (1 // (twice % (2 * down) + 1)) * (count % 2)  # halves go to the even number, as round() does
    return count + 1 // (count + 1)  # at least 1


def _window(number: Tensor, count: Any, length: Any) -> tuple[Tensor, Tensor]:
    """Where bin `number` of `count` begins on a line, and where it ends, as adaptive pooling has them."""
    start = torch.div(number * length, count, rounding_mode="floor")
    end = torch.div((number + 1) * length + count - 1, count, rounding_mode="floor")
    return start, end


def _upsample(features: Tensor, size: tuple[int, int]) -> Tensor:
    """`fastscnn.models.blocks.resize` without its question whether that is the size already."""
    return F.interpolate(features, size, mode="bilinear", align_corners=False)


def write_onnx(graph: nn.Module, path: str | Path | io.BytesIO, *, size: tuple[int, int] | None = None) -> None:
    """Write a graph as one ONNX file, its weights inside, with the input `images`.

    Any size is written by torch's tracing exporter, in half a second; the newer one gives a file of the same speed in
    10 seconds. A fixed size is written by the newer one, which knows more layers (the unpooling of SegNet and ENet).

    Args:
        graph: An `ExportGraph`; or, with a size, any network that maps float32 images [B, 3, H, W] to one tensor.
        path: Where to; or a buffer, where the size is any.
        size: Height and width, with a batch of one; None for any batch, height and width.

    Raises:
        RequestError: A package is missing.
    """
    dtype = torch.uint8 if getattr(graph, "input", None) == "uint8" else torch.float32
    images = torch.zeros((1, 3, *size) if size else (2, 3, 72, 104), dtype=dtype)
    output = graph.output if isinstance(graph, ExportGraph) else "output"
    target: Any = path if isinstance(path, io.BytesIO) else str(path)
    options: dict[str, Any]
    if size:
        options = {"dynamo": True, "external_data": False, "verbose": False}
    else:
        axes = {INPUT: ("batch", "channels", "height", "width"), output: DIMENSIONS[output]}
        fixed = ("channels", "classes")
        dynamic = {name: {i: dim for i, dim in enumerate(dims) if dim not in fixed} for name, dims in axes.items()}
        options = {"dynamo": False, "dynamic_axes": dynamic}
    try:
        with _silent(), torch.inference_mode():
            torch.onnx.export(
                exportable(graph),
                (images,),
                target,
                input_names=[INPUT],
                output_names=[output],
                opset_version=OPSET,
                **options,
            )
    except ImportError as error:
        raise RequestError(
            f"An ONNX file needs {error.name}, which is not installed: pip install onnx onnxscript."
        ) from None


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporters' remarks and their own deprecations off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
