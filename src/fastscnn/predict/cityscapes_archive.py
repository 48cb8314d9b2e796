"""The archive that the Cityscapes benchmark server takes: label ids under the official names, checked."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastscnn.data.datasets.cityscapes import fine_frames, prediction_name
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.datasets.frames import Frame, read_image
from fastscnn.predict.manifest import Input, Manifest, Outcome, progress_in_the_message
from fastscnn.predict.pipeline import overlapped
from fastscnn.predict.predict import Picture, ShrunkNote, load_segmenter, made_by
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_writable, remove, replaced, write_png
from fastscnn.utils.images import check_image_file
from fastscnn.utils.progress import Progress
from fastscnn.utils.shared_folder import writing_in

OFFICIAL = {"train": 2975, "val": 500, "test": 1525}
"""Frames of each split of the whole data set."""
COMPRESSION = 6
"""PNG compression of the label files: half the size of the fastest one, because the archive is uploaded."""


def predict_archive(settings: Mapping[str, Any]) -> tuple[Outcome, Path | None]:
    """Predict a split of Cityscapes and pack it; a second call predicts what is missing.

    Args:
        settings: The plain config of `conf/predict.yaml`.

    Returns:
        The outcome, and the archive; None if a frame failed, because the server takes only whole splits.

    Raises:
        RequestError: The checkpoint has other classes, or the data is missing.
    """
    output, split = Path(str(settings["output"])).expanduser(), settings["split"]
    frames = fine_frames(settings["data"]["root"], split)
    _check_names(frames)
    check_writable(output, "output")
    segmenter = load_segmenter(settings)
    if (segmenter.classes.names, segmenter.classes.file_values) != (CITYSCAPES.names, CITYSCAPES.file_values):
        raise RequestError(
            f"format=cityscapes needs the classes of Cityscapes, and checkpoint={settings['checkpoint']} has those of "
            f"{segmenter.classes.name}.",
            key="format",
            fix="Leave format out.",
        )
    overwrite = settings["overwrite"]
    what = {**made_by(settings, segmenter), "format": "cityscapes", "split": split}
    manifest = Manifest(output, what, segmenter.classes, overwrite=overwrite)
    folder, archive = output / split, output / f"{split}.zip"

    def recorded(frame: Frame) -> Input:
        return Input(prediction_name(frame.name), frame.image, [folder / prediction_name(frame.name)])

    note = ShrunkNote(segmenter)

    def predicted(frame: Frame, image: Picture) -> Picture:
        note.look(frame.image.name, image)
        return segmenter.classes.decode(segmenter(image))

    left = [frame for frame in frames if manifest.missing(recorded(frame))]
    manifest.begin(map(recorded, frames))
    outcome = Outcome(there=len(frames) - len(left))
    if outcome.there:
        print(f"{outcome.there} of {len(frames)} were there already.")
    if left:
        remove(archive)  # it may hold older predictions
    with (
        writing_in(output),
        progress_in_the_message(outcome, len(left), overwrite=overwrite),
        Progress("predicting", len(left), "frame") as progress,
    ):
        for frame, error in overlapped(
            left,
            lambda frame: read_image(frame.image),
            predicted,
            lambda frame, labels: write_png(folder / prediction_name(frame.name), labels, COMPRESSION),
            failures=(OSError, RequestError),
        ):
            progress.advance()
            if not outcome.count(frame.image, error):
                break
    if progress.done:
        print(progress.result())
    if outcome.failed:
        return outcome, None
    with replaced(archive) as target, Progress("packing and checking the archive"):
        _pack(target, folder, frames)
        check_archive(target, frames)
    if len(frames) != OFFICIAL[split]:
        print(f"The server takes all {OFFICIAL[split]:,} frames of {split}, and data.root has {len(frames):,}.")
    return outcome, archive


def _check_names(frames: Sequence[Frame]) -> None:
    """Check that no two frames have one file name, because the server takes files without folders.

    Raises:
        RequestError: Two frames have one name; names both.
    """
    seen: dict[str, Path] = {}
    for frame in frames:
        name = prediction_name(Path(frame.name).name)
        if other := seen.get(name):
            raise RequestError(
                f"{other} and {frame.image} would both be {name} in the archive: the official names begin with the "
                "city.",
                key="data.root",
                fix="Rename one of them.",
            )
        seen[name] = frame.image


def _pack(target: Path, folder: Path, frames: Sequence[Frame]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:  # a PNG does not shrink
        for frame in frames:
            archive.write(folder / prediction_name(frame.name), prediction_name(frame.name))


def check_archive(path: Path, frames: Sequence[Frame]) -> None:
    """Check an archive as the server would: each frame once, its size, one channel of 8 bits, legal label ids.

    Raises:
        RequestError: Something is wrong with it; names the first file.
    """
    problem = _problem(path, frames)
    if problem:
        raise RequestError(
            f"The server would refuse the archive: {problem}.",
            key="overwrite",
            fix="Set overwrite=true to make the predictions anew.",
        )


def _problem(path: Path, frames: Sequence[Frame]) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        expected = [prediction_name(frame.name) for frame in frames]
        if sorted(names) != sorted(expected):
            odd = sorted(set(names) ^ set(expected)) or names
            return f"{len(names)} files for {len(frames)} frames, first {odd[0]}"
        for frame, name in zip(frames, expected, strict=True):
            labels = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
            if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
                return f"{name} is no 8-bit PNG of one channel"
            header = check_image_file(frame.image)
            shape = (header.height, header.width)
            if labels.shape != shape:
                return f"{name} is {labels.shape[0]}x{labels.shape[1]}, its image {shape[0]}x{shape[1]}"
            illegal = set(np.unique(labels).tolist()) - set(CITYSCAPES.file_values)
            if illegal:
                return f"{name} holds {min(illegal)}, which is no label id that is evaluated"
    return None
