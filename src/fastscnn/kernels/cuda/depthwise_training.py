"""A depthwise 3x3 convolution in training on a GPU, by Triton: forward, and the gradients of input and weights.

No call waits for the GPU, and all can be captured into a CUDA graph once they have run. Sums are added up in the same
order every time. Weights stay float32, also where the features are in half precision. Gradients cannot be
differentiated once more.
"""

import contextlib
import importlib
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fastscnn.kernels.cuda import labels as cuda
from fastscnn.kernels.cuda.norm import PROGRAMS

ACTIVATIONS: dict[type[nn.Module], float] = {}
"""None is computed with it: what follows a convolution in training is a BatchNorm."""
VALUES = 1024
"""Values of a tile: eight in each of 128 threads, so that the nine sums of each stay in its registers."""
MOST_CHANNELS = 64
"""Channels of a tile: those of a pixel are 128 bytes in half precision."""
MOST_ROWS = 8
"""Rows of a tile: of the rows that it loads, two lie outside of it."""
PARTS = (64, 16)
"""Parts and sums of a tile where parts are put together."""


def serves(convolution: nn.Module) -> bool:
    """Whether there are programs for a layer: depthwise 3x3 that keeps or halves the size, without a bias."""
    if type(convolution) is not nn.Conv2d:
        return False
    strided = convolution.stride, convolution.dilation
    return (
        convolution.kernel_size == (3, 3)
        and convolution.groups == convolution.in_channels == convolution.out_channels
        and convolution.bias is None
        and convolution.padding == convolution.dilation
        and convolution.padding_mode == "zeros"
        and convolution.dilation[0] == convolution.dilation[1]
        and (convolution.stride == (1, 1) or strided == ((2, 2), (1, 1)))
    )


def applies(features: Tensor, convolution: nn.Conv2d) -> bool:
    """Whether the programs can take this input of a layer that they serve.

    Float32 or half precision, as autocast has it where that is on, [B, C, H, W] in channels_last on a GPU with Triton;
    weights in float32 on the same GPU.
    """
    weight, kind = convolution.weight, features.device.type
    return (
        type(features) is Tensor
        and _runs_on(features.device)
        and features.dtype in cuda.DTYPES
        and (not torch.is_autocast_enabled(kind) or features.dtype == torch.get_autocast_dtype(kind))
        and features.dim() == 4
        and features.shape[1] == convolution.in_channels
        and features.numel() > 0
        and features.is_contiguous(memory_format=torch.channels_last)
        and weight.device == features.device
        and weight.dtype == torch.float32
        and weight.stride()[::2] == (9, 3)
        and weight.stride(3) == 1
        and not torch.compiler.is_compiling()
    )


def compute(features: Tensor, convolution: nn.Conv2d, activation: None = None) -> Tensor:
    """What `convolution(features)` gives, to rounding.

    Args:
        features: [B, C, H, W]; where `applies`.
        convolution: A layer that is served.
        activation: None: the programs have none.

    Returns:
        [B, C, ceil(H / stride), ceil(W / stride)] of the features' type and memory format.
    """
    out: Tensor = _Depthwise.apply(features, convolution.weight, convolution.stride[0], convolution.dilation[0])
    return out


class Tiles(NamedTuple):
    """How pixels and channels are shared out: rows, columns and channels of a tile, tiles of a program, programs."""

    rows: int
    columns: int
    channels: int
    total: int
    tiles: int
    splits: int

    def grid(self, channels: int) -> tuple[int, int]:
        """Programs over pixels and over channels."""
        return self.splits, -(-channels // self.channels)

    def constants(self) -> dict[str, Any]:
        """What the programs are compiled for."""
        return {"ROWS": self.rows, "COLUMNS": self.columns, "CHANNELS": self.channels, "num_warps": 4}


def shares(batch: int, channels: int, rows: int, columns: int) -> Tiles:
    """The tiles of [B, C, rows, columns]."""
    across = min(MOST_CHANNELS, 1 << (channels - 1).bit_length())
    down = min(MOST_ROWS, VALUES // across)
    wide = VALUES // across // down
    total = batch * -(-rows // down) * -(-columns // wide)
    tiles = -(-total // max(1, PROGRAMS // -(-channels // across)))
    return Tiles(down, wide, across, total, tiles, -(-total // tiles))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        batch, channels, height, width = features.shape
        size = -(-height // stride), -(-width // stride)
        shape = batch, channels, *size
        out = torch.empty(shape, dtype=features.dtype, device=features.device, memory_format=torch.channels_last)
        _run("convolve_program", features, weight, out, size, STRIDE=stride, DILATION=dilation, FLIPS=False)
        ctx.save_for_backward(features, weight)
        ctx.geometry = stride, dilation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        stride, dilation = ctx.geometry
        gradient = grad_outputs[0].contiguous(memory_format=torch.channels_last)
        size = gradient.shape[2], gradient.shape[3]
        derived = weight_gradient = None
        if ctx.needs_input_grad[0]:
            derived = torch.empty_like(features)
            if stride == 1:
                constants = {"STRIDE": 1, "DILATION": dilation, "FLIPS": True}
                _run("convolve_program", gradient, weight, derived, size, **constants)
            else:
                _run("spread_program", gradient, weight, derived, size, sizes=features.shape[2:])
        if ctx.needs_input_grad[1]:
            weight_gradient = torch.empty_like(weight)
            channels = features.shape[1]
            tiles = shares(len(features), channels, *size)
            parts = features.new_empty(tiles.splits, 9, channels, dtype=torch.float32)
            _run("weight_gradient_program", features, gradient, parts, size, STRIDE=stride, DILATION=dilation)
            grid = (-(-9 * channels // PARTS[1]),)
            together = {"SPLITS": PARTS[0], "SUMS": PARTS[1]}
            launch("together_program", grid, parts, weight_gradient, tiles.splits, channels, **together)
        return derived, weight_gradient, None, None


def _run(
    program: str,
    features: Tensor,
    other: Tensor,
    out: Tensor,
    size: tuple[int, int],
    sizes: tuple[int, ...] | None = None,
    **constants: Any,
) -> None:
    """Launch a program over all tiles of [B, C, *size]; `sizes` are those of the other images, the first's if None."""
    batch, channels = features.shape[:2]
    tiles = shares(batch, channels, *size)
    geometry = *(features.shape[2:] if sizes is None else sizes), *size, channels
    given = other, out, tiles.tiles, tiles.total, *geometry
    launch(program, tiles.grid(channels), features, *given, **constants, **tiles.constants())


def launch(program: str, grid: tuple[int, ...], features: Tensor, /, *arguments: Any, **constants: Any) -> None:
    """Launch a program of `depthwise_training_kernels` where its tensors are."""
    with torch.cuda.device(features.device) if features.is_cuda else contextlib.nullcontext():
        getattr(programs(), program)[grid](features, *arguments, **constants)


def _runs_on(device: torch.device) -> bool:
    return device.type == "cuda" and cuda.usable(device)


@cache
def programs() -> Any:
    """The module of the programs; see `fastscnn.kernels.cuda.labels.programs`."""
    return importlib.import_module("fastscnn.kernels.cuda.depthwise_training_kernels")
