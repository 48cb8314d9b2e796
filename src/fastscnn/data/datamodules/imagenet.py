"""ImageNet, and any other images sorted into one folder a class: which files, in which batches."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from fastscnn.data.datamodules.loading import EpochData
from fastscnn.data.datasets.frames import DataError
from fastscnn.data.datasets.images import ImageClasses, ImageDataset, LabelledImage, Transform, eval_transform
from fastscnn.utils.images import MAX_PIXELS
from fastscnn.utils.values import check_number, check_size, check_whole

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

NAME = "imagenet"
SPLITS = ("train", "val")
_LAYOUT = "expected train/CLASS/*.JPEG and val/CLASS/*.JPEG, or CLASS/*.JPEG alone"


class ImageNetData(EpochData):
    """Train and val batches of images in one folder a class.

    A batch holds `image` (uint8 [B, 3, H, W], RGB), `target` and `index` (int64 [B]), `name` and `source` (lists
    of str). Images of val are resized and cropped at the centre to the size of the training images.

    Args:
        root: Holds `train/CLASS/` and `val/CLASS/`; or `CLASS/` alone, which is then both train and val.
        crop_size: Height and width of what the network sees.
        batch_size: Images of one optimizer step, over all devices and accumulation steps.
        num_workers: Processes that read images, for each loader; `auto` takes the usable cores, at most 8.
        transform: From a PIL image to a training image, uint8 [3, H, W]; None takes `eval_transform`.
        crop_pct: See `eval_transform`.
        seed: Of the order and the augmentation.
        devices: Number of devices, as long as no trainer is attached.
        accumulate: Forward passes of one optimizer step, as long as no trainer is attached.
        splits: What a training run reads, which `prepare_data` checks; empty where nothing is trained.
        max_pixels: The largest picture that is decoded.

    Raises:
        DataError: A setting is wrong; in `prepare_data`, `setup` and `classes`, files are missing.
    """

    dataset = NAME
    synthetic = False

    def __init__(
        self,
        *,
        root: str | Path | None,
        crop_size: Sequence[int],
        batch_size: int = 256,
        num_workers: int | str = "auto",
        transform: Transform | None = None,
        crop_pct: float = 0.875,
        seed: int = 0,
        devices: int = 1,
        accumulate: int = 1,
        splits: Sequence[str] = SPLITS,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(batch_size, num_workers, seed, devices, accumulate, splits)
        self.root = root
        self.max_pixels = max_pixels
        check_size("data.crop_size", crop_size)
        check_number("data.crop_pct", crop_pct, above=0, maximum=1)
        check_whole("data.max_pixels", max_pixels, 1)
        self.crop_size = (crop_size[0], crop_size[1])
        self.whole = eval_transform(self.crop_size, crop_pct)
        self.transform = transform or self.whole
        self._folders: dict[Path, ImageFolder] = {}
        self._frames: dict[str, list[LabelledImage]] = {}

    @property
    def classes(self) -> ImageClasses:
        """The class folders of the training images, sorted."""
        return ImageClasses("ImageNet", tuple(self._folder("train").classes))

    @property
    def evaluates_on_train(self) -> bool:
        """Whether there is no val/, so that the training images are used for validation too."""
        return split_folder(self.root, "val") == split_folder(self.root, "train")

    def prepare_data(self) -> None:
        """For a training, check the files."""
        self.check_splits()

    def setup(self, stage: str | None = None) -> None:
        """List the files, so that a missing one is found before anything starts."""
        for split in SPLITS:
            self.frames(split)

    def frames(self, split: str) -> list[LabelledImage]:
        """Images of a split, class by class.

        Raises:
            DataError: They are not where they should be, or val has a class that train has not.
        """
        if split not in self._frames:
            train, folder = self._folder("train"), self._folder(split)
            if unknown := sorted(set(folder.classes) - set(train.classes)):
                raise DataError(
                    f"{folder.root} has the class {unknown[0]}, which {train.root} has not.",
                    key="data.root",
                    fix="Use the same class folders in train/ and val/.",
                )
            targets = [train.class_to_idx[name] for name in folder.classes]
            self._frames[split] = [LabelledImage(path, targets[index]) for path, index in folder.samples]
        return self._frames[split]

    def source_counts(self, split: str) -> dict[str, int]:
        """How many images a split has."""
        return {NAME: len(self._folder(split).samples)}

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Augmented images in a new order each epoch; the tail that fills no global batch is left out."""
        images = self.frames("train")
        return self.shuffled(ImageDataset(images, self.transform, NAME, self.seed, self.max_pixels), len(images))

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Images of `val`, each once over all ranks."""
        return self.whole_frames("val")

    def whole_frames(self, split: str) -> DataLoader[dict[str, Any]]:
        """Images of any split, resized and cropped at the centre, each once over all ranks."""
        images = self.frames(split)
        return self.in_order(ImageDataset(images, self.whole, NAME, max_pixels=self.max_pixels), len(images))

    def batch_of(self, split: str, *, training: bool) -> tuple[int, int]:
        """Samples of one device's batch, and bytes of a sample, which are the same for every split."""
        return self._planned_batch(), 3 * self.crop_size[0] * self.crop_size[1]

    def _folder(self, split: str) -> "ImageFolder":
        from torchvision.datasets import ImageFolder  # slow to import, and segmentation does without

        path = split_folder(self.root, split)
        if path not in self._folders:
            try:
                self._folders[path] = ImageFolder(str(path))
            except FileNotFoundError as error:  # no class folder, or one without images
                problem = f"{path}: {str(error).splitlines()[0].rstrip('.')}: {_LAYOUT}."
                raise DataError(problem, key="data.root", fix="Set data.root=DIR.") from None
        return self._folders[path]


def split_folder(root: str | Path | None, split: str) -> Path:
    """The folder of class folders of `train` or `val`; the root itself where it holds neither.

    Raises:
        DataError: The split is unknown, or there is no such folder.
    """
    if split not in SPLITS:
        problem = f"split={split}: ImageNet has labels only for {' and '.join(SPLITS)}."
        raise DataError(problem, key="split", fix="Choose one of them.")
    if root is None or str(root) == "":
        raise DataError(f"data.root is not set: {_LAYOUT}.", key="data.root", fix="Set data.root=DIR.")
    root = Path(root)
    if not root.is_dir():
        problem = f"data.root={root} does not exist or is not a folder: {_LAYOUT}."
        raise DataError(problem, key="data.root", fix="Set data.root=DIR.")
    there = [name for name in SPLITS if (root / name).is_dir()]
    if not there:
        return root
    if split not in there:
        raise DataError(
            f"data.root={root} has {there[0]}/ and no {split}/: {_LAYOUT}.",
            key="data.root",
            fix=f"Set data.root={root / there[0]} to train and evaluate on the same images.",
        )
    return root / split
