"""The data sets by name: their classes, their frames, and the folder of the generated streets."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from fastscnn.data.datasets import camvid, cityscapes
from fastscnn.data.datasets.classes import CAMVID, CITYSCAPES, ClassTable
from fastscnn.data.datasets.colors import ColorMap
from fastscnn.data.datasets.frames import DataError, Frame
from fastscnn.streets.writer import GENERATOR_VERSION, MANIFEST, StreetsSpec, write_streets
from fastscnn.utils.files import check_writable, why_not_written
from fastscnn.utils.progress import Progress


def _plain_name(frame: str) -> str:
    return f"{frame}.png"


class Source(NamedTuple):
    """A data set.

    Attributes:
        classes: The meaning of its labels.
        frames: Lists its frames, given the root and the split.
        prediction_name: Gives the file name of a frame's predicted labels, given the frame's name.
        colors: Where its label files hold colours: the value of each.
        drawn: Gives the names of the frames of each split where splits were drawn, given the root.
    """

    classes: ClassTable
    frames: Callable[[str | Path | None, str], list[Frame]]
    prediction_name: Callable[[str], str] = _plain_name
    colors: ColorMap | None = None
    drawn: Callable[[str | Path | None], Mapping[str, Sequence[str]]] | None = None


def streets_frames(root: str | Path | None, split: str) -> list[Frame]:
    """Frames of the generated streets, sorted by name."""
    return [replace(frame, source="streets") for frame in cityscapes.fine_frames(root, split)]


DATASETS = {
    "streets": Source(CITYSCAPES, streets_frames, cityscapes.prediction_name),
    "fine": Source(CITYSCAPES, cityscapes.fine_frames, cityscapes.prediction_name),
    "fine_coarse": Source(CITYSCAPES, cityscapes.fine_coarse_frames, cityscapes.prediction_name),
    "camvid": Source(CAMVID, camvid.camvid_frames),
}


def source_of(dataset: str) -> Source:
    """The data set of that name.

    Raises:
        DataError: There is no such data set.
    """
    if dataset not in DATASETS:
        key = "data.dataset"
        raise DataError(f"{key}={dataset} is unknown.", key=key, fix=f"Use one of {', '.join(DATASETS)}.")
    return DATASETS[dataset]


def frames_for(dataset: str, root: str | Path | None, split: str) -> list[Frame]:
    """Frames of a data set's `train`, `val` or `test` split, sorted by name.

    Raises:
        DataError: The data set or the split is unknown, or its files are not in the expected layout.
    """
    return source_of(dataset).frames(root, split)


def streets_spec(settings: Mapping[str, Any]) -> StreetsSpec:
    """Build the spec of the streets from settings that differ from its defaults.

    Raises:
        RequestError: A setting does not exist, or its value cannot be drawn.
    """
    known = [field.name for field in fields(StreetsSpec)]
    for name in settings:
        if name not in known:
            key = f"data.streets.{name}"
            raise DataError(f"{key} is unknown.", key=key, fix=f"Use one of {', '.join(known)}.")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, Sequence) else value for name, value in settings.items()
    }
    return StreetsSpec(**values)


def streets_root(spec: StreetsSpec) -> Path:
    """Where the streets of a spec are generated: a folder for each spec and version, below the working directory."""
    settings = json.dumps([GENERATOR_VERSION, asdict(spec)], sort_keys=True)
    return Path("data/streets") / hashlib.sha256(settings.encode()).hexdigest()[:10]


def generate_streets(root: Path, spec: StreetsSpec) -> None:
    """Write the streets to `root` where they are not there yet.

    Raises:
        RequestError: The folder holds other files, or cannot be written.
    """
    if not (root / MANIFEST).exists():
        check_writable(root, "data.root")
        print(f"Generating the synthetic streets in {root} (once)", flush=True)
    try:
        with Progress("drawing the synthetic streets", unit="frame", summary=True) as progress:
            write_streets(root, spec, progress=progress.reach)
    except OSError as error:
        if error.errno is None:  # it does not come from the file system
            raise
        raise DataError(
            f"{why_not_written(error)}.", key="data.root", fix="Set data.root=DIR to a folder on a disk with room."
        ) from None
