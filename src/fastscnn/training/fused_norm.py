"""BatchNorm and its activation as one function in training, on a GPU: derived from a network, which stays as it is."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from fastscnn.kernels.cuda import labels as cuda
from fastscnn.kernels.cuda import norm as cuda_norm
from fastscnn.utils.progress import say

if TYPE_CHECKING:
    import pytorch_lightning as pl


class Step(NamedTuple):
    """A layer, or a BatchNorm that is fused, with the activation after it or without one."""

    layer: nn.Module
    activation: nn.Module | None = None
    fuses: bool = False


class FusedNorm:
    """Inside its block each `nn.Sequential` of a module computes its BatchNorms fused with the activations after them.

    The convolution may lie in a block of its own with the BatchNorm, and the activation after that block. Nothing of
    the module changes but what its sequences compute with, and that only within the block; outside of it, and
    in a copy, an export or an evaluation, it is the network that it was. What the programs do not take (see
    `fastscnn.kernels.cuda.norm.applies`) is computed by torch, as is a layer that has hooks of its own.

    Args:
        module: All of whose sequences are meant.
    """

    def __init__(self, module: nn.Module) -> None:
        self._sequences = dict(sequences(module))

    @property
    def norms(self) -> int:
        """BatchNorms that it reaches."""
        return sum(step.fuses for steps in self._sequences.values() for step in steps)

    def __enter__(self) -> None:
        for sequence, steps in self._sequences.items():
            sequence.__dict__["forward"] = partial(compute, steps)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sequence in self._sequences:
            del sequence.__dict__["forward"]


def sequences(module: nn.Module) -> Iterator[tuple[nn.Module, list[Step]]]:
    """The outermost sequences of a module that hold a BatchNorm, and the layers of each in their order.

    A class that computes something else of its layers than `nn.Sequential` does is none.
    """
    layers = list(_layers(module) if _is_sequence(module) else module.children())
    if _is_sequence(module):
        steps = list(_steps(layers))
        if any(step.fuses for step in steps):
            yield module, steps
    for layer in layers:
        yield from sequences(layer)


def compute(steps: Sequence[Step], features: Any) -> Any:
    """What the sequence of these steps computes."""
    for layer, activation, fuses in steps:
        norm: Any = layer
        if fuses and isinstance(features, Tensor) and cuda_norm.applies(features, norm):
            features = cuda_norm.batch_norm(features, norm, activation)
        else:
            features = layer(features)
            features = features if activation is None else activation(features)
    return features


def why_not(settings: Mapping[str, Any], trainer: "pl.Trainer", module: nn.Module) -> str | None:
    """Why a run computes BatchNorm as torch does, as the end of a sentence; None where it can be fused.

    Args:
        settings: The `trainer` group.
        trainer: The run's.
        module: What is trained, on its device.
    """
    device = trainer.strategy.root_device
    reasons = {
        "there is no GPU with Triton": device.type != "cuda" or not cuda.usable(device),
        "trainer.compile has its own programs": bool(settings.get("compile")),
        "trainer.recompute=true computes it again": settings.get("recompute") is True,
        "trainer.channels_last=false keeps the channels apart": not settings.get("channels_last", True),
        "its weights are not float32": any(
            weight.dtype != torch.float32
            for norm in module.modules()
            if type(norm) is nn.BatchNorm2d
            for weight in norm.parameters()
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def choose_fused_norm(settings: Mapping[str, Any], trainer: "pl.Trainer | None", module: nn.Module) -> FusedNorm | None:
    """What fuses the BatchNorms of a run, by `trainer.fused_norm`: `auto` where it can, true says why where it cannot.

    Args:
        settings: The `trainer` group.
        trainer: The run's; None where there is none.
        module: What is trained, as it is on its devices.
    """
    setting = settings.get("fused_norm", False)
    if setting is False or trainer is None:
        return None
    reason = why_not(settings, trainer, module)
    fused = FusedNorm(module) if reason is None else None
    if fused is not None and not fused.norms:
        reason, fused = "the network has no nn.BatchNorm2d in an nn.Sequential", None
    if setting is True and reason is not None and trainer.is_global_zero:
        say(f"BatchNorm is not fused: {reason}")
    return fused


def _is_sequence(module: nn.Module) -> bool:
    plain = type(module).forward is nn.Sequential.forward and "forward" not in module.__dict__
    return isinstance(module, nn.Sequential) and plain


def _layers(sequence: Any) -> Iterator[nn.Module]:
    """The layers of a sequence and of those in it; one that does more when it is called is a layer by itself."""
    for layer in sequence:
        if _is_sequence(layer) and not _does_more(layer):
            yield from _layers(layer)
        else:
            yield layer


def _steps(layers: Sequence[nn.Module]) -> Iterator[Step]:
    place = 0
    while place < len(layers):
        layer, *after = layers[place : place + 2]
        fuses = type(layer) is nn.BatchNorm2d and not _does_more(layer)
        if fuses and after and type(after[0]) in cuda_norm.ACTIVATIONS and not _does_more(after[0]):
            yield Step(layer, after[0], fuses)
            place += 2
        else:
            yield Step(layer, fuses=fuses)
            place += 1


def _does_more(module: nn.Module) -> bool:
    """Whether a call does more than `forward`: it has hooks, or was compiled by itself."""
    more = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_compiled_call_impl"
    return any(getattr(module, name, None) for name in more)
