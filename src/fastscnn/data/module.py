"""The LightningDataModule: which frames, in which batches, read by how many processes."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from fastscnn.data.augment import no_augment
from fastscnn.data.classes import ClassTable
from fastscnn.data.frames import Augment, DataError, Frame, FrameDataset
from fastscnn.data.sampler import EpochSampler
from fastscnn.data.sources import generate_streets, source_of, streets_root, streets_spec
from fastscnn.data.streets import MANIFEST

MOST_WORKERS = 8


def per_device_batch(batch_size: int, devices: int, accumulate: int = 1) -> int:
    """Frames of one device's forward pass, from the global batch of one optimizer step.

    Raises:
        DataError: The batch does not divide; names the nearest sizes that do.
    """
    if batch_size < 1:
        raise DataError(f"data.batch_size={batch_size} is no batch: use 1 or more.")
    parts = devices * accumulate
    if batch_size % parts:
        nearest = [size for size in (batch_size // parts * parts, -(-batch_size // parts) * parts) if size]
        raise DataError(
            f"data.batch_size={batch_size} is the global batch and does not divide over {devices} device(s) x"
            f" {accumulate} accumulation step(s). Set data.batch_size={' or '.join(map(str, nearest))}."
        )
    return batch_size // parts


class SegmentationData(pl.LightningDataModule):
    """Train, val and test batches of a data set.

    A batch holds `image` (uint8 [B, 3, H, W], RGB), `label` (uint8 [B, H, W], train ids, 255 ignored),
    `index` (int64 [B]), `name` and `source` (lists of str). Val and test frames come one at a time and whole.

    Args:
        dataset: A name of `sources.DATASETS`.
        root: The folder that holds the data set; None with `streets` generates them below `data/streets/`.
        crop_size: Height and width of a training frame.
        batch_size: Frames of one optimizer step, over all devices and accumulation steps.
        num_workers: Processes that read frames, for each loader; `auto` takes the usable cores, shared among
            the devices of this machine, at most 8.
        augment: From (image, label, seed) to a training frame; None pads and crops at the centre.
        seed: Of the order and the augmentation.
        streets: Fields of `StreetsSpec` that differ from its defaults; the data set is then these streets, read as
            `fine` or `fine_coarse` too.
        devices: Number of devices, as long as no trainer is attached.
        accumulate: Forward passes of one optimizer step, as long as no trainer is attached.

    Raises:
        DataError: A setting is wrong; in `setup`, files are missing.
    """

    def __init__(
        self,
        *,
        dataset: str,
        root: str | Path | None,
        crop_size: Sequence[int],
        batch_size: int = 12,
        num_workers: int | str = "auto",
        augment: Augment | None = None,
        seed: int = 0,
        streets: Mapping[str, Any] | None = None,
        devices: int = 1,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.source = source_of(dataset)
        self.dataset = dataset
        self.streets = streets_spec(streets or {}) if streets or dataset == "streets" else None
        self.root = streets_root(self.streets) if self.streets and root is None else root
        self.crop_size = (crop_size[0], crop_size[1])
        self.augment = augment or no_augment(crop_size)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.devices = devices
        self.accumulate = accumulate
        self._frames: dict[str, list[Frame]] = {}
        per_device_batch(batch_size, devices, accumulate)
        worker_count(num_workers, 1)

    @property
    def classes(self) -> ClassTable:
        """The classes, known without touching the disk."""
        return self.source.classes

    def prepare_data(self) -> None:
        """Generate the streets where they are not there yet."""
        if self.streets is not None and self.root is not None:
            generate_streets(Path(self.root), self.streets)

    def setup(self, stage: str | None = None) -> None:
        """Find the files of the stage's splits, so that a missing one is told before anything starts."""
        splits = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        for split in splits.get(stage or "fit", ()):
            self.frames(split)

    def frames(self, split: str) -> list[Frame]:
        """Frames of a split, sorted by name."""
        if split not in self._frames:
            self._frames[split] = self.source.frames(self.root, split)
        return self._frames[split]

    def source_counts(self, split: str) -> dict[str, int]:
        """How many frames of a split come from each source, such as `fine` and `coarse`."""
        return dict(Counter(frame.source for frame in self.frames(split)))

    @property
    def synthetic(self) -> bool:
        """Whether the frames are generated streets, under whatever option they are read."""
        return self.root is not None and (Path(self.root) / MANIFEST).exists()

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Augmented frames in a new order each epoch; the tail that fills no global batch is left out."""
        frames = self.frames("train")
        rank, world_size, accumulate = self._place()
        batch_size = per_device_batch(self.batch_size, world_size, accumulate)
        if len(frames) < world_size:
            raise DataError(
                f"the train split has {len(frames)} frame(s) for {world_size} devices: each needs one."
                f" Set trainer.devices={len(frames)}."
            )
        dataset = FrameDataset(frames, self.classes, self.augment, self.seed)
        sampler = EpochSampler(len(frames), self.seed, True, rank, world_size, self.batch_size)
        if self.trainer is not None:
            # Lightning starts the workers of a resumed run before it tells the sampler the epoch.
            sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return self._loader(dataset, sampler, batch_size)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Whole frames of `val`, each once over all ranks."""
        return self.whole_frames("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Whole frames of `test`, each once over all ranks."""
        return self.whole_frames("test")

    def whole_frames(self, split: str) -> DataLoader[dict[str, Any]]:
        """Frames of any split as they are, one at a time, each once over all ranks."""
        frames = self.frames(split)
        rank, world_size, _ = self._place()
        sampler = EpochSampler(len(frames), self.seed, False, rank, world_size)
        return self._loader(FrameDataset(frames, self.classes), sampler, 1)

    def _place(self) -> tuple[int, int, int]:
        """Rank, world size and accumulation steps."""
        if self.trainer is None:
            return 0, 1, self.accumulate
        return self.trainer.global_rank, self.trainer.world_size, self.trainer.accumulate_grad_batches

    def _loader(self, dataset: FrameDataset, sampler: EpochSampler, batch_size: int) -> DataLoader[dict[str, Any]]:
        workers = worker_count(self.num_workers, self.trainer.num_devices if self.trainer else self.devices)
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=start_worker,
        )


def worker_count(num_workers: int | str, devices: int) -> int:
    """Processes that read for one device; `auto` shares the usable cores among the devices, at most 8 for each.

    Raises:
        DataError: It is neither `auto` nor 0 or more.
    """
    if num_workers == "auto":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(MOST_WORKERS, cores // devices))
    if not isinstance(num_workers, int) or num_workers < 0:
        raise DataError(f"data.num_workers={num_workers} is no number of processes: use auto, 0 or more.")
    return num_workers


def start_worker(worker_id: int) -> None:
    """Keep OpenCV to the worker's own thread: the workers are the parallelism."""
    cv2.setNumThreads(0)
