"""Which parameters decay, how their step is computed, and how the learning rate falls."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the parameters into those with L2 regularization and those without (section 3.1).

    The weights of convolutions that are not depthwise, and of linear layers, decay; depthwise convolutions,
    BatchNorm and biases do not.

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
        {"params": list(group.values()), "names": list(group), "weight_decay": decay}
        for group, decay in ((decayed, weight_decay), (plain, 0.0))
    ]


def sgd(
    module: nn.Module,
    *,
    lr: float = 0.045,
    momentum: float = 0.9,
    weight_decay: float = 4e-5,
    fused: bool | None = None,
) -> Optimizer:
    """Stochastic gradient descent with the paper's momentum and L2 regularization.

    Args:
        module: Whose parameters to train.
        lr: Learning rate.
        momentum: Share of the last step that is kept.
        weight_decay: Of the parameters that decay.
        fused: One kernel for all tensors, or torch's own choice.
    """
    return SGD(decay_groups(module, weight_decay), lr=lr, momentum=momentum, fused=fused)


def choose_fused(setting: bool | str, device: torch.device, *, clips: bool) -> bool | None:
    """What `sgd` takes for `optimizer.fused`.

    `auto` is true on a CPU. On a GPU it is torch's own choice, a kernel for each of a few operations over all tensors:
    the fused one refuses gradients whose strides differ from their weights', as those of 1x1 and depthwise
    convolutions do in channels_last (https://github.com/pytorch/pytorch/issues/106951). Nor does Lightning clip
    gradients beside it at mixed precision.
    """
    if setting != "auto":
        return bool(setting)
    return True if device.type == "cpu" and not clips else None


def same_layout(optimizer: Optimizer) -> None:
    """Lay each momentum out as its parameter, which the fused kernel takes for granted.

    They differ where a checkpoint comes from a run with another `trainer.channels_last`.
    """
    for parameter, state in optimizer.state.items():
        momentum = state.get("momentum_buffer")
        if momentum is not None and momentum.stride() != parameter.stride():
            state["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)


def poly(optimizer: Optimizer, total_steps: int, power: float = 0.9) -> LambdaLR:
    """The 'poly' schedule, a step at a time: `lr * (1 - step / total_steps) ** power`, 0 at the end."""

    def factor(step: int) -> float:
        return float(max(0.0, 1 - step / max(1, total_steps)) ** power)

    return LambdaLR(optimizer, factor)


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
