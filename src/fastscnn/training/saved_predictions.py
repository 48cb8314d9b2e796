"""The predictions of an evaluation as label files."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from fastscnn.data.datamodules.external import ExternalData
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.training.segmentation import Segmentation
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import WriteError, write_png


class SavePredictions(pl.Callback):
    """Write each prediction as a label file with the data set's own values.

    If a file cannot be written, the evaluation continues without the files, because its scores matter more.

    Attributes:
        error: The error that stopped the writing.

    Args:
        folder: The folder of the files.
        file_name: Maps a frame's name to its file name; for Cityscapes, the names that the official evaluation and its
            server expect. The result contains a folder if the frame's name does.
    """

    def __init__(self, folder: Path, file_name: Callable[[str], str]) -> None:
        self.folder = folder
        self.file_name = file_name
        self.error: WriteError | None = None

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Write the frames of one batch."""
        assert isinstance(pl_module, Segmentation)
        if self.error:
            return
        for name, prediction in zip(batch["name"], outputs["predictions"].cpu().numpy(), strict=True):
            label = pl_module.classes.decode(prediction.astype(np.uint8))
            path = self.folder / self.file_name(name)
            try:
                write_png(path, label)
            except WriteError as error:
                self.error = error
                print(f"{error}: no more predictions are saved, the evaluation continues.", file=sys.stderr)
                return


def saving_predictions(folder: str | None, data: SegmentationData | ExternalData) -> SavePredictions | None:
    """What writes the predictions, where they are asked for.

    Raises:
        RequestError: The data gives no names for the files.
    """
    if not folder:
        return None
    if isinstance(data, ExternalData):
        raise RequestError(
            "save_predictions names files as their frames, and data.module gives no names.",
            key="save_predictions",
            fix="Leave it out, or use predict.py.",
        )
    return SavePredictions(Path(folder).expanduser(), data.source.prediction_name)
