"""Frames of a folder of one's own: images and masks of equal names, split by folders, by lists, or by draw."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fastscnn.data.datasets.class_file import FILE, read_classes
from fastscnn.data.datasets.folder_splits import NAME, SPLITS, Division, RandomSplit, read_list
from fastscnn.data.datasets.frames import DataError, Frame
from fastscnn.data.datasets.patterns import SPLIT, check_pattern, matching, without_split
from fastscnn.data.datasets.sources import Source
from fastscnn.utils.image_files import SUFFIXES
from fastscnn.utils.text import plural
from fastscnn.utils.values import refused

PLACES = ("root", "images", "masks", "lists", "classes")
"""Settings that say where the files are."""


@dataclass(frozen=True)
class FolderFrames:
    """Lists the frames of a split.

    Attributes:
        images: Pattern of the images below the root.
        masks: Pattern of the masks.
        lists: Folder of `train.txt`, `val.txt` and `test.txt`, with a name in each line, as Pascal VOC has them; None
            where the frames are divided by their folders, or by draw.
        random_split: The draw.

    Raises:
        DataError: A pattern cannot name files.
    """

    images: str = "images/{split}/{name}"
    masks: str = "masks/{split}/{name}"
    lists: str | None = None
    random_split: RandomSplit = field(default_factory=RandomSplit)

    def __post_init__(self) -> None:
        check_pattern("data.images", self.images)
        check_pattern("data.masks", self.masks)

    def __call__(self, root: str | Path | None, split: str) -> list[Frame]:
        """Frames of `train`, `val` or `test`, sorted by name, which is the path below the folder of the split.

        Raises:
            DataError: No root, nothing in it, an image without its mask, or a name in a list without its image.
        """
        if split not in SPLITS:
            raise DataError(f"split={split} is unknown.", key="split", fix=f"data=folder has {', '.join(SPLITS)}.")
        folder = checked_root(root)
        found = self.division(folder).frames
        if not found[split]:
            raise self.nothing(folder, split, found)
        return with_masks(found[split], folder, self.masks, required=split != "test")

    def drawn(self, root: str | Path | None) -> dict[str, list[str]]:
        """The names of the frames of each split where some were drawn; empty where folders or lists say them."""
        found = self.division(checked_root(root))
        return {split: [frame.name for frame in found.frames[split]] for split in SPLITS} if found.drawn else {}

    def division(self, root: Path) -> Division:
        """The frames of every split, with the masks that there are."""
        by_folder = {split: self._pairs(root, split) for split in SPLITS} if SPLIT in self.images else {}
        if self.lists is not None:
            found = self._listed(root, by_folder)
        elif any(by_folder.values()):
            found = by_folder
        else:
            return Division(self.random_split.divided(self._pairs(root)), drawn=True)
        if found["val"] or not found["train"]:
            return Division(found)
        rest = replace(self.random_split, test=0.0).divided(found["train"])  # there is nothing else to validate on
        return Division({**found, "train": rest["train"], "val": rest["val"]}, drawn=True)

    def masks_alone(self, root: Path) -> list[Path]:
        """Masks whose image is not there; none are looked for where lists say which frames are used."""
        if self.lists is not None:
            return []
        division = self.division(root)
        used = {frame.label for frames in division.frames.values() for frame in frames}
        by_folder = any(matching(root, self.images, split) for split in SPLITS if SPLIT in self.images)
        places = [(self.masks, split) for split in SPLITS] if by_folder else [(without_split(self.masks), "")]
        found = {path for pattern, split in places for path in matching(root, pattern, split).values()}
        return sorted(found - used)

    def in_no_split(self, root: Path) -> list[Path]:
        """Images beside the folders of the splits, or in a folder of another name, such as `images/valid/`."""
        if self.lists is not None or SPLIT not in self.images:
            return []
        used = {path for split in SPLITS for path in matching(root, self.images, split).values()}
        masks = {path for split in SPLITS for path in matching(root, self.masks, split).values()}
        return sorted({*matching(root, without_split(self.images)).values()} - used - masks) if used else []

    def _pairs(self, root: Path, split: str | None = None) -> list[Frame]:
        """Every image with its mask, if it has one."""
        images, masks = (self.images, self.masks) if split else map(without_split, (self.images, self.masks))
        found = matching(root, images, split or "")
        labels = matching(root, masks, split or "") if found else {}
        return [Frame(name, image, labels.get(name), NAME) for name, image in found.items()]

    def _listed(self, root: Path, by_folder: Mapping[str, Sequence[Frame]]) -> dict[str, list[Frame]]:
        """The frames that the lists name; those in the folder of their own split are looked for first."""
        folder = self._list_folder(root)
        pool = [frame for frames in by_folder.values() for frame in frames] or self._pairs(root)
        found: dict[str, list[Frame]] = {}
        for split in SPLITS:
            file = folder / f"{split}.txt"
            by_name = {frame.name: frame for frame in (*pool, *by_folder.get(split, ()))}
            lines = read_list(file) if file.is_file() else []
            frames = {line: _named(by_name, line) for line in lines}
            if missing := [line for line, frame in frames.items() if frame is None]:
                raise DataError(
                    f"{file} names {missing[0]}, and no image of data.images={self.images} in data.root={root} is "
                    f"called that ({len(missing)} of {len(frames)} names have none).",
                    key="data.lists",
                    fix="Correct the list, or data.images: a name is what stands for {name}.",
                )
            found[split] = sorted({frame for frame in frames.values() if frame}, key=lambda frame: frame.name)
        return found

    def _list_folder(self, root: Path) -> Path:
        """Below the root, or else as it stands."""
        given = Path(os.path.expanduser(str(self.lists)))
        folder = root / given if (root / given).is_dir() else given
        if not (folder / "train.txt").is_file():
            raise DataError(
                f"data.lists={self.lists} has no train.txt, neither in data.root={root} nor here.",
                key="data.lists",
                fix="Set data.lists=DIR to the folder of train.txt, val.txt and test.txt, with a name in each line.",
            )
        return folder

    def nothing(self, root: Path, split: str, found: Mapping[str, Sequence[Frame]]) -> DataError:
        """The error for a split without images.

        Args:
            root: The folder.
            split: Which split.
            found: The frames of all.
        """
        others = [name for name in SPLITS if found[name]]
        count = sum(len(frames) for frames in found.values())
        if split == "train" and count == len(others) > 0:  # too few to draw from
            return DataError(
                f"data.root={root} has {plural(count, 'image')}, for {' and '.join(others)}: none is left to train on.",
                key="data.root",
                fix="Add images with masks, two at least to train on.",
            )
        if others:
            return DataError(
                f"data.root={root} has no {split} images: there are {' and '.join(others)}.",
                key="data.root",
                fix="Add them (data.images, or a list in data.lists), or draw "
                + ("fewer of the others" if split == "train" else "them")
                + f" with data.random_split.{'test' if split == 'test' else 'val'}=SHARE.",
            )
        return DataError(
            f"data.root={root} has no images: none fits data.images={self.images}.",
            key="data.root",
            fix="Put images into images/, or images/{train,val,test}/, and masks of equal names into masks/ alike, or "
            "say where they are: 'data.images=\"photos/{name}.jpg\"' 'data.masks=\"labels/{name}.png\"'.",
        )


def folder_source(root: str | Path | None, settings: Mapping[str, Any]) -> Source:
    """The data set of a folder.

    Args:
        root: The folder.
        settings: `images`, `masks`, `lists`, `classes` (a file; None for `classes.yaml` in the root) and
            `random_split`, each None or absent for its default.

    Raises:
        RequestError: A setting, or a value in the file of classes, is not what it must be.
    """
    frames = folder_frames(settings)
    folder = checked_root(root)
    propose = f"{check_command({**settings, 'root': folder})} write=true"
    found = read_classes(classes_file(folder, settings), data_name(folder), propose)
    return Source(found.table, frames, colors=found.colors, drawn=frames.drawn)


def folder_frames(settings: Mapping[str, Any]) -> FolderFrames:
    """What lists the frames of a folder; arguments as `folder_source` takes them."""
    given = {key: settings[key] for key in ("images", "masks", "lists") if settings.get(key) is not None}
    return FolderFrames(**given, random_split=RandomSplit(**(settings.get("random_split") or {})))


def classes_file(root: Path, settings: Mapping[str, Any]) -> Path:
    """The file that says what the classes are: the one of `classes`, or `classes.yaml` in the root."""
    named = settings.get("classes")
    if named is not None and not isinstance(named, str):
        raise refused("data.classes", named, "a file; classes.yaml in data.root is the default")
    return Path(os.path.expanduser(str(named))) if named else root / FILE


def data_name(root: Path) -> str:
    """What a data set is called that does not say so itself."""
    return root.resolve().name


def checked_root(root: str | Path | None) -> Path:
    """The folder that was named.

    Raises:
        DataError: None was, or it is none.
    """
    if root is None or str(root) == "":
        raise DataError(
            "data.root is not set: it is the folder that holds images/ and masks/.",
            key="data.root",
            fix="Set data.root=DIR.",
        )
    folder = Path(os.path.expanduser(str(root)))
    if not folder.is_dir():
        raise DataError(
            f"data.root={root} does not exist or is not a folder.", key="data.root", fix="Set data.root=DIR."
        )
    return folder


def check_command(data: Mapping[str, Any], main: str = "check_data") -> str:
    """The command that looks at every file of a data set; another `main` with the same `data` config."""
    defaults = {field.name: field.default for field in fields(FolderFrames)}
    given = {key: data[key] for key in PLACES if data.get(key) not in (None, defaults.get(key))}
    shown = " ".join(_as_typed(f"data.{key}", str(value)) for key, value in given.items())
    return f"python src/{main}.py data={data.get('dataset', NAME)} {shown}"


def _as_typed(key: str, value: str) -> str:
    """A setting as it is typed in a shell, quoted where the shell or Hydra needs it."""
    plain = value.translate(str.maketrans("", "", "/_-.")).isalnum()
    return f"{key}={value}" if plain else shlex.quote(f'{key}="{value}"')


def with_masks(frames: Sequence[Frame], root: Path, masks: str, *, required: bool) -> list[Frame]:
    """The frames, whose masks are there.

    Args:
        frames: Of one split.
        root: The folder.
        masks: Pattern of the masks, for the message.
        required: Whether each must have one; otherwise all may be without.

    Raises:
        DataError: A mask is missing.
    """
    missing = [frame for frame in frames if frame.label is None]
    if missing and (required or len(missing) < len(frames)):
        raise DataError(
            f"{missing[0].image} has no mask: data.masks={masks} in data.root={root} names no file for "
            f"{missing[0].name} ({len(missing)} of {len(frames)} images have none).",
            key="data.root",
            fix="Add the mask, or remove the image."
            if len(missing) < len(frames)
            else "Give the masks the names of the images, or say how they are called, as in "
            "'data.masks=\"masks/{name}_mask.png\"'.",
        )
    return list(frames)


def _named(frames: Mapping[str, Frame], line: str) -> Frame | None:
    """The frame of a line of a list: a name, which may have a suffix, and a second column after it."""
    for name in (line, line.split()[0]):
        stem, suffix = os.path.splitext(name)
        for form in (name, stem) if suffix.lower() in SUFFIXES else (name,):
            if form in frames:
                return frames[form]
    return None
