"""Layers of a network that is trained on a GPU, computed by programs of our own: the network stays as it is."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from fastscnn.kernels.cuda import depthwise_training, labels, norm
from fastscnn.utils.progress import say

if TYPE_CHECKING:
    import pytorch_lightning as pl

PROGRAMS: dict[str, tuple[ModuleType, str]] = {
    "fused_norm": (norm, "BatchNorm is not fused"),
    "triton_depthwise": (depthwise_training, "Depthwise convolutions are torch's"),
}
"""Setting of the `trainer` group to the module of the programs, and what is so without them."""


class Step(NamedTuple):
    """A layer, the activation that is computed with it or None, and the module of its programs or None."""

    layer: nn.Module
    activation: nn.Module | None = None
    programs: Any = None


class LayerPrograms:
    """Inside its block each `nn.Sequential` of a module computes its layers by programs of ours, where there are some.

    A BatchNorm takes the activation after it along: the convolution may lie in a block of its own with the BatchNorm,
    and the activation after that block. Nothing of the module changes but what its sequences compute with, and that
    only within the block; outside of it, and in a copy, an export or an evaluation, it is the network that it was. What
    the programs do not take (`applies` of theirs) is computed by torch, as is a layer that has hooks of its own.

    Args:
        module: All of whose sequences are meant.
        programs: Modules as those in `PROGRAMS`.
    """

    def __init__(self, module: nn.Module, programs: Sequence[ModuleType]) -> None:
        self._sequences = dict(sequences(module, programs))

    def count(self, programs: ModuleType) -> int:
        """Layers that such programs compute."""
        return sum(step.programs is programs for steps in self._sequences.values() for step in steps)

    def __enter__(self) -> None:
        for sequence, steps in self._sequences.items():
            sequence.__dict__["forward"] = partial(compute, steps)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sequence in self._sequences:
            del sequence.__dict__["forward"]


def sequences(module: nn.Module, programs: Sequence[ModuleType]) -> Iterator[tuple[nn.Module, list[Step]]]:
    """The outermost sequences of a module that have a layer with programs, and the layers of each in their order.

    A class that computes something else of its layers than `nn.Sequential` does is none.
    """
    layers = list(_layers(module) if _is_sequence(module) else module.children())
    if _is_sequence(module):
        steps = list(_steps(layers, programs))
        if any(step.programs for step in steps):
            yield module, steps
    for layer in layers:
        yield from sequences(layer, programs)


def compute(steps: Sequence[Step], features: Any) -> Any:
    """What the sequence of these steps computes."""
    for layer, activation, programs in steps:
        if programs is not None and isinstance(features, Tensor) and programs.applies(features, layer):
            features = programs.compute(features, layer, activation)
        else:
            features = layer(features)
            features = features if activation is None else activation(features)
    return features


def why_not(settings: Mapping[str, Any], trainer: "pl.Trainer", module: nn.Module) -> str | None:
    """Why a run computes its layers as torch does, as the end of a sentence; None where it can have our programs.

    Args:
        settings: The `trainer` group.
        trainer: The run's.
        module: What is trained, on its device.
    """
    device = trainer.strategy.root_device
    reasons = {
        "there is no GPU with Triton": device.type != "cuda" or not labels.usable(device),
        "trainer.compile has its own programs": bool(settings.get("compile")),
        "trainer.recompute=true computes layers again": settings.get("recompute") is True,
        "trainer.channels_last=false keeps the channels apart": not settings.get("channels_last", True),
        "its weights are not float32": any(weight.dtype != torch.float32 for weight in module.parameters()),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def choose_layer_programs(
    settings: Mapping[str, Any], trainer: "pl.Trainer | None", module: nn.Module
) -> LayerPrograms | None:
    """The programs of a run by its settings: `auto` has them where it can, true says why where it cannot.

    Args:
        settings: The `trainer` group.
        trainer: The run's; None where there is none.
        module: What is trained, as it is on its devices.
    """
    wanted = [name for name in PROGRAMS if settings.get(name, False) is not False]
    if not wanted or trainer is None:
        return None
    reason = why_not(settings, trainer, module)
    chosen = LayerPrograms(module, [] if reason else [PROGRAMS[name][0] for name in wanted])
    for name in wanted:
        programs, without = PROGRAMS[name]
        if settings[name] is True and not chosen.count(programs) and trainer.is_global_zero:
            say(f"{without}: {reason or 'the network has none in an nn.Sequential'}")
    return chosen if any(chosen.count(PROGRAMS[name][0]) for name in wanted) else None


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


def _steps(layers: Sequence[nn.Module], programs: Sequence[Any]) -> Iterator[Step]:
    place = 0
    while place < len(layers):
        layer, *after = layers[place : place + 2]
        own = None if _does_more(layer) else next((module for module in programs if module.serves(layer)), None)
        if own is not None and after and type(after[0]) in own.ACTIVATIONS and not _does_more(after[0]):
            yield Step(layer, after[0], own)
            place += 2
        else:
            yield Step(layer, None, own)
            place += 1


def _does_more(module: nn.Module) -> bool:
    """Whether a call does more than `forward`: it has hooks, or was compiled by itself."""
    more = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_compiled_call_impl"
    return any(getattr(module, name, None) for name in more)
