"""Frames of Cityscapes, fine and coarse, from its official folder layout.

Layout (https://github.com/mcordts/cityscapesScripts):
`{leftImg8bit,gtFine,gtCoarse}/{split}/{city}/{city}_{seq}_{frame}_{type}[_labelIds].png`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastscnn.data.datasets.frames import DataError, Frame
from fastscnn.utils.names import shortest_names

SPLITS = ("train", "val", "test")
_IMAGE = "_leftImg8bit.png"
_ROOT = {"key": "data.root", "fix": "Set data.root=DIR or run with data=streets."}


def fine_frames(root: str | Path | None, split: str) -> list[Frame]:
    """Frames of `train`, `val` or `test` with fine labels, sorted by file name, then by city.

    Files of the same name in two cities are two frames, whose names begin with the city; each has the label of its own
    city.

    The labels of `test` are not public: where its label files are absent, `Frame.label` is None. (The official
    download holds placeholders in which every pixel is ignored.)

    Raises:
        DataError: No root, a folder missing or empty, or an image without its label.
    """
    if split not in SPLITS:
        raise DataError(f"split={split} is unknown.", key="split", fix=f"Cityscapes has {', '.join(SPLITS)}.")
    return _named(_frames(_checked(root), split, "gtFine", "fine", labels_required=split != "test"))


def fine_coarse_frames(root: str | Path | None, split: str) -> list[Frame]:
    """Frames of the fine train set joined with the coarse `train_extra`; `val` and `test` as in the fine set.

    All 19,998 frames of `train_extra` are joined, as published. One of them, `troisdorf_000000_000073`, is
    black, as https://www.cityscapes-dataset.com/downloads/ says. It is not left out: its label names no class, so that
    it adds nothing to the loss. If the file was deleted, 19,997 frames are joined.

    Raises:
        DataError: As `fine_frames`; also where `train_extra` or `gtCoarse` is missing.
    """
    fine = fine_frames(root, split)
    if split != "train":
        return fine
    return _named(fine + _frames(_checked(root), "train_extra", "gtCoarse", "coarse", labels_required=True))


def prediction_name(frame: str) -> str:
    """Name of the file of a frame's predicted label ids, as the official evaluation and its server expect it.

    It has a folder if the frame's name has one: see `Frame`.
    """
    return f"{frame}_pred_labelIds.png"


def _checked(root: str | Path | None) -> Path:
    if root is None or str(root) == "":
        raise DataError(
            "data.root is not set: it is the folder that holds leftImg8bit/ and gtFine/ of Cityscapes.",
            key="data.root",
            fix="Set data.root=DIR or the environment variable CITYSCAPES_DATASET, or run with data=streets.",
        )
    if not Path(root).is_dir():
        raise DataError(f"data.root={root} does not exist or is not a folder.", **_ROOT)
    return Path(root)


def _frames(root: Path, split: str, label_type: str, source: str, labels_required: bool) -> list[Frame]:
    images = _listed(root, "leftImg8bit", split, label_type, _IMAGE)
    if not labels_required and not (root / label_type / split).is_dir():
        return [Frame(place, image, None, source) for place, image in images.items()]
    labels = _listed(root, label_type, split, label_type, f"_{label_type}_labelIds.png", labels_required)
    missing = [place for place in sorted(images) if place not in labels]
    if missing and labels_required:
        expected = root / label_type / split / f"{missing[0]}_{label_type}_labelIds.png"
        raise DataError(
            f"{images[missing[0]]} has no label: expected {expected} ({len(missing)} of {len(images)} images have"
            f" none).",
            key="data.root",
            fix=f"Unpack {label_type} into data.root={root} again, or remove the image.",
        )
    return [Frame(place, image, labels.get(place), source) for place, image in images.items()]


def _listed(
    root: Path, file_type: str, split: str, label_type: str, suffix: str, required: bool = True
) -> dict[str, Path]:
    """Files of one type and split by their path below it: `CITY/FRAME`."""
    folder = root / file_type / split
    layout = f"expected the Cityscapes layout (leftImg8bit/, {label_type}/)"
    if not folder.is_dir():
        raise DataError(f"data.root={root} has no {file_type}/{split}: {layout}.", **_ROOT)
    files = {f"{path.parent.name}/{path.name.removesuffix(suffix)}": path for path in folder.glob(f"*/[!.]*{suffix}")}
    if not files and required:
        raise DataError(f"data.root={root} has no {file_type}/{split}/CITY/*{suffix}: {layout}.", **_ROOT)
    return files


def _named(frames: Sequence[Frame]) -> list[Frame]:
    """Frames sorted by file name; each gets the shortest name that no other has."""
    places = [(*frame.image.parts[-3:-1], frame.image.name.removesuffix(_IMAGE)) for frame in frames]
    names = shortest_names(places)
    ordered = sorted(zip(places, names, frames, strict=True), key=lambda item: item[0][::-1])
    return [replace(frame, name=name) for _, name, frame in ordered]
