"""How the frames of a folder are divided: by draw, and by the lists that a run keeps of it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fastscnn.data.datasets.frames import DataError, Frame
from fastscnn.utils.files import write_text
from fastscnn.utils.values import check_number, check_whole, refused

NAME = "folder"
"""The name of the data set."""
SPLITS = ("train", "val", "test")
LISTS = "lists"
"""Folder of a run with the names of its frames, where their splits were drawn."""


@dataclass(frozen=True)
class RandomSplit:
    """How frames are divided where there is neither a folder nor a list for each split.

    Attributes:
        val: Share of the frames that are validated on.
        test: Share of the frames that are tested on.
        seed: Of the draw, which depends on it and on the names of the frames alone.

    Raises:
        RequestError: A value is out of range.
    """

    val: float = 0.2
    test: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("val", "test"):
            check_number(f"data.random_split.{name}", getattr(self, name), minimum=0, below=1)
        check_whole("data.random_split.seed", self.seed)
        if self.val + self.test >= 1:
            raise refused("data.random_split.val", self.val, f"less than 1 together with test={self.test}")

    def divided(self, frames: Sequence[Frame]) -> dict[str, list[Frame]]:
        """The frames of each split, in their order; a share above 0 gives at least one frame.

        A frame that is added or removed moves few of the others to another split.
        """
        drawn = sorted(frames, key=lambda frame: hashlib.sha256(f"{self.seed}/{frame.name}".encode()).digest())
        val, test = (max(round(share * len(frames)), 1) if share else 0 for share in (self.val, self.test))
        chosen = {"train": set(drawn[val + test :]), "val": set(drawn[:val]), "test": set(drawn[val : val + test])}
        return {split: [frame for frame in frames if frame in chosen[split]] for split in SPLITS}


class Division(NamedTuple):
    """The frames of each split, and whether some were drawn."""

    frames: Mapping[str, Sequence[Frame]]
    drawn: bool = False


def with_recorded_lists(settings: Mapping[str, Any], run: Path) -> Mapping[str, Any]:
    """The `data` settings, with the lists that a run wrote where its splits were drawn: it keeps its frames.

    Args:
        settings: Of any data set; they come back unchanged where the run wrote no lists.
        run: Its folder.
    """
    drawn = settings.get("dataset") == NAME and settings.get("lists") is None
    if drawn and (run / LISTS / "train.txt").is_file():
        return {**settings, "lists": str((run / LISTS).resolve())}
    return settings


def write_lists(run: Path, names: Mapping[str, Sequence[str]]) -> None:
    """Write the names of each split to a run's folder, as `data.lists` takes them."""
    for split, listed in names.items():
        write_text(run / LISTS / f"{split}.txt", "".join(f"{name}\n" for name in listed))


def read_list(file: Path) -> list[str]:
    """The lines of a list that are not empty.

    Raises:
        DataError: It cannot be read as text.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "it is not text"
        raise DataError(f"{file} cannot be read: {cause}.", key="data.lists", fix="Write it again.") from None
    return [line.strip() for line in lines if line.strip()]
