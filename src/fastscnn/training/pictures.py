"""Pictures of fixed frames: input, truth and prediction side by side."""

from collections.abc import Sized
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from fastscnn.data.datamodules.adapted import Adapted
from fastscnn.data.datasets.classes import ClassTable
from fastscnn.runs.media import Frame, show_frame
from fastscnn.runs.record import RunRecord
from fastscnn.training.segmentation import Segmentation
from fastscnn.utils.files import write_png
from fastscnn.utils.names import file_name
from fastscnn.utils.values import check_whole

Picture = npt.NDArray[Any]
LARGEST = 512
"""Height above which a picture is scaled down, pixels."""


def side_by_side(image: Picture, label: Picture | None, prediction: Picture, classes: ClassTable) -> Picture:
    """Input, truth (where there is one) and prediction beside each other.

    Args:
        image: RGB, [H, W, 3].
        label: Train ids [H, W]; ignored pixels are painted black.
        prediction: Train ids [H, W].
        classes: Gives the colours.

    Returns:
        RGB, [H, 2W or 3W, 3].
    """
    panels = [image]
    if label is not None:
        panels.append(classes.colorize(label))
    return np.concatenate([*panels, classes.colorize(prediction)], axis=1)


def chosen_frames(count: int, frames: int) -> list[int]:
    """Indices of `count` frames, spread evenly over a split of `frames`; all where there are fewer."""
    if not count:
        return []
    indices: list[int] = np.unique(np.linspace(0, frames - 1, min(count, frames)).astype(int)).tolist()
    return indices


def picture_path(name: str, ending: str = ".png") -> Path:
    """Where the picture of a frame goes below `images/`: in a folder where the frame's name begins with one."""
    *folders, last = name.split("/")
    return Path(*folders, file_name(last, ending))


def write_picture(path: Path, picture: Picture) -> None:
    """Write an RGB picture, scaled down where it is higher than `LARGEST`; makes its folder.

    Raises:
        WriteError: It cannot be written.
    """
    height, width = picture.shape[:2]
    if height > LARGEST:
        picture = cv2.resize(picture, (width * LARGEST // height, LARGEST), interpolation=cv2.INTER_AREA)
    write_png(path, np.ascontiguousarray(picture))


def shown_frame(
    name: str, image: Picture, prediction: Picture, truth: Picture | None, path: Path, classes: ClassTable
) -> Frame:
    """A frame as loggers show it, scaled down where it is higher than `LARGEST`."""
    height, width = image.shape[:2]
    if height > LARGEST:
        size = (width * LARGEST // height, LARGEST)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        prediction = cv2.resize(prediction, size, interpolation=cv2.INTER_NEAREST_EXACT)
        truth = None if truth is None else cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    names = {**dict(enumerate(classes.names)), classes.ignore_index: "ignored"}
    panels = side_by_side(image, truth, prediction, classes)
    return Frame(name, np.ascontiguousarray(image), prediction, truth, panels, path, names)


class Pictures(pl.Callback):
    """Draw the same validation frames into `images/` and the loggers, about ten times a run and after the last epoch.

    Args:
        record: The run, whose folder receives `images/NAME_epochNNNN.png`.
        count: Number of frames, spread evenly over the validation split.
    """

    def __init__(self, record: RunRecord, count: int) -> None:
        self.folder = record.folder / "images"
        self.count = count

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, if it is time to."""
        if trainer.sanity_checking or not self.count or not self._due(trainer):
            return
        assert isinstance(pl_module, Segmentation)
        loader: Any = trainer.val_dataloaders
        frames = len(loader.dataset) if isinstance(loader.dataset, Sized) else 0
        for index in chosen_frames(self.count, frames):
            sample = loader.dataset[index]
            if isinstance(loader.collate_fn, Adapted):
                sample = loader.collate_fn.one(sample) | {"name": f"val_{index:06d}"}
            with torch.inference_mode():
                prediction = pl_module.predict_labels(sample["image"][None].to(pl_module.device))[0]
            image, truth = sample["image"].permute(1, 2, 0).numpy(), sample["label"].numpy()
            labels = prediction.to(torch.uint8).cpu().numpy()
            picture = side_by_side(image, truth, labels, pl_module.classes)
            path = self.folder / picture_path(sample["name"], f"_epoch{trainer.current_epoch + 1:04d}.png")
            write_picture(path, picture)
            frame = shown_frame(sample["name"], image, labels, truth, path, pl_module.classes)
            show_frame(trainer.loggers, f"val/pictures/{sample['name']}", frame, trainer.global_step)

    def _due(self, trainer: pl.Trainer) -> bool:
        epochs = trainer.max_epochs or 1
        every = max(1, -(-epochs // 10))
        step = trainer.check_val_every_n_epoch or 1
        done = trainer.current_epoch + 1
        return done >= epochs or done // every > (done - step) // every


class DrawFrames(pl.Callback):
    """Keep pictures of a few frames: input, truth and prediction; the frames that training draws of this split.

    Args:
        count: Number of frames, spread evenly over the split.
        classes: Gives the colours.
    """

    def __init__(self, count: int, classes: ClassTable) -> None:
        check_whole("pictures", count)
        self.count = count
        self.classes = classes
        self.pictures: dict[str, Picture] = {}
        self.seen = 0

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Draw the frames of one batch that are to be drawn."""
        dataset: Any = trainer.test_dataloaders.dataset  # type: ignore[union-attr]
        chosen = set(chosen_frames(self.count, len(dataset) if isinstance(dataset, Sized) else 0))
        first, self.seen = self.seen, self.seen + len(batch["image"])
        indices = batch["index"].tolist() if "index" in batch else range(first, self.seen)
        for place, index in enumerate(indices):
            if index in chosen:
                name = batch["name"][place] if "index" in batch else f"{index:06d}"
                self.pictures[name] = side_by_side(
                    batch["image"][place].permute(1, 2, 0).cpu().numpy(),
                    batch["label"][place].cpu().numpy() if "label" in batch else None,
                    outputs["predictions"][place].to(torch.uint8).cpu().numpy(),
                    self.classes,
                )

    @property
    def paths(self) -> list[str]:
        """Where `save` writes them, relative to its folder."""
        return [(Path("images") / picture_path(name)).as_posix() for name in self.pictures]

    def save(self, folder: Path) -> None:
        """Write `images/NAME.png` into a folder."""
        for path, picture in zip(self.paths, self.pictures.values(), strict=True):
            write_picture(folder / path, picture)
