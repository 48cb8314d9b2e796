"""The cost of a network: parameters and multiply-adds of each part."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class PartCost:
    """Cost of one top-level part of a network.

    Attributes:
        name: Attribute name of the part in the network.
        parameters: Number of all its parameters.
        norm_parameters: Parameters of its BatchNorm layers.
        macs: Multiply-adds of its convolutions for one image.
    """

    name: str
    parameters: int
    norm_parameters: int
    macs: int


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Number of all parameters, and of those that belong to a BatchNorm."""
    norms = (m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return (
        sum(p.numel() for p in module.parameters()),
        sum(p.numel() for norm in norms for p in norm.parameters(recurse=False)),
    )


def network_cost(network: nn.Module, size: tuple[int, int] = (1024, 2048), in_channels: int = 3) -> list[PartCost]:
    """Count parameters and convolution multiply-adds of each part of a network for one [H, W] image.

    The forward pass runs on shapes alone (meta device): no memory and no arithmetic, at any size.
    """
    shadow = deepcopy(network).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        shadow(torch.empty(1, in_channels, *size, device="meta"))
    counts = counter.get_flop_counts()
    return [
        # torch counts two operations a multiply-add.
        PartCost(
            name,
            *count_parameters(part),
            macs=counts.get(f"{type(shadow).__name__}.{name}", {}).get(torch.ops.aten.convolution, 0) // 2,
        )
        for name, part in shadow.named_children()
    ]
