"""Which frames of an evaluation its network was trained on, whatever option and folder they are read by."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from fastscnn.data.datamodules.adapted import NAME as EXTERNAL
from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.frames import Frame
from fastscnn.data.datasets.splits import chosen_frames
from fastscnn.inference.hub import on_disk
from fastscnn.inference.loader import Checkpoint, open_checkpoint
from fastscnn.runs.safetensors import WEIGHTS, is_saved
from fastscnn.streets.writer import MANIFEST
from fastscnn.training.evaluated_data import data_config
from fastscnn.utils.digests import digest_of
from fastscnn.utils.errors import RequestError

INIT = "init"
"""Part of a config that names the weights that a training began with."""
STREETS = "streets"
PUBLISHED = ("camvid", "fine", "fine_coarse")
"""Data sets of which a copy in another folder has the same frames, of names that no other frames have."""
SUFFIX = "_leftImg8bit"
"""Of Cityscapes' images, which a copy may have lost."""


def seen_frames(
    checkpoint: Checkpoint, data: SegmentationData, split: str, trust: str | Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """Frames of a split that a network was trained on, or one whose weights it began with, and so on to the first.

    A frame is known again by its file, by the content of this, and by its name where that is one of Cityscapes or
    CamVid, whose files may be compressed anew.

    Args:
        checkpoint: Of the network.
        data: What is evaluated.
        split: The split of it.
        trust: As `open_checkpoint` takes it.

    Returns:
        The names of these frames; and what could not be compared with them, as parts of a sentence.
    """
    seen: dict[str, None] = {}
    unknown = []
    for trained, place in _trainings(checkpoint, trust):
        own = trained.config.get("data") if trained else None
        if not own:
            unknown.append(f"those of {place}")
        elif (names := _seen_in(own, data, split, place)) is None:
            unknown.append(f"data={own['dataset']}")
        else:
            seen |= dict.fromkeys(names)
    return list(seen), list(dict.fromkeys(unknown))


def _trainings(
    checkpoint: Checkpoint, trust: str | Sequence[str] | None
) -> Iterator[tuple[Checkpoint | None, str | Path]]:
    """A checkpoint, that which its training began with, and so on; None for one that cannot be read. With its place."""
    places = set()
    found: Checkpoint | None = checkpoint
    while found is not None:
        yield found, found.source
        if INIT not in found.config and is_saved(on_disk(found.source)):  # an export of before does not say
            yield None, f"what {found.source} began with"
            return
        init = found.config.get(INIT) or {}
        start = init.get("checkpoint")
        if not start or start in places:
            return
        places.add(start)
        try:
            found = open_checkpoint(start, trust=trust)
        except RequestError:
            yield None, start
            return
        place = on_disk(start)
        wanted = init.get("sha256")
        if wanted and wanted != digest_of(place / WEIGHTS if place.is_dir() else place):
            yield None, start  # what lies there is compared, but is no longer what the training began with


def _seen_in(own: Mapping[str, Any], data: SegmentationData, split: str, checkpoint: str | Path) -> list[str] | None:
    """Names of the frames of a split that are among those of a training's `data` config; None if these are gone."""
    drawn = own["dataset"] == STREETS or bool(own.get("streets"))
    if drawn and not _is_drawn(data):
        return []  # no photograph was drawn
    trained = _trained_frames(own, data, checkpoint)
    if trained is None:
        return None
    files = {frame.image.resolve() for frame in trained}
    named = own["dataset"] in PUBLISHED and not drawn
    names = {_name(frame) for frame in trained} if named else set()
    by_size = defaultdict(list)
    for file in files:
        if file.is_file():
            by_size[file.stat().st_size].append(file)

    @cache
    def contents(size: int) -> set[str]:
        return {digest_of(file) for file in by_size[size]}

    def seen(frame: Frame) -> bool:
        file = frame.image.resolve()
        if file in files or _name(frame) in names:
            return True
        size = file.stat().st_size
        return size in by_size and digest_of(file) in contents(size)

    return [frame.name for frame in data.frames(split) if seen(frame)]


def _name(frame: Frame) -> str:
    return frame.image.stem.removesuffix(SUFFIX)


def _is_drawn(data: SegmentationData) -> bool:
    return data.streets is not None or (data.root is not None and (Path(data.root) / MANIFEST).is_file())


def _trained_frames(own: Mapping[str, Any], data: SegmentationData, checkpoint: str | Path) -> Sequence[Frame] | None:
    """The frames where they were trained on; of a published set that is gone, those of the evaluated folder."""
    if own["dataset"] == EXTERNAL:
        return None
    config = data_config({}, own, checkpoint)
    tries = [config]
    if own["dataset"] == "fine_coarse":
        tries.append(config | {"dataset": "fine"})  # where the coarse frames are gone
    if own["dataset"] in PUBLISHED and not _is_drawn(data) and data.root is not None:
        tries += [one | {"root": str(data.root)} for one in tries]
    for one in tries:
        try:
            source = build_data(one)
            frames = partial(source.source.frames, source.root)
            return chosen_frames("train", frames, own.get("train_splits") or ("train",), own.get("held_out"))
        except RequestError:
            continue
    return None
