"""The archive that the Cityscapes benchmark server takes: label ids under the official names, checked."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastscnn.data.cityscapes import fine_frames, prediction_name
from fastscnn.data.classes import CITYSCAPES
from fastscnn.data.frames import Frame, read_image
from fastscnn.errors import RequestError
from fastscnn.inference.media import write_png, write_whole
from fastscnn.inference.pipeline import overlapped
from fastscnn.inference.predict import Meter, Outcome, check_output, digest, keep_note, load_segmenter


def predict_archive(settings: Mapping[str, Any]) -> tuple[Outcome, Path | None]:
    """Predict a split of Cityscapes and pack it; called again, it goes on with what is missing.

    Args:
        settings: The plain config of `conf/predict.yaml`.

    Returns:
        How it went, and the archive; None where a frame failed, because the server takes whole splits alone.

    Raises:
        RequestError: The checkpoint has other classes, or the data is not there.
    """
    output, split = Path(settings["output"]), settings["split"]
    frames = fine_frames(settings["data"]["root"], split)
    check_output(output)
    segmenter = load_segmenter(settings)
    if segmenter.classes.file_values != CITYSCAPES.file_values:
        raise RequestError(
            f"format=cityscapes needs the classes of Cityscapes, and checkpoint={settings['checkpoint']} has those of "
            f"{segmenter.classes.name}: leave format out."
        )
    note = {
        "checkpoint": str(settings["checkpoint"]),
        "digest": digest(Path(settings["checkpoint"])),
        "format": "cityscapes",
        "split": split,
    }
    keep_note(output, note, segmenter, overwrite=settings["overwrite"])
    folder = output / split
    left = [frame for frame in frames if settings["overwrite"] or not (folder / prediction_name(frame.name)).exists()]
    outcome = Outcome(there=len(frames) - len(left))
    with Meter(len(left), "frames") as meter:
        for frame, error in overlapped(
            left,
            lambda frame: read_image(frame.image),
            lambda frame, image: segmenter.classes.decode(segmenter(image)),
            lambda frame, labels: write_png(folder / prediction_name(frame.name), labels),
            failures=(OSError, RequestError),
        ):
            meter.advance()
            if error is None:
                outcome.done += 1
            else:
                outcome.failed[str(frame.image)] = str(error)
    if outcome.failed:
        return outcome, None
    archive = output / f"{split}.zip"
    write_whole(archive, lambda target: _pack(target, folder, frames))
    check_archive(archive, frames)
    return outcome, archive


def _pack(target: Path, folder: Path, frames: Sequence[Frame]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:  # a PNG does not shrink
        for frame in frames:
            archive.write(folder / prediction_name(frame.name), prediction_name(frame.name))


def check_archive(path: Path, frames: Sequence[Frame]) -> None:
    """Check an archive as the server would: each frame once, its size, one channel of 8 bits, legal label ids.

    Raises:
        RequestError: Something is wrong with it; names the first file. The archive is removed.
    """
    problem = _problem(path, frames)
    if problem:
        path.unlink()
        raise RequestError(f"The archive would be refused: {problem}. Set overwrite=true to make the predictions anew.")


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
            shape = read_image(frame.image).shape[:2]
            if labels.shape != shape:
                return f"{name} is {labels.shape[0]}x{labels.shape[1]}, its image {shape[0]}x{shape[1]}"
            illegal = set(np.unique(labels).tolist()) - set(CITYSCAPES.file_values)
            if illegal:
                return f"{name} holds {min(illegal)}, which is no label id that is evaluated"
    return None
