"""Which frames are trained on and which are evaluated, where that is not the data set's own split."""

import re
from collections.abc import Callable, Sequence

from fastscnn.data.datasets.frames import DataError, Frame

FramesOf = Callable[[str], list[Frame]]
"""Gives the frames of a data set's own split."""


def chosen_frames(
    split: str, frames_of: FramesOf, train_splits: Sequence[str] = ("train",), held_out: object = None
) -> list[Frame]:
    """Frames of `train`, `val` or `test` as they are used.

    Args:
        split: Which.
        frames_of: The data set's own splits.
        train_splits: Own splits that are joined to train on; what is among them is not evaluated.
        held_out: A drive or city: the own train and val without it are trained on, and it is evaluated; None for none.

    Raises:
        DataError: There is no such drive, or nothing is left to train on.
    """
    if split not in ("train", "val"):
        return frames_of(split)
    if held_out is not None:
        pool = [frame for own in ("train", "val") for frame in frames_of(own)]
        drive = _drive(held_out, [drive_of(frame) for frame in pool])
        return [frame for frame in pool if (drive_of(frame) == drive) == (split == "val")]
    if split == "train":
        return [frame for own in train_splits for frame in frames_of(own)]
    return [] if "val" in train_splits else frames_of("val")


def drive_of(frame: Frame) -> str:
    """The drive (CamVid) or city (Cityscapes) that a frame is of: its name up to the first `_` or `/`."""
    return re.split("[_/]", frame.name, maxsplit=1)[0]


def _drive(held_out: object, drives: Sequence[str]) -> str:
    """The drive that a setting names; a name such as 0016E5 is a number where it is read as YAML."""
    known = sorted(set(drives))
    for drive in known:
        if str(held_out) == drive or (isinstance(held_out, int | float) and _number(drive) == held_out):
            if len(known) == 1:
                raise DataError(
                    f"data.held_out={drive} leaves nothing to train on: all frames are of it.",
                    key="data.held_out",
                    fix="Leave it out.",
                )
            return drive
    shown = ", ".join(known[:30]) + (", ..." if len(known) > 30 else "")
    raise DataError(
        f"data.held_out={held_out} is none of the drives or cities of train and val.",
        key="data.held_out",
        fix=f"Name one of {shown}.",
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
