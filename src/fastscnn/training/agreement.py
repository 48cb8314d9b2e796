"""Decisions that all devices of a run make at the same step, such as stopping because one received a signal."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


class Agreement:
    """The maximum of the devices' numbers, the same on all of them.

    With several devices the reduction runs while a step computes: a number given now is part of the answer to the next
    call. All devices must call equally often.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._under_way: tuple[Any, torch.Tensor] | None = None

    def ask(self, numbers: Sequence[int]) -> list[int]:
        """Give this device's numbers; returns the maxima of the previous call's numbers, zeros at the first call."""
        if not self._several():
            return list(numbers)
        agreed = [0] * len(numbers)
        if self._under_way:
            work, values = self._under_way
            work.wait()
            agreed = values.tolist()
        values = torch.tensor(numbers)
        work = dist.all_reduce(values, dist.ReduceOp.MAX, group=self._group, async_op=True)
        self._under_way = (work, values)
        return agreed

    def lowest(self, number: int) -> int:
        """The minimum of all devices' numbers."""
        if not self._several():
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MIN, group=self._group)
        return int(value)

    def _several(self) -> bool:
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return False
        if self._group is None:
            self._group = dist.new_group(backend="gloo")  # a group on the CPU, so that no call waits for a GPU
        return True
