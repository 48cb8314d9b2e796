"""The choice of the pictures that are compared (Figures 2 and 3)."""

from collections.abc import Sequence
from pathlib import Path

from fastscnn.reports.comparison.content import GalleryRow
from fastscnn.reports.comparison.records import Evaluation, Run

FRAMES = 4
"""Frames of one run."""


def gallery(runs: Sequence[tuple[str, Run]], evaluations: Sequence[Evaluation], most: int) -> list[GalleryRow]:
    """Frames of at most `most` runs (label and run); runs with an evaluation without the skip connection come first.

    The prediction comes from an evaluation of the run as it was trained or, if there is none, from the pictures of its
    training. The prediction without the skip connection is of the same frame.
    """
    galleries = []
    for label, run in runs:
        own = [e for e in evaluations if e.evaluates(run) and e.resolution == run.choices["resolution"]]
        cut = _pictures([e for e in own if e.skip == "zero"]) if run.choices.get("skip", "keep") == "keep" else {}
        whole = _pictures([e for e in own if e.skip == run.choices.get("skip", "keep")])
        frames = {**whole, **_training_pictures(run.folder), **whole}
        together = ([name for name in frames if name in cut] or list(frames))[:FRAMES]
        rows = [GalleryRow(label, name, frames[name], cut.get(name)) for name in together]
        if rows:
            galleries.append((not cut, rows))
    galleries.sort(key=lambda item: item[0])  # stable: keeps the order of the runs
    return [row for _, rows in galleries[:most] for row in rows]


def _pictures(evaluations: Sequence[Evaluation]) -> dict[str, Path]:
    """Frame to picture, from the newest evaluation that has it."""
    labelled = [
        e for e in evaluations if e.content.get("pixels", 1)
    ]  # without labels there is no panel of the ground truth
    paths = [(e.folder, e.folder / picture) for e in labelled for picture in e.content.get("pictures", ())]
    return {_frame(folder, path): path for folder, path in paths if path.exists()}


def _training_pictures(folder: Path) -> dict[str, Path]:
    """Frame to its picture of the last epoch."""
    found = {}
    for path in sorted((folder / "images").rglob("*_epoch*.png")):  # epochs are numbered with leading zeros
        found[_frame(folder, path).rpartition("_epoch")[0]] = path
    return found


def _frame(folder: Path, picture: Path) -> str:
    """Path of a picture below `images/`, without its suffix: the name of the frame."""
    return picture.relative_to(folder / "images").with_suffix("").as_posix()
