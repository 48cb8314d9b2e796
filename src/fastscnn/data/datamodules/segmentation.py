"""The LightningDataModule: which frames, in which batches, read by whom."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from fastscnn.data.datamodules.loading import EpochData
from fastscnn.data.datamodules.resident import ResidentFrames, is_uncut, why_not_resident
from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.datasets.frame_dataset import FrameDataset
from fastscnn.data.datasets.frames import STRICT, Augment, DataError, Frame, Read, Reading, read_frame, read_label_of
from fastscnn.data.datasets.sources import Source, generate_streets, source_of, streets_root, streets_spec
from fastscnn.data.datasets.splits import chosen_frames, drive_of
from fastscnn.data.store.class_pixels import ClassPixels, class_pixels
from fastscnn.data.store.store import AUTO, DecodedStore, StoreUnusable, store_parent
from fastscnn.data.store.stored_frames import StoredFrames
from fastscnn.data.transforms.augment import no_augment
from fastscnn.data.transforms.strong import RareClasses
from fastscnn.streets.writer import MANIFEST
from fastscnn.utils.progress import say
from fastscnn.utils.values import check_choice, check_size

FULL = "full"
"""The crop size that is the size of the first training frame."""


class SegmentationData(EpochData):
    """Train, val and test batches of a data set.

    A batch holds `image` (uint8 [B, 3, H, W], RGB), `label` (uint8 [B, H, W], train ids, 255 ignored),
    `index` (int64 [B]), `name` and `source` (lists of str). Val and test frames come one at a time and whole.

    Args:
        dataset: A name of `sources.DATASETS`; or any name, with its `source`.
        root: The folder that holds the data set; None with `streets` generates them below `data/streets/`.
        crop_size: Height and width of a training frame; `full` takes those of the first one.
        batch_size: Frames of one optimizer step, over all devices and accumulation steps.
        num_workers: Threads or processes that read frames, for each loader; `auto` takes the usable cores, shared among
            the devices of this machine, at most 8.
        augment: Gives, for the crop size, what turns (image, label, seed) into a training frame, such as
            `PaperAugment`.
        seed: Of the order and the augmentation.
        streets: Fields of `StreetsSpec` that differ from its defaults; the data set is then these streets, read as
            `fine` or `fine_coarse` too.
        devices: Number of devices, as long as no trainer is attached.
        accumulate: Forward passes of one optimizer step, as long as no trainer is attached.
        splits: What a training run reads: `prepare_data` checks these splits, and decodes them into the store. Empty
            where nothing is trained.
        store: Where the frames are kept decoded: `auto` (`data/store/`, unless its disk is too small), `off`, or a
            folder. A split that is there as its files are now is read from there, whoever decoded it.
        reading: What becomes of EXIF orientations, and the largest picture that is decoded.
        device: Where the training frames lie: `cpu`, `gpu`, or `auto`, which is the GPU of a trainer that has one where
            the store's frames take at most half of its free memory. The pixels are the same to a rounding of one level.
        loader: What reads: `threads` or `processes`; `auto` takes threads where the frames come from the store, whose
            reading leaves the interpreter to others. The pixels are the same.
        train_splits: Own splits of the data set that are joined to train on; without `val` left, nothing is validated.
        held_out: A drive or city that is validated on, and left out of the train and val that are trained on.
        source: Its classes and frames; None for those of the name.

    Raises:
        DataError: A setting is wrong; in `prepare_data` and `setup`, files are missing; in `prepare_data`, the files do
            not suffice for what is set, a frame cannot be decoded, or the folder of the store cannot hold it.
    """

    def __init__(
        self,
        *,
        dataset: str,
        root: str | Path | None,
        crop_size: Sequence[int] | str,
        batch_size: int = 12,
        num_workers: int | str = "auto",
        augment: Callable[[Sequence[int]], Augment] = no_augment,
        seed: int = 0,
        streets: Mapping[str, Any] | None = None,
        devices: int = 1,
        accumulate: int = 1,
        splits: Sequence[str] = ("train", "val"),
        store: str | Path | bool = "off",
        reading: Reading = STRICT,
        device: str = "auto",
        loader: str = "auto",
        train_splits: Sequence[str] = ("train",),
        held_out: object = None,
        source: Source | None = None,
    ) -> None:
        check_choice("data.train_splits", list(train_splits), (["train"], ["val"], ["train", "val"], ["val", "train"]))
        self.train_splits = tuple(train_splits)
        self.held_out = held_out
        used = [split for split in splits if split != "val" or self.validates]
        super().__init__(batch_size, num_workers, seed, devices, accumulate, used)
        self.source = source or source_of(dataset)
        self.dataset = dataset
        self.streets = streets_spec(streets or {}) if streets or dataset == "streets" else None
        self.root = streets_root(self.streets) if self.streets and root is None else root
        check_size("data.crop_size", crop_size, words=(FULL,))
        check_choice("data.device", device, ("auto", "cpu", "gpu"))
        check_choice("data.loader", loader, ("auto", "threads", "processes"))
        self._crop = None if isinstance(crop_size, str) else (crop_size[0], crop_size[1])
        self._make_augment = augment
        self.store = store
        self._store_parent = store_parent(store)
        self.reading = reading
        self.device = device
        self.loader = loader
        self._resident: ResidentFrames | None = None
        self._said: set[str] = set()
        self._frames: dict[str, list[Frame]] = {}
        self._readers: dict[str, StoredFrames | None] = {}
        self._prepared = False

    @property
    def classes(self) -> ClassTable:
        """The classes, known without touching the disk."""
        return self.source.classes

    @cached_property
    def crop_size(self) -> tuple[int, int]:
        """Height and width of a training frame; lists the training frames where it is theirs."""
        return self._crop or self.reading.size(self.frames("train")[0].image)

    @cached_property
    def augment(self) -> Augment:
        """From (image, label, seed) to a training frame."""
        return self._make_augment(self.crop_size)

    def prepare_data(self) -> None:
        """Generate the streets if they do not exist yet; for a training, check the files and decode them."""
        if self._prepared:
            return
        if self.streets is not None and self.root is not None:
            generate_streets(Path(self.root), self.streets)
        self.check_splits()
        store = self._store
        if store is not None and self.splits:
            try:
                store.build([frame for split in self.splits for frame in self.frames(split)])
            except StoreUnusable as error:
                if store.folder.parent != AUTO:
                    raise DataError(
                        f"data.store={self.store}: {error}.",
                        key="data.store",
                        fix="Set data.store=DIR to a folder with room, or data.store=off to read the files themselves.",
                    ) from None
                advice = "the files are read instead, which is slower; data.store=DIR names a folder with room"
                print(f"{error}: {advice}", flush=True)
                self._prepared = True
                self.check_shared_memory(*self.splits, training=True)  # processes read, where threads would have
        self._prepared = True

    def setup(self, stage: str | None = None) -> None:
        """List the files of the stage's splits, so that a missing one is found before anything starts."""
        splits = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        for split in splits.get(stage or "fit", ()):
            self.frames(split)

    def frames(self, split: str) -> list[Frame]:
        """Frames of a split as it is used here, see `chosen_frames`; those of each own split are sorted by name.

        Streets must have been generated by `prepare_data`.
        """
        if split not in self._frames:
            own = partial(self.source.frames, self.root)
            self._frames[split] = chosen_frames(split, own, self.train_splits, self.held_out)
        return self._frames[split]

    @property
    def validates(self) -> bool:
        """Whether there are frames to validate on."""
        return self.held_out is not None or "val" not in self.train_splits

    def described(self, *splits: str) -> dict[str, Any]:
        """The description of the data; `store` is the folder that frames of these splits are read from, or None."""
        folders = [str(reader.folder) for split in splits if (reader := self._reader(split))]
        chosen: dict[str, Any] = {} if self.train_splits == ("train",) else {"train_splits": list(self.train_splits)}
        chosen |= {} if self.held_out is None else {"held_out": drive_of(self.frames("val")[0])}
        chosen |= {"root": str(Path(self.root).resolve())} if self.source.drawn and self.root else {}
        return {**super().described(*splits), **chosen, "store": folders[0] if folders else None}

    def check_labels(self, split: str, fix: str) -> None:
        """Check that every frame of a split has a label file.

        Raises:
            DataError: One has none; names it, and says how to go on.
        """
        unlabelled = [frame.name for frame in self.frames(split) if frame.label is None]
        if unlabelled:
            count = f"{len(unlabelled)} frames have none"
            problem = f"{self.dataset} {split} has no label for {unlabelled[0]} ({count})."
            raise DataError(problem, key="data.root", fix=fix)

    def check_splits(self) -> None:
        """Check as for any data set, and that the test split has labels if the training ends with a test."""
        if "test" in self.splits:
            self.check_labels("test", "Set data.evaluate_test=false.")
        super().check_splits()

    def source_counts(self, split: str) -> dict[str, int]:
        """The number of frames of each source in a split, such as `fine` and `coarse`."""
        return dict(Counter(frame.source for frame in self.frames(split)))

    @property
    def synthetic(self) -> bool:
        """Whether the frames are generated streets, with any data option."""
        return self.root is not None and (Path(self.root) / MANIFEST).exists()

    @cached_property
    def class_pixels(self) -> ClassPixels:
        """What the frames that are trained on show of each class; counted once where there is a store.

        Raises:
            DataError: A frame has no label, or its label file is missing or broken.
        """
        self.check_labels("train", "Label it, or remove it.")
        frames, reader, number = self.frames("train"), self._reader("train"), self.classes.num_classes
        if reader is None:
            return class_pixels(frames, number, partial(read_label_of, classes=self.classes, reading=self.reading))
        return class_pixels(frames, number, reader.label, {frame: reader.key(frame) for frame in frames}, reader.folder)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Augmented frames in a new order each epoch; the tail that fills no global batch is left out."""
        dataset = self._training_frames()
        workers = 0 if isinstance(dataset, ResidentFrames) else None
        return self.shuffled(dataset, len(dataset), workers, threads=self.by_threads("train"))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Cut the images and labels of a training batch out of the frames, where these lie on the device."""
        return self._resident.cut(batch) if self._resident is not None and is_uncut(batch) else batch

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Whole frames of `val`, each once over all ranks."""
        return self.whole_frames("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Whole frames of `test`, each once over all ranks."""
        return self.whole_frames("test")

    def whole_frames(self, split: str) -> DataLoader[dict[str, Any]]:
        """Frames of any split as they are, one at a time, each once over all ranks."""
        frames = self.frames(split)
        dataset = FrameDataset(frames, self.classes, read=self._read(split))
        return self.in_order(dataset, len(frames), batch_size=1, threads=self.by_threads(split))

    def by_threads(self, split: str) -> bool:
        """Whether threads read a split, not worker processes; before `prepare_data`, whether they are going to."""
        if self.loader != "auto":
            return self.loader == "threads"
        return self._store is not None if self.splits and not self._prepared else self._reader(split) is not None

    def batch_of(self, split: str, *, training: bool) -> tuple[int, int]:
        """Samples of one device's batch, and bytes of a sample: a training crop, or a frame as large as the first."""
        height, width = self.crop_size if training else self.reading.size(self.frames(split)[0].image)
        return self._planned_batch() if training else 1, 4 * height * width

    def _training_frames(self) -> FrameDataset:
        frames, reader = self.frames("train"), self._reader("train")
        if self._resident is None and self.device != "cpu" and self.trainer is not None:
            device = self.trainer.strategy.root_device
            why_not = why_not_resident(self.augment, frames, reader, device)
            if why_not is None and reader is not None:
                self._resident = ResidentFrames(frames, self.classes, self.augment, self.seed, reader, device)
                self._say(f"the training frames lie on the GPU ({self._resident.pixels.nbytes / 1e9:.2f} GB)")
            elif device.type == "cuda" or self.device == "gpu":
                self._say(f"the training frames do not lie on the GPU: {why_not}")
        if self._resident is not None:
            return self._resident
        focus = RareClasses(self.class_pixels) if getattr(self.augment, "focuses", False) else None
        return FrameDataset(frames, self.classes, self.augment, self.seed, read=self._read("train"), focus=focus)

    def _say(self, what: str) -> None:
        assert self.trainer is not None
        if self.trainer.is_global_zero and what not in self._said:
            self._said.add(what)
            say(f"data.device={self.device}: {what}")

    @cached_property
    def _store(self) -> DecodedStore | None:
        if self._store_parent is None or self.root is None:
            return None
        return DecodedStore(self._store_parent, self.root, self.classes, self.reading)

    def _read(self, split: str) -> Read:
        """Reads the frames of a split, from the store or from their files."""
        return self._reader(split) or partial(read_frame, classes=self.classes, reading=self.reading)

    def _reader(self, split: str) -> StoredFrames | None:
        """What reads a split from the store, and None where the files are read."""
        if split not in self._readers:
            self._readers[split] = self._store.reader(self.frames(split)) if self._store else None
        return self._readers[split]
