"""Which names out of a file may be imported and called: classes of a few packages that are meant for their place.

A user's own `conf/` and command line may name any class. A run's folder may come from somebody else.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers.logger import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fastscnn.utils.errors import RequestError
from fastscnn.utils.targets import TARGET, named_object

PACKAGES = ("fastscnn", "torch", "pytorch_lightning", "torchmetrics", "timm", "albumentations")


def _class_of(kind: type) -> Callable[[Any], bool]:
    return lambda found: isinstance(found, type) and issubclass(found, kind)


def _is_schedule(found: Any) -> bool:
    return _class_of(LRScheduler)(found) or (
        inspect.isfunction(found) and found.__module__ == "fastscnn.training.schedules"
    )


MEANT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "optimizer": (_class_of(Optimizer), "an optimizer"),
    "scheduler": (_is_schedule, "a schedule"),
    "callbacks": (_class_of(pl.Callback), "a callback"),
    "logger": (_class_of(Logger), "a logger"),
}
"""Group to what its nodes may build."""


def check_trusted(config: Mapping[str, Any], named: Collection[str] = (), *, source: str) -> None:
    """Check every `_target_` of a config that was read from a file.

    Args:
        config: Plain containers.
        named: Names that the command line, or the user's own `conf/`, gave itself.
        source: The file or folder, as messages show it.

    Raises:
        RequestError: A name is of another package, or is not meant for its place; nothing has been called, and no
            module of another package imported.
    """
    for key, node in _nodes(config):
        name = str(node[TARGET])
        if name in named:
            continue
        holds, kind = MEANT.get(key.partition(".")[0], (lambda found: False, "anything"))
        if name.partition(".")[0] in PACKAGES:
            found = named_object(node, key)
            if holds(found) and str(found.__module__).partition(".")[0] in PACKAGES:
                continue
            reason = f"which is not meant to build {kind}"
        else:
            reason = f"which is none of the packages {', '.join(PACKAGES)}"
        raise RequestError(
            f"{source} names {key}.{TARGET}={name}, {reason}, so it is not called.",
            key=f"{key}.{TARGET}",
            fix=f"Where you trust it, name it on the command line too: {key}.{TARGET}={name}.",
        )


def named_targets(overrides: Sequence[str]) -> set[str]:
    """The values of every `_target_` on a command line."""
    split = (override.lstrip("+").partition("=") for override in overrides)
    return {value for name, _, value in split if name.endswith(f".{TARGET}")}


def targets_in(config: Mapping[str, Any]) -> set[str]:
    """The values of every `_target_` in a config, which is the user's own."""
    return {str(node[TARGET]) for _, node in _nodes(config)}


def _nodes(value: Any, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Dotted key to node, for every node that names a target."""
    if isinstance(value, Mapping):
        if TARGET in value:
            yield prefix.rstrip("."), value
        for key, inner in value.items():
            yield from _nodes(inner, f"{prefix}{key}.")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _nodes(inner, f"{prefix}{number}.")
