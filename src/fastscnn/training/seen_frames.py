"""Which frames of an evaluation its network was trained on, whatever option and folder they are read by."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from fastscnn.data.datamodules.adapted import NAME as EXTERNAL
from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.folder_splits import NAME as FOLDER
from fastscnn.data.datasets.frames import Frame
from fastscnn.data.datasets.splits import chosen_frames
from fastscnn.training.evaluated_data import data_config
from fastscnn.utils.digests import digest_of
from fastscnn.utils.errors import RequestError

STREETS = "streets"
OWN_NAMES = (STREETS, FOLDER)
"""Data sets whose frames may have the names of others."""


def seen_frames(
    own: Mapping[str, Any], data: SegmentationData, split: str, checkpoint: str | Path | None = None
) -> list[str] | None:
    """Names of the frames of a split that a network was trained on; None where what it was trained on is not at hand.

    A frame is known again by its file, by the content of this, and by its name where that is one of Cityscapes or
    CamVid, whose files may be compressed anew.

    Args:
        own: The data config that the network was trained with.
        data: What is evaluated.
        split: The split of it.
        checkpoint: The file of the network, beside which a run keeps the splits that it drew.
    """
    trained = _trained_frames(own, data, checkpoint)
    if trained is None:
        return None
    files = {frame.image.resolve() for frame in trained}
    names = set() if own["dataset"] in OWN_NAMES else {frame.image.stem for frame in trained}
    by_size = defaultdict(list)
    for file in files:
        by_size[file.stat().st_size].append(file)

    @cache
    def contents(size: int) -> set[str]:
        return {digest_of(file) for file in by_size[size]}

    def seen(frame: Frame) -> bool:
        file = frame.image.resolve()
        if file in files or frame.image.stem in names:
            return True
        size = file.stat().st_size
        return size in by_size and digest_of(file) in contents(size)

    return [frame.name for frame in data.frames(split) if seen(frame)]


def _trained_frames(
    own: Mapping[str, Any], data: SegmentationData, checkpoint: str | Path | None
) -> Sequence[Frame] | None:
    """The frames where they were trained on; if they are gone, those that the evaluated folder has in their place."""
    if own["dataset"] == EXTERNAL:
        return None
    config = data_config({}, own, checkpoint)
    roots = [config.get("root")]
    if own["dataset"] == data.dataset or STREETS not in (own["dataset"], data.dataset):
        roots.append(None if data.root is None else str(data.root))
    for root in roots:
        try:
            source = build_data({**config, "root": root})
            frames = partial(source.source.frames, source.root)
            return chosen_frames("train", frames, own.get("train_splits") or ("train",), own.get("held_out"))
        except RequestError:
            continue
    return None
