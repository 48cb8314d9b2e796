"""BatchNorm of a training step and the activation after it on a GPU, by Triton: two passes forward, two backward.

torch writes the normalised features, reads them to activate them, and in the backward pass reads them once more for
where the activation was at an end. Here that is computed again from the BatchNorm's input, which the graph keeps in any
case. No call waits for the GPU, and all can be captured into a CUDA graph once they have run (the first call of a kind
compiles its program). Sums are added up in the same order every time. Gradients cannot be differentiated once more.
"""

import contextlib
import importlib
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fastscnn.kernels.cuda import labels as cuda

ACTIVATIONS: dict[type[nn.Module], float] = {nn.ReLU: float("inf"), nn.ReLU6: 6.0}
"""Where an activation ends."""
VALUES = 2048
"""Values of a tile: 16 in each of 128 threads, so that six blocks or more fit into a multiprocessor (sm_90)."""
MOST_CHANNELS = 64
"""Channels of a tile: a row of them is 128 bytes in half precision."""
PROGRAMS = 1056
"""At most so many share the rows: eight to each multiprocessor of an H100. A number of its own GPU would make another's
sums differ."""
PARTS = (64, 16)
"""Parts and channels of a tile where parts are put together."""


def serves(layer: nn.Module) -> bool:
    """Whether there are programs for a layer: a BatchNorm of one device."""
    return type(layer) is nn.BatchNorm2d


