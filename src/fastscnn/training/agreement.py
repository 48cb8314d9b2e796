"""What all devices of a run do at the same step, such as stopping by a signal that one of them received."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


class Agreement:
    """The highest of each device's numbers, the same on all of them.

    With several devices the sum is under way while a step computes: what one says now, all know the next time they
    ask. All of them must ask equally often.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._under_way: tuple[Any, torch.Tensor] | None = None

    def ask(self, numbers: Sequence[int]) -> list[int]:
        """Give this device's numbers; returns what was agreed on, zeros the first time."""
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
        """The lowest of all devices' numbers."""
        if not self._several():
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MIN, group=self._group)
        return int(value)

    def _several(self) -> bool:
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return False
        if self._group is None:
            self._group = dist.new_group(backend="gloo")  # of the CPU's, so that no device is waited for
        return True
