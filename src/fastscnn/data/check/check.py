"""Looking at a whole data set: its layout, every file, and what is wrong with them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastscnn.data.check.findings import UNPACK, Finding, find
from fastscnn.data.check.look import Look, look_at
from fastscnn.data.check.propose import Proposal, propose
from fastscnn.data.datamodules.build import build_data, reading_of
from fastscnn.data.datasets.class_file import Classes, class_lines, read_classes
from fastscnn.data.datasets.folder import (
    FolderFrames,
    check_command,
    checked_root,
    classes_file,
    data_name,
    folder_frames,
    with_masks,
)
from fastscnn.data.datasets.folder_splits import NAME, SPLITS
from fastscnn.data.datasets.frames import DataError, Frame
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_writable, write_text
from fastscnn.utils.text import plural

FINE = {"train fine": 2975, "val fine": 500, "test fine": 1525}
OFFICIAL = {
    "fine": FINE,
    "fine_coarse": FINE | {"train coarse": 19998},
    "camvid": {"train camvid": 367, "val camvid": 101, "test camvid": 233},
}
"""Frames of each split and set, as published."""
BLACK = "troisdorf_000000_000073"
"""The black frame of `train_extra`, which some leave out."""
Listed = dict[str, list[Frame]]


@dataclass(frozen=True)
class Report:
    """What was found in a data set.

    Attributes:
        dataset: Its name.
        root: Its folder.
        frames: Of each split.
        looks: At every frame.
        classes: What masks may hold: the classes of the data set or, where `classes.yaml` is missing, those proposed.
        findings: What is wrong.
        proposed: The content of `classes.yaml` that was proposed; empty where there is one.
    """

    dataset: str
    root: Path
    frames: Mapping[str, Sequence[Frame]]
    looks: Sequence[Look]
    classes: Classes | None
    findings: Sequence[Finding]
    proposed: str = ""


def check(data: Mapping[str, Any], *, write: bool = False) -> Report:
    """Look at every file of a data set.

    Args:
        data: A `data` config.
        write: For a folder: write the `classes.yaml` that is proposed, where there is none.

    Raises:
        RequestError: A setting is wrong, there is no such folder, or the file of classes is there already, or cannot be
            written.
    """
    if data["dataset"] == "imagenet":
        raise RequestError(
            "data=imagenet has no masks to look at.", key="data", fix="Choose a data set of segmentation."
        )
    if data["dataset"] == NAME:
        return _check_folder(data, write)
    if write:
        raise RequestError(f"write=true is for data={NAME}.", key="write", fix="Leave write out.")
    built = build_data({**data, "store": "off"})
    built.prepare_data()
    frames: Listed = {}
    findings = []
    for split in SPLITS:
        try:
            frames[split] = built.source.frames(built.root, split)
        except DataError as error:
            if built.root is None or not Path(built.root).is_dir():
                raise
            frames[split] = []
            findings.append(_layout(error))
    findings += _counts(data["dataset"], frames) if not built.synthetic else []
    looks = look_at(frames, built.reading)
    classes = Classes(built.classes)
    findings += find(looks, classes, built.reading, own=False)
    return Report(data["dataset"], Path(str(built.root)), frames, looks, classes, findings)


def _check_folder(data: Mapping[str, Any], write: bool) -> Report:
    root = checked_root(data["root"])
    listing, file = folder_frames(data), classes_file(root, data)
    classes = read_classes(file, data_name(root), "") if file.exists() else None
    if write and classes:
        raise RequestError(
            f"write=true, and {file} is there already.", key="write", fix="Leave write out, or move the file."
        )
    if write:
        check_writable(file.parent, "data.classes")
    reading = reading_of(data)
    frames, findings = _listed(listing, root)
    looks = look_at(frames, reading)
    proposed = ""
    if classes is None:
        proposal = propose(looks, data_name(root))
        classes, proposed = proposal.classes, proposed_lines(proposal, looks)
        findings += [*_proposal_findings(proposal, file, data, write)]
        if write and proposed:
            write_text(file, proposed)
    return Report(NAME, root, frames, looks, classes, [*findings, *find(looks, classes, reading)], proposed)


def proposed_lines(proposal: Proposal, looks: Sequence[Look]) -> str:
    """The content of a `classes.yaml`, with the share and the number of masks of each class beside it."""
    if proposal.classes is None:
        return ""
    table, mapped = proposal.classes.table, proposal.classes.colors
    numbers = (
        [red << 16 | green << 8 | blue for red, green, blue in mapped.colors] if mapped else list(table.file_values)
    )
    found = [mask.colors if mapped else mask.values or {} for look in looks if (mask := look.mask)]
    whole = max(sum(sum(counts.values()) for counts in found), 1)
    notes = []
    for number in numbers:
        pixels, masks = sum(counts.get(number, 0) for counts in found), sum(number in counts for counts in found)
        notes.append(f"{100 * pixels / whole:.2f} % of the pixels, in {plural(masks, 'mask')}")
    head = (
        "# Proposed from the masks by check_data.py. Give the classes their names, and move values or colours of\n"
        "# pixels without a class to `ignored`. A class may have a `category: NAME`, then all of them need one.\n"
    )
    return head + class_lines(proposal.classes, notes)


def _listed(listing: FolderFrames, root: Path) -> tuple[Listed, list[Finding]]:
    """The frames of a folder, and what is wrong with its layout."""
    try:
        division = listing.division(root)
        alone, unused = listing.masks_alone(root), listing.in_no_split(root)
    except DataError as error:
        return {split: [] for split in SPLITS}, [_layout(error)]
    frames = {split: list(division.frames[split]) for split in SPLITS}
    findings = []
    for split in SPLITS:
        try:
            with_masks(frames[split], root, listing.masks, required=split != "test")
        except DataError as error:
            without = tuple(str(frame.image) for frame in frames[split] if frame.label is None)
            problem = f"{plural(len(without), f'{split} image')} {'have' if len(without) > 1 else 'has'} no mask"
            findings.append(Finding("no mask", problem, error.fix, without))
    for split in ("train", "val"):
        if not frames[split]:
            findings.append(_layout(listing.nothing(root, split, frames)))
            if not any(frames.values()):
                break  # the same is wrong with all of them
    if alone:
        problem = f"{plural(len(alone), 'mask')} {'have' if len(alone) > 1 else 'has'} no image"
        findings.append(Finding("no image", problem, "Add the image, or remove the mask.", tuple(map(str, alone))))
    if unused:
        problem = f"{plural(len(unused), 'image')} {'are' if len(unused) > 1 else 'is'} in no split"
        fix = "Name the folders of the splits train, val and test, and move or remove what is beside them."
        findings.append(Finding("unused", problem, fix, tuple(map(str, unused))))
    return frames, findings


def _proposal_findings(proposal: Proposal, file: Path, data: Mapping[str, Any], write: bool) -> list[Finding]:
    if proposal.classes is None:
        fix = "Correct the masks, then call this again."
        return [Finding("classes", f"{file} is missing, and none can be proposed: {proposal.why_not}", fix)]
    if write:
        return []
    fix = f"`{check_command(data)} write=true` writes the one that is proposed above."
    return [Finding("classes", f"{file} is missing", fix)]


def _counts(dataset: str, frames: Listed) -> list[Finding]:
    """Frames of each split and set against the published numbers."""
    found: Counter[str] = Counter(f"{split} {frame.source}" for split in SPLITS for frame in frames[split])
    names = {frame.name for frame in frames["train"]}
    findings = []
    for key, expected in OFFICIAL.get(dataset, {}).items():
        split, source = key.split()
        black_only = source == "coarse" and found[key] == expected - 1 and BLACK not in names
        if found[key] and found[key] != expected and not black_only:  # none at all is said already
            problem = f"{split} has {found[key]:,} {source} frames, and {expected:,} are published"
            findings.append(Finding("count", problem, UNPACK))
    return findings


def _layout(error: DataError) -> Finding:
    return Finding("layout", str(error.args[0]).rstrip("."), error.fix)
