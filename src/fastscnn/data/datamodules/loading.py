"""Loaders of batches: which samples, in which order, read by how many threads or processes."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from fastscnn.data.datamodules.sampler import EpochSampler
from fastscnn.data.datamodules.shared_memory import check_shared_memory
from fastscnn.data.datamodules.threads import ThreadLoader
from fastscnn.data.datamodules.worker_errors import Loader
from fastscnn.data.datasets.frame_dataset import FrameDataset, Key
from fastscnn.data.datasets.frames import DataError
from fastscnn.utils.machine import usable_cores
from fastscnn.utils.signals import ignore_in_worker
from fastscnn.utils.values import check_whole

MOST_WORKERS = 8


class EpochData(pl.LightningDataModule):
    """A data module whose order and random numbers depend only on (seed, epoch, index).

    Attributes:
        dataset: Name of the data set.
        root: The folder that holds it.

    Args:
        batch_size: Samples of one optimizer step, over all devices and accumulation steps.
        num_workers: Threads or processes that read, for each loader; `auto` takes the usable cores, shared among the
            devices of this machine, at most 8.
        seed: Of the order and the augmentation.
        devices: Number of devices, as long as no trainer is attached.
        accumulate: Forward passes of one optimizer step, as long as no trainer is attached.
        splits: What a training run reads; empty where nothing is trained.

    Raises:
        DataError: A setting is wrong.
    """

    dataset: str
    root: str | Path | None

    def __init__(
        self,
        batch_size: int,
        num_workers: int | str,
        seed: int,
        devices: int,
        accumulate: int,
        splits: Sequence[str],
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.devices = devices
        self.accumulate = accumulate
        self.splits = tuple(splits)
        self._position = (0, 0)
        check_whole("seed", seed, 0, 2**32 - 1)
        per_device_batch(batch_size, devices, accumulate)
        _worker_count(num_workers, 1)

    def described(self, *splits: str) -> dict[str, Any]:
        """The description of the data for a run's record, with the number of frames of each source in these splits."""
        return {
            "name": self.dataset,
            "root": None if self.root is None else str(self.root),
            "synthetic": self.synthetic,
            "frames": {split: self.source_counts(split) for split in splits},
        }

    @property
    def validates(self) -> bool:
        """Whether there are samples to validate on."""
        return True

    @property
    @abstractmethod
    def synthetic(self) -> bool:
        """Whether the samples are synthetic."""

    def by_threads(self, split: str) -> bool:
        """Whether threads read a split, not worker processes."""
        return False

    @abstractmethod
    def source_counts(self, split: str) -> dict[str, int]:
        """The number of samples of each source in a split."""

    def shuffled(
        self, dataset: Dataset[dict[str, Any]], count: int, workers: int | None = None, *, threads: bool = False
    ) -> DataLoader[dict[str, Any]]:
        """All samples in a new order each epoch; an incomplete global batch at the end is dropped.

        Args:
            dataset: The samples.
            count: How many there are.
            workers: Processes that read, where it is not `num_workers`.
            threads: Whether they are threads.
        """
        rank, world_size, _ = self._place()
        if count < world_size:
            raise DataError(
                f"the train split has {count} frame(s) for {world_size} devices: each needs one.",
                key="trainer.devices",
                fix=f"Set trainer.devices={count}.",
            )
        sampler = EpochSampler(count, self.seed, True, rank, world_size, self.batch_size)
        own_batch = self._own_batch()
        if self.trainer is not None:
            # In a resumed run, Lightning starts the workers before it sets the sampler's epoch.
            sampler.set_epoch(self.trainer.current_epoch)
            epoch, batches = self._position
            sampler.skip(epoch, batches * own_batch)
        return self._loader(dataset, sampler, own_batch, workers, threads=threads)

    def go_on(self, epochs: int, batches: int) -> None:
        """Start where a resumed run was stopped, after so many epochs and so many batches of the next epoch."""
        self._position = (epochs, batches)

    def in_order(
        self, dataset: Dataset[dict[str, Any]], count: int, batch_size: int | None = None, *, threads: bool = False
    ) -> DataLoader[dict[str, Any]]:
        """All samples in their order, each once over all ranks; in training's batches, or of the size that is given."""
        rank, world_size, _ = self._place()
        sampler = EpochSampler(count, self.seed, False, rank, world_size)
        return self._loader(dataset, sampler, batch_size or self._own_batch(), threads=threads)

    def _own_batch(self) -> int:
        _, world_size, accumulate = self._place()
        return per_device_batch(self.batch_size, world_size, accumulate)

    def _planned_batch(self) -> int:
        """As `_own_batch`, before a trainer is attached."""
        return per_device_batch(self.batch_size, self.devices, self.accumulate)

    def _place(self) -> tuple[int, int, int]:
        """Rank, world size and accumulation steps."""
        if self.trainer is None:
            return 0, 1, self.accumulate
        return self.trainer.global_rank, self.trainer.world_size, self.trainer.accumulate_grad_batches

    def check_splits(self) -> None:
        """Check that every device has frames of each split of a training run, and that batches fit in shared memory.

        Raises:
            DataError: A split is too small, shared memory is, or files are missing.
        """
        for split in self.splits:
            count = sum(self.source_counts(split).values())
            if split != "train" and count < self.devices:
                raise DataError(
                    f"trainer.devices={self.devices}, but {split} has {count} frames, and each device needs one.",
                    key="trainer.devices",
                    fix=f"Set trainer.devices={count} or fewer.",
                )
        self.check_shared_memory(*self.splits, training=True)

    def check_shared_memory(self, *splits: str, training: bool = False) -> None:
        """Check that the batches in flight fit into the free shared memory; lists the files for this.

        Args:
            splits: What is read, one after the other.
            training: Whether `train` is read to train on it, not to evaluate it.

        Raises:
            DataError: They do not fit, or files are missing.
        """
        workers = _worker_count(self.num_workers, self.devices)
        for split in splits if workers else ():
            if self.by_threads(split):
                continue
            samples, size = self.batch_of(split, training=training and split == "train")
            count = sum(self.source_counts(split).values())
            check_shared_memory(samples * size, -(-count // (samples * self.devices)), workers, self.devices)

    @abstractmethod
    def batch_of(self, split: str, *, training: bool) -> tuple[int, int]:
        """Samples of one device's batch, and bytes of a sample."""

    def _loader(
        self,
        dataset: Dataset[dict[str, Any]],
        sampler: EpochSampler,
        batch_size: int,
        workers: int | None = None,
        *,
        threads: bool = False,
    ) -> DataLoader[dict[str, Any]]:
        if workers is None:
            workers = _worker_count(self.num_workers, self.trainer.num_devices if self.trainer else self.devices)
        if threads and workers and isinstance(dataset, FrameDataset):
            return ThreadLoader(dataset, workers, batch_size=batch_size, sampler=sampler)
        return Loader(
            dataset,
            dataset.batch if isinstance(dataset, FrameDataset) else partial(_collated, dataset),
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
        )


def _collated(dataset: Any, keys: Sequence[Key]) -> dict[str, Any]:
    """A batch of the samples of a data set that does not make batches itself."""
    batch: dict[str, Any] = default_collate([dataset[key] for key in keys])
    return batch


def per_device_batch(batch_size: int, devices: int, accumulate: int = 1) -> int:
    """Frames of one device's forward pass, from the global batch of one optimizer step.

    Raises:
        RequestError: The batch is none, or does not divide; names the nearest sizes that do.
    """
    check_whole("data.batch_size", batch_size, 1)
    parts = devices * accumulate
    if batch_size % parts:
        nearest = [size for size in (batch_size // parts * parts, -(-batch_size // parts) * parts) if size]
        raise DataError(
            f"data.batch_size={batch_size} is the global batch and does not divide over {devices} device(s) x"
            f" {accumulate} accumulation step(s).",
            key="data.batch_size",
            fix=f"Set data.batch_size={' or '.join(map(str, nearest))}.",
        )
    return batch_size // parts


def _worker_count(num_workers: int | str, devices: int) -> int:
    check_whole("data.num_workers", num_workers, 0, words=("auto",))
    if isinstance(num_workers, str):
        return max(1, min(MOST_WORKERS, usable_cores() // devices))
    return num_workers


def _start_worker(worker_id: int) -> None:
    """Run OpenCV in one thread, because the workers run in parallel, and ignore signals, which the parent handles."""
    cv2.setNumThreads(0)
    ignore_in_worker()
