"""The order in which frames are read."""

from collections.abc import Iterable, Iterator

import numpy as np
from torch.utils.data import DistributedSampler, Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Gives (epoch, index) pairs in an order that depends only on (seed, epoch).

    Each rank takes every `world_size`-th frame of the one global order: ranks with a batch of B / world_size
    see, together, the same batches as one device with a batch of B.

    With `shuffle`, every rank gets the same number of frames and none is repeated: the tail of the order that
    fills no global batch of `batch_size` (a multiple of `world_size`) is left out, a different tail in each
    epoch. With fewer frames than one batch, or no `batch_size`, only what the ranks cannot share is left out.
    Without `shuffle`, every frame is given exactly once over all ranks, whose counts may differ by one.

    Lightning calls `set_epoch` before each epoch. A run that goes on within an epoch calls `skip` too: the frames that
    were seen are left out without being read.
    """

    def __init__(
        self,
        num_frames: int,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int | None = None,
    ) -> None:
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._skipped = (0, 0)
        self.num_frames = num_frames
        multiple = batch_size if batch_size and num_frames >= batch_size else world_size
        self.num_used = num_frames - num_frames % multiple if shuffle else num_frames

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def skip(self, epoch: int, frames: int) -> None:
        """Leave out the first frames of this rank in one epoch; other epochs and the length do not change."""
        self._skipped = (epoch, frames)

    def __len__(self) -> int:
        return len(range(self.rank, self.num_used, self.world_size))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.num_frames)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_frames)
        epoch, seen = self._skipped
        own = order[self.rank : self.num_used : self.world_size]
        for index in own[seen if epoch == self.epoch else 0 :].tolist():
            yield self.epoch, index


class EachOnce(DistributedSampler[int]):
    """Shares what another sampler gives among the ranks, each place once; their counts may differ by one.

    Lightning leaves it in its place: its own distributed sampler repeats places until the ranks have equally many.
    """

    def __init__(self, sampler: Iterable[int], rank: int, world_size: int) -> None:
        self.places = sorted(sampler)[rank::world_size]  # sorted: ranks may shuffle differently
        super().__init__(self.places, num_replicas=world_size, rank=rank, shuffle=False)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[int]:
        return iter(self.places)
