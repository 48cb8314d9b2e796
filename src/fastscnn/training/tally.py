"""Counts over all devices that a run which goes on counts on."""

from collections import Counter
from collections.abc import Iterable, Mapping

import pytorch_lightning as pl
import torch


class Tally:
    """Whole numbers by name, added up on each device, and over all of them now and then.

    Attributes:
        total: Name to the sum over all devices, as of the last `gather`; the same on all of them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.total = dict.fromkeys(names, 0)
        self._own: Counter[str] = Counter()

    def add(self, counts: Iterable[str] | Mapping[str, int]) -> None:
        """Count on this device."""
        self._own.update(counts)

    def gather(self, trainer: pl.Trainer) -> dict[str, int]:
        """Add up the devices, all of which must call it; returns the totals."""
        own = torch.tensor([self._own[name] for name in self.total], device=trainer.strategy.root_device)
        added = trainer.strategy.reduce(own, reduce_op="sum")
        assert isinstance(added, torch.Tensor)
        self.total = {name: count + int(new) for (name, count), new in zip(self.total.items(), added, strict=True)}
        self._own.clear()
        return dict(self.total)

    def reset(self) -> None:
        """Begin at zero."""
        self.total = dict.fromkeys(self.total, 0)
        self._own.clear()
