"""The optimizer: its class, which parameters decay, and how their step is computed."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer

from fastscnn.utils.errors import RequestError
from fastscnn.utils.targets import TARGET, build, check_arguments, named_object
from fastscnn.utils.values import check_choice, check_number

VALUES: dict[str, Callable[[str, Any], None]] = {
    "lr": partial(check_number, above=0),
    "momentum": partial(check_number, minimum=0, below=1),
    "weight_decay": partial(check_number, minimum=0),
    "fused": partial(check_choice, options=("auto", True, False, None)),
}
"""What arguments that many optimizers have must be; an optimizer checks its others itself."""


def decay_groups(module: nn.Module, weight_decay: float | None) -> list[dict[str, Any]]:
    """Split the parameters into those with L2 regularization and those without (section 3.1).

    The weights of convolutions that are not depthwise, and of linear layers, decay; depthwise convolutions,
    BatchNorm and biases do not.

    Args:
        module: Whose parameters.
        weight_decay: Of those that decay; None leaves it to the optimizer's class.

    Returns:
        Two parameter groups for an optimizer, with their parameters' names under `names`.
    """
    decayed: dict[str, nn.Parameter] = {}
    plain: dict[str, nn.Parameter] = {}
    for prefix, layer in module.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
            dense = isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and not depthwise
            decays = dense and name == "weight"
            (decayed if decays else plain)[f"{prefix}.{name}" if prefix else name] = parameter
    return [
        {"params": list(group.values()), "names": list(group)} | ({} if decay is None else {"weight_decay": decay})
        for group, decay in ((decayed, weight_decay), (plain, 0.0))
    ]


def build_optimizer(
    module: nn.Module, settings: Mapping[str, Any], device: torch.device, *, clips: bool = False
) -> Optimizer:
    """Build the optimizer of an `optimizer` config, whose class is torch's or any other.

    Args:
        module: Whose parameters to train; those that `decay_groups` leaves out have no weight decay with any class.
        settings: `_target_` and the arguments of the class; `fused: auto` is decided by `choose_fused`.
        device: Where the parameters are.
        clips: Whether gradients are clipped.

    Raises:
        RequestError: The class cannot be imported, is no optimizer, or does not take an argument.
    """
    check_optimizer(settings)
    settings = dict(settings)
    if settings.get("fused") == "auto":
        settings["fused"] = choose_fused("auto", device, clips=clips)
    optimizer: Optimizer = build(settings, "optimizer", decay_groups(module, settings.get("weight_decay")))
    return optimizer


def check_optimizer(settings: Mapping[str, Any]) -> None:
    """Check the `optimizer` config: its class, that the class takes each argument, and the values of common ones.

    Raises:
        RequestError: Names the setting and the fix.
    """
    target = named_object(settings, "optimizer")
    if not (isinstance(target, type) and issubclass(target, Optimizer)):
        raise RequestError(
            f"optimizer._target_={settings[TARGET]} is no torch.optim.Optimizer.",
            key="optimizer._target_",
            fix="Name a class that is one, such as torch.optim.AdamW.",
        )
    check_arguments(settings, "optimizer", target)
    for name, check in VALUES.items():
        if name in settings:
            check(f"optimizer.{name}", settings[name])


def choose_fused(setting: bool | str, device: torch.device, *, clips: bool) -> bool | None:
    """What an optimizer of torch takes for `optimizer.fused`.

    `auto` is true on a CPU. On a GPU it is torch's own choice, a kernel for each of a few operations over all tensors:
    the fused one refuses gradients whose strides differ from their weights', as those of 1x1 and depthwise
    convolutions do in channels_last (https://github.com/pytorch/pytorch/issues/106951). Nor does Lightning clip
    gradients beside it at mixed precision.
    """
    if setting != "auto":
        return bool(setting)
    return True if device.type == "cpu" and not clips else None


def same_layout(optimizer: Optimizer) -> None:
    """Lay what the optimizer keeps of each parameter out as the parameter, which fused kernels take for granted.

    They differ where a checkpoint comes from a run with another `trainer.channels_last`.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def total_steps(trainer: pl.Trainer) -> int:
    """Optimizer steps of the whole run, which the schedule counts by.

    Lightning's `estimated_stepping_batches` starts the workers of the train loader, before a resumed run knows its
    epoch: what they read ahead would be of epoch 0.
    """
    datamodule: Any = getattr(trainer, "datamodule", None)
    if datamodule is None or trainer.max_epochs in (None, -1):
        return int(trainer.estimated_stepping_batches)
    batches, limit = len(datamodule.train_dataloader()), trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    steps = math.ceil(batches / trainer.accumulate_grad_batches) * max(trainer.max_epochs or 1, 1)
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
