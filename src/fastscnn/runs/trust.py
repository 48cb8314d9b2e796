"""Which names out of a file may be imported and called: classes of a few packages that are meant for their place.

A user's own `conf/` and command line may name any class. A run's folder or a checkpoint may come from somebody else;
`trust=PACKAGE` on the command line opens one more package for what they name.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.loggers.logger import Logger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fastscnn.runs.command_line import with_setting
from fastscnn.utils.errors import RequestError
from fastscnn.utils.targets import TARGET, named_object

PACKAGES = ("fastscnn", "torch", "pytorch_lightning", "torchmetrics", "timm", "albumentations", "torchvision.models")
"""Packages, and one part of a package, whose names a file may hold where they are meant for their place."""


def _class_of(kind: type) -> Callable[[Any], bool]:
    return lambda found: isinstance(found, type) and issubclass(found, kind)


def _is_schedule(found: Any) -> bool:
    return _class_of(LRScheduler)(found) or (
        inspect.isfunction(found) and found.__module__ == "fastscnn.training.schedules"
    )


def _is_network(found: Any) -> bool:
    """A network that torchvision builds by name, a layer of torch, or a network of ours."""
    module = str(found.__module__)
    if isinstance(found, type):
        return issubclass(found, nn.Module) and _inside(module, ("torch.nn.modules", "torchvision.models", "fastscnn"))
    if not (inspect.isfunction(found) and _inside(module, ("torchvision.models",))):
        return False
    from torchvision import models  # slow to import

    return found.__name__ in models.list_models() and models.get_model_builder(found.__name__) is found


def _builds(found: Any) -> bool:
    return inspect.isfunction(found) or _class_of(nn.Module)(found)


MEANT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "optimizer": (_class_of(Optimizer), "an optimizer"),
    "scheduler": (_is_schedule, "a schedule"),
    "callbacks": (_class_of(pl.Callback), "a callback"),
    "logger": (_class_of(Logger), "a logger"),
    "loss": (_class_of(nn.Module), "a loss"),
    "data": (_class_of(pl.LightningDataModule), "a data module"),
    "trainer": (_class_of(pl.Trainer), "a trainer"),
    "model": (_is_network, "a network"),
}
"""Group to what its nodes may build."""
OF_TRUSTED = {"model": _builds}
"""What they may build out of a package that the user trusts, where that is more."""


def trusted_packages(setting: Any) -> tuple[str, ...]:
    """The packages that `trust` opens: a name, a list of names, or None.

    Raises:
        RequestError: One is no package's name.
    """
    names = () if setting is None else (setting,) if isinstance(setting, str) else tuple(setting)
    for name in names:
        if not (isinstance(name, str) and name.isidentifier()):
            raise RequestError(
                f"trust={name} is no package's name.",
                key="trust",
                fix="Name the first word of what is refused, such as trust=segmentation_models_pytorch.",
            )
    return names


def check_trusted(
    config: Mapping[str, Any], named: Collection[str] = (), *, source: str, trust: Collection[str] = ()
) -> None:
    """Check every `_target_` of a config that was read from a file.

    Args:
        config: Plain containers.
        named: Names that the command line, or the user's own `conf/`, gave itself.
        source: The file or folder, as messages show it.
        trust: Packages that the user opens beside `PACKAGES`.

    Raises:
        RequestError: A name is of another package, or is not meant for its place; nothing has been called, and no
            module of another package imported.
    """
    packages = (*PACKAGES, *trust)
    for key, node in _nodes(config):
        name = str(node[TARGET])
        if name in named:
            continue
        group, package = key.partition(".")[0], name.partition(".")[0]
        holds, kind = MEANT.get(group, (lambda found: False, "anything"))
        if package in trust:
            holds = OF_TRUSTED.get(group, holds)
        reason, fix = f"which is not meant to build {kind}", f"Drop {key} from the file."
        if not _inside(name, packages):
            reason = f"which is none of the packages {', '.join(packages)}"
            fix = _how_to_trust((*trust, package))
        else:
            found = named_object(node, key)
            if holds(found) and _inside(str(found.__module__), packages):
                continue
        raise RequestError(
            f"{source} names {key}.{TARGET}={name}, {reason}, so it is not called.", key=f"{key}.{TARGET}", fix=fix
        )


def _inside(name: str, packages: Collection[str]) -> bool:
    """Whether a dotted name lies in one of some packages."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _how_to_trust(packages: Sequence[str]) -> str:
    """The command, or the argument of a function, that opens these packages."""
    value = packages[0] if len(packages) == 1 else f"[{','.join(packages)}]"
    if HydraConfig.initialized():
        return f"Where you trust it: {with_setting('trust', value)}"
    return f"Where you trust it, add trust={value}."


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