def applies(features: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Whether the programs can take this input of a BatchNorm that is being trained.

    Float32 or half precision, [B, C, H, W] in channels_last on a GPU with Triton, two pixels or more; weights and
    running statistics in float32 on the same GPU.
    """
    kept = norm.weight, norm.bias, norm.running_mean, norm.running_var
    return (
        norm.training
        and type(features) is Tensor
        and _runs_on(features.device)
        and features.dtype in cuda.DTYPES
        and features.dim() == 4
        and features.shape[1] == norm.num_features
        and features.numel() > norm.num_features
        and features.is_contiguous(memory_format=torch.channels_last)
        and all(own is not None and own.device == features.device and own.dtype == torch.float32 for own in kept)
        and norm.num_batches_tracked is not None
        and not torch.compiler.is_compiling()
    )


def compute(features: Tensor, norm: nn.BatchNorm2d, activation: nn.Module | None = None) -> Tensor:
    """What `activation(norm(features))` gives in training, to rounding; the running statistics move as there.

    Args:
        features: [B, C, H, W]; where `applies`.
        norm: Whose weights and running statistics are used.
        activation: One of `ACTIVATIONS`; None for none.

    Returns:
        A new tensor of the features' type and memory format.
    """
    highest = 0.0 if activation is None else ACTIVATIONS[type(activation)]
    momentum = 0.0 if norm.momentum is None else float(norm.momentum)
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    running = _Running(norm.running_mean, norm.running_var, norm.num_batches_tracked, momentum, norm.momentum is None)
    out: Tensor = _BatchNorm.apply(features, norm.weight, norm.bias, running, norm.eps, highest)
    return out


class _Running(NamedTuple):
    mean: Tensor
    variance: Tensor
    tracked: Tensor
    momentum: float
    cumulative: bool


class _Shares(NamedTuple):
    """How rows and channels are shared out."""

    tiles: int
    splits: int
    rows: int
    channels: int

    def grid(self, channels: int) -> tuple[int, int]:
        return self.splits, -(-channels // self.channels)

    def constants(self) -> dict[str, int]:
        return {"ROWS": self.rows, "CHANNELS": self.channels, "num_warps": 4}


def shares(rows: int, channels: int) -> _Shares:
    """Tiles of a program one after another, programs, and rows and channels of a tile."""
    across = min(MOST_CHANNELS, 1 << (channels - 1).bit_length())
    down = VALUES // across
    count = -(-rows // down)
    tiles = -(-count // max(1, PROGRAMS // -(-channels // across)))
    return _Shares(tiles, -(-count // tiles), down, across)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, running: _Running, eps: float, highest: float
    ) -> Tensor:
        weight, bias = weight.contiguous(), bias.contiguous()
        rows, channels = _rows(features), features.shape[1]
        share = shares(rows, channels)
        mean, inverse = features.new_empty(2, channels, dtype=torch.float32)
        parts = features.new_empty(share.splits, 3, channels, dtype=torch.float32)
        out = torch.empty_like(features)
        grid, constants = share.grid(channels), share.constants()
        launch("statistics_program", grid, features, parts, rows, channels, share.tiles, **constants)
        launch(
            "moments_program",
            (-(-channels // PARTS[1]),),
            *(parts, mean, inverse, running.mean, running.variance, running.tracked),
            *(rows, channels, share.tiles, share.splits, eps, running.momentum),
            ROWS=share.rows,
            SPLITS=PARTS[0],
            CHANNELS=PARTS[1],
            CUMULATIVE=running.cumulative,
        )
        launch(
            "normalise_program",
            grid,
            *(features, mean, inverse, weight, bias, running.tracked, out, rows, channels, share.tiles),
            HIGHEST=highest,
            **constants,
        )
        ctx.save_for_backward(features, weight, bias, mean, inverse)
        ctx.highest = highest
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, mean, inverse = ctx.saved_tensors
        gradient, stride = _as_rows(grad_outputs[0])
        rows, channels = _rows(features), features.shape[1]
        share = shares(rows, channels)
        parts = features.new_empty(share.splits, 2, channels, dtype=torch.float32)
        weight_gradient, bias_gradient = features.new_empty(2, channels, dtype=torch.float32)
        given = features, gradient, mean, inverse, weight, bias
        sizes, grid = (rows, channels, stride, share.tiles), share.grid(channels)
        constants = {"HIGHEST": ctx.highest, **share.constants()}
        launch("sums_program", grid, *given, parts, *sizes, **constants)
        launch(
            "affine_program",
            (-(-channels // PARTS[1]),),
            *(parts, inverse, weight_gradient, bias_gradient, channels, share.splits),
            SPLITS=PARTS[0],
            CHANNELS=PARTS[1],
        )
        derived = None
        if ctx.needs_input_grad[0]:
            derived = torch.empty_like(features)
            launch("derive_program", grid, *given, weight_gradient, bias_gradient, derived, *sizes, **constants)
        return derived, weight_gradient, bias_gradient, None, None, None


def _rows(features: Tensor) -> int:
    return features.numel() // features.shape[1]


def _as_rows(gradient: Tensor) -> tuple[Tensor, int]:
    """A gradient [B, C, H, W] whose pixels lie one after another, and how far apart.

    That of a part of concatenated channels is taken as it is; where rows are no multiple of each other it is copied.
    """
    _, channels, height, width = gradient.shape
    pixels = height * width, 1, width, 1
    apart = {divmod(gradient.stride(side), pixels[side]) for side in (0, 2, 3) if gradient.shape[side] > 1}
    stride, rest = apart.pop() if len(apart) == 1 else (0, 1)
    if rest or stride < channels or (channels > 1 and gradient.stride(1) != 1):
        return gradient.contiguous(memory_format=torch.channels_last), channels
    return gradient, stride


def launch(program: str, grid: tuple[int, ...], features: Tensor, /, *arguments: Any, **constants: Any) -> None:
    """Launch a program of `norm_kernels` where its tensors are."""
    with torch.cuda.device(features.device) if features.is_cuda else contextlib.nullcontext():
        getattr(programs(), program)[grid](features, *arguments, **constants)


def _runs_on(device: torch.device) -> bool:
    return device.type == "cuda" and cuda.usable(device)


@cache
def programs() -> Any:
    """The module of the programs; see `fastscnn.kernels.cuda.labels.programs`."""
    return importlib.import_module("fastscnn.kernels.cuda.norm_kernels")
