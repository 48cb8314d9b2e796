"""Which pictures of which runs stand beside each other (Figures 2 and 3)."""

from collections.abc import Sequence
from pathlib import Path

from fastscnn.reports.comparison.content import GalleryRow
from fastscnn.reports.comparison.records import Evaluation, Run

FRAMES = 4
"""Frames of one run."""


def gallery(runs: Sequence[tuple[str, Run]], evaluations: Sequence[Evaluation], most: int) -> list[GalleryRow]:
    """Frames of at most `most` runs (label and run), those with an evaluation without the skip connection first.

    The prediction is that of an evaluation of the run as it was trained, or else its last training picture; the one
    without the skip connection is of the same frame.
    """
    shown = []
    for label, run in runs:
        own = [e for e in evaluations if e.judged(run) and e.resolution == run.choices["resolution"]]
        cut = _pictures([e for e in own if e.skip == "zero"]) if run.choices.get("skip", "keep") == "keep" else {}
        kept = _pictures([e for e in own if e.skip == run.choices.get("skip", "keep")])
        frames = {**kept, **_training_pictures(run.folder), **kept}
        together = ([name for name in frames if name in cut] or list(frames))[:FRAMES]
        rows = [GalleryRow(label, name, frames[name], cut.get(name)) for name in together]
        if rows:
            shown.append((not cut, rows))
    shown.sort(key=lambda item: item[0])  # stable: otherwise the runs' own order
    return [row for _, rows in shown[:most] for row in rows]


def _pictures(evaluations: Sequence[Evaluation]) -> dict[str, Path]:
    """Frame to picture; of the newest evaluation where there are several."""
    judged = [e for e in evaluations if e.content.get("pixels", 1)]  # without labels there is no panel of the truth
    paths = [(e.folder, e.folder / picture) for e in judged for picture in e.content.get("pictures", ())]
    return {_frame(folder, path): path for folder, path in paths if path.exists()}


def _training_pictures(folder: Path) -> dict[str, Path]:
    """Frame to its picture of the last epoch."""
    found = {}
    for path in sorted((folder / "images").rglob("*_epoch*.png")):  # epochs are numbered with leading zeros
        found[_frame(folder, path).rpartition("_epoch")[0]] = path
    return found


def _frame(folder: Path, picture: Path) -> str:
    """What a picture is called below `images/`: the frame's name, with the folder that tells it apart."""
    return picture.relative_to(folder / "images").with_suffix("").as_posix()
