"""Which parameters decay, and how the learning rate falls."""

from typing import Any

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


def sgd(module: nn.Module, *, lr: float = 0.045, momentum: float = 0.9, weight_decay: float = 4e-5) -> Optimizer:
    """Stochastic gradient descent with the paper's momentum and L2 regularization."""
    return SGD(decay_groups(module, weight_decay), lr=lr, momentum=momentum)


def poly(optimizer: Optimizer, total_steps: int, power: float = 0.9) -> LambdaLR:
    """The 'poly' schedule, a step at a time: `lr * (1 - step / total_steps) ** power`, 0 at the end."""

    def factor(step: int) -> float:
        return float(max(0.0, 1 - step / max(1, total_steps)) ** power)

    return LambdaLR(optimizer, factor)
