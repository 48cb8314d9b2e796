"""Any LightningDataModule as training data: its batches are given the names and the types of ours."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from fastscnn.data.datamodules.adapted import MODULE, NAME, Adapted, wrong_batch
from fastscnn.data.datamodules.sampler import EachOnce
from fastscnn.data.datasets.class_file import distinct_colors, read_classes
from fastscnn.data.datasets.classes import IGNORE_INDEX, ClassTable
from fastscnn.data.datasets.frames import DataError
from fastscnn.utils.targets import TARGET, build, check_arguments, named_object
from fastscnn.utils.values import check_whole

SPLITS = {"train": "fit", "val": "fit", "test": "test"}
"""Split to the stage that sets it up."""


class ExternalData(pl.LightningDataModule):
    """A data module of a library or of a user's own, with the interface of ours.

    Args:
        module: It; built already.
        classes: What its labels mean.
        ignored: Label of pixels that are left out.
        statistics: As `Adapted` takes them.
        devices: Devices that share the frames.
        accumulate: Accumulation steps; the batches of as many on all devices make one optimizer step.

    Raises:
        DataError: In `setup`, it has no training batches, or they are not what they must be.
    """

    dataset = NAME
    root = None
    synthetic = False

    def __init__(
        self,
        module: pl.LightningDataModule,
        classes: ClassTable,
        ignored: int = IGNORE_INDEX,
        statistics: tuple[Sequence[float], Sequence[float]] | None = None,
        devices: int = 1,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.module = module
        self.classes = classes
        self._ignored, self._statistics, self._devices, self._accumulate = ignored, statistics, devices, accumulate
        self._was_set_up: set[str] = set()

    def prepare_data(self) -> None:
        """As the module does, once."""
        if "prepare" not in self._was_set_up:
            self._was_set_up.add("prepare")
            self.module.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """As the module does, once for each stage; the first training batch is looked at."""
        stage = {None: "fit", "validate": "fit"}.get(stage, stage)
        if stage not in self._was_set_up:
            self._was_set_up.add(str(stage))
            self.module.trainer = self.trainer
            self.module.setup(str(stage))
            if stage == "fit":
                _ = self._first_images
                self._check_validation()

    def teardown(self, stage: str) -> None:
        """As the module does."""
        self.module.teardown(stage)

    @cached_property
    def validates(self) -> bool:
        """Whether it has a validation."""
        return self._has("val_dataloader")

    @property
    def batch_size(self) -> int:
        """Frames of one optimizer step, as the first batch has them."""
        return len(self._first_images) * self._devices * self._accumulate

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width of the frames in the first training batch."""
        height, width = self._first_images.shape[-2:]
        return height, width

    def frames(self, split: str) -> range:
        """A place for each frame of a split; none where the module does not say how many there are."""
        loader = self._loader(split)
        try:
            return range(len(loader.dataset))  # type: ignore[arg-type]
        except TypeError:
            return range(0)

    def source_counts(self, split: str) -> dict[str, int]:
        """The number of frames in a split."""
        return {NAME: len(self.frames(split))}

    def described(self, *splits: str) -> dict[str, Any]:
        """The description of the data for a run's record."""
        named = f"{type(self.module).__module__}.{type(self.module).__qualname__}"
        used = [split for split in splits if split != "val" or self.validates]
        counts = {split: self.source_counts(split) for split in used}
        return {"name": NAME, "module": named, "root": None, "synthetic": False, "frames": counts}

    def train_dataloader(self) -> DataLoader[Any]:
        """Its training batches."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Its validation batches."""
        return self._loader("val") if self.validates else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Its test batches."""
        return self._loader("test")

    def whole_frames(self, split: str) -> DataLoader[Any]:
        """The batches of a split, for an evaluation."""
        self.setup(SPLITS[split])
        return self._loader(split)

    def check_labels(self, split: str, fix: str) -> None:
        """Check that the first batch of a split has labels.

        Raises:
            DataError: It has none; says how to go on.
        """
        if "label" not in next(iter(self.whole_frames(split)), {"label": None}):
            raise DataError(f"{MODULE} gives no labels of {split}.", key=MODULE, fix=fix)

    def _has(self, method: str) -> bool:
        return getattr(type(self.module), method) is not getattr(pl.LightningDataModule, method)

    def _loader(self, split: str) -> DataLoader[Any]:
        method = f"{split}_dataloader"
        if not self._has(method):
            raise wrong_batch(f"has no {method}", "Write one, or choose another split.")
        self.module.trainer = self.trainer
        loader = getattr(self.module, method)()
        loader = loader[0] if isinstance(loader, list) and len(loader) == 1 else loader
        if not isinstance(loader, DataLoader):
            raise wrong_batch(f"gives {type(loader).__name__} as {method}", "Give one torch.utils.data.DataLoader.")
        if not isinstance(loader.collate_fn, Adapted):
            count = self.classes.num_classes
            loader.collate_fn = Adapted(loader.collate_fn, split, count, self._ignored, self._statistics)
        return loader if split == "train" or self.trainer is None else _each_once(loader, self.trainer)

    def _check_validation(self) -> None:
        """Check that each device has a frame of the validation, without which it would leave the others waiting."""
        count = len(self.frames("val")) if self.validates else 0
        if 0 < count < self._devices:
            problem = f"trainer.devices={self._devices}, but val has {count} frames, and each device needs one."
            raise DataError(problem, key="trainer.devices", fix=f"Set trainer.devices={count} or fewer.")

    @cached_property
    def _first_images(self) -> Tensor:
        loader = self._loader("train")
        try:
            len(loader)
        except TypeError:
            fix = "Give its data set a __len__: the learning rate falls over the whole run."
            raise wrong_batch("does not say how many training batches it has", fix) from None
        if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
            batch = next(iter(loader), None)
        else:  # without its workers, whose errors come with their traceback as text
            places = next(iter(loader.batch_sampler), None)
            batch = places and loader.collate_fn([loader.dataset[place] for place in places])
        if batch is None or "label" not in batch:
            raise wrong_batch("gives no training batch with images and labels", "Give batches (images, labels).")
        images: Tensor = batch["image"]
        return images


def build_external(data: Mapping[str, Any], *, devices: int = 1, accumulate: int = 1) -> ExternalData:
    """Build the data module of a `data` config whose class is the user's.

    Raises:
        DataError: A setting is wrong.
        RequestError: The class cannot be imported or built, or does not take an argument.
    """
    node = data["module"]
    kind = named_object(node, MODULE)
    if not (isinstance(kind, type) and issubclass(kind, pl.LightningDataModule)):
        raise DataError(
            f"{MODULE}.{TARGET}={node[TARGET]} is no pytorch_lightning.LightningDataModule.",
            key=f"{MODULE}.{TARGET}",
            fix="Name a class that is one.",
        )
    check_arguments(node, MODULE, kind)
    ignored = IGNORE_INDEX if data.get("ignored") is None else data["ignored"]
    check_whole("data.ignored", ignored, -(2**31))
    given = (data.get("mean"), data.get("std"))
    if any(value is not None and not _three(value) for value in given) or (given[0] is None) != (given[1] is None):
        raise DataError(
            f"data.mean={given[0]} and data.std={given[1]} are not three numbers each.",
            key="data.mean" if given[0] is None or not _three(given[0]) else "data.std",
            fix="Set both, such as data.mean=[0.485,0.456,0.406] data.std=[0.229,0.224,0.225], or neither.",
        )
    module: pl.LightningDataModule = build(node, MODULE)
    statistics: Any = None if given[0] is None else given
    return ExternalData(module, _classes(data.get("classes"), module), ignored, statistics, devices, accumulate)


def _each_once(loader: DataLoader[Any], trainer: pl.Trainer) -> DataLoader[Any]:
    """A loader that shares the frames of an evaluation among the devices, none of them twice.

    What has batches or a share of its own already stays as it is.
    """
    own = loader.batch_size is None or isinstance(loader.sampler, DistributedSampler)
    if trainer.world_size == 1 or own or isinstance(loader.dataset, IterableDataset):
        return loader
    return DataLoader(
        loader.dataset,
        loader.batch_size,
        sampler=EachOnce(loader.sampler, trainer.global_rank, trainer.world_size),
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _classes(given: Any, module: pl.LightningDataModule) -> ClassTable:
    title = type(module).__name__
    if isinstance(given, str):
        return read_classes(Path(given).expanduser(), title, "python src/check_data.py").table
    names = getattr(module, "classes", None) if given is None else given
    if not isinstance(names, list | tuple) or not names or len({*names}) < len(names):
        raise DataError(
            f"data.classes={given} does not name the classes.",
            key="data.classes",
            fix="Set data.classes=[road,car,...], in the order of the labels.",
        )
    count = len(names)
    return ClassTable(
        title, tuple(map(str, names)), tuple(distinct_colors(count)), tuple(range(count)), (IGNORE_INDEX,)
    )


def _three(values: Any) -> bool:
    return isinstance(values, list | tuple) and len(values) == 3 and all(isinstance(one, int | float) for one in values)
