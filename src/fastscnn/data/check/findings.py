"""What is wrong with a data set: from what its files hold to findings, each with its files and its fix."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastscnn.data.check.look import Look, Mask
from fastscnn.data.datasets.class_file import Classes
from fastscnn.data.datasets.colors import color_of
from fastscnn.data.datasets.frames import Reading
from fastscnn.utils.text import plural

UNPACK = "Unpack the official archives again."
SHOWN = 100
"""Files of a finding that the JSON names."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        kind: In one word, such as `unreadable`.
        problem: A sentence without its full stop.
        files: The files that it is about; may be empty.
        fix: What to do, as a sentence.
    """

    kind: str
    problem: str
    fix: str
    files: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """What the JSON says of it."""
        files = {"count": len(self.files), "files": list(self.files[:SHOWN])} if self.files else {}
        return {"kind": self.kind, "problem": self.problem, **files, "fix": self.fix}

    def __str__(self) -> str:
        first = f": {self.files[0]}" if self.files else ""
        more = f" and {len(self.files) - 1:,} more" if len(self.files) > 1 else ""
        return f"{self.problem}{first}{more}. {self.fix}"


def find(looks: Sequence[Look], classes: Classes | None, reading: Reading, *, own: bool = True) -> list[Finding]:
    """All findings about files that were looked at.

    Args:
        looks: Of all frames of all splits.
        classes: What masks may hold; None where that is not known.
        reading: How images are read.
        own: Whether the classes are the user's own, in `classes.yaml`.
    """
    found = [*_unreadable(looks), *_sizes(looks), *_orientations(looks, reading), *_equal(looks), *_lossy(looks)]
    return [*found, *_contents(looks, classes, own), *_absent(looks, classes, own)] if classes else found


def class_pixels(mask: Mask | None, classes: Classes) -> Counter[int]:
    """Pixels of each train id in a mask; what is no class has the ignored index."""
    pixels: Counter[int] = Counter()
    for train_id, count in _by_class(mask, classes)[0].items():
        pixels[train_id] += count
    return pixels


def _by_class(mask: Mask | None, classes: Classes) -> tuple[Counter[int], Counter[str]]:
    """Pixels of each train id, and of each value or colour that is none."""
    pixels: Counter[int] = Counter()
    unknown: Counter[str] = Counter()
    if mask is None:
        return pixels, unknown
    if classes.colors:
        known = {_number(color): place for place, color in enumerate(classes.colors.colors)}
        known |= {_number(color): classes.table.ignore_index for color in classes.colors.ignored}
        for color, count in mask.colors.items():
            pixels[known.get(color, -1)] += count
            unknown[str(list(color_of(color)))] += count * (color not in known)
    else:
        train_ids = classes.table.train_ids
        for value, count in (mask.values or {}).items():
            pixels[int(train_ids[value])] += count
            unknown[str(value)] += count * bool(train_ids[value] < 0)
    pixels.pop(-1, None)
    return pixels, +unknown


def _unreadable(looks: Sequence[Look]) -> Iterator[Finding]:
    problems = [problem for look in looks for problem in look.unreadable]
    if problems:
        yield Finding(
            "unreadable",
            f"{plural(len(problems), 'file')} cannot be read",
            "Repair or remove it.",
            tuple(problem.rstrip(".") for problem in problems),
        )


def _sizes(looks: Sequence[Look]) -> Iterator[Finding]:
    wrong = [look for look in looks if look.size and look.mask and look.size != look.mask.size]
    if wrong:
        files = tuple(
            f"{look.frame.label} is {_size(look.mask.size)}, its image {_size(look.size)}"
            for look in wrong
            if look.mask and look.size
        )
        yield Finding(
            "size",
            f"{plural(len(wrong), 'mask')} {_are(wrong)} of another size than the image",
            "Resize the mask with nearest neighbour, or replace it.",
            files,
        )


def _orientations(looks: Sequence[Look], reading: Reading) -> Iterator[Finding]:
    turned = [str(look.frame.image) for look in looks if look.orientation != 1]
    if turned and reading.exif == "refuse":
        yield Finding(
            "exif",
            f"{plural(len(turned), 'image')} {_are(turned)} turned by viewers (EXIF orientation)",
            "Set data.exif=apply where masks were drawn on the upright picture, or data.exif=ignore.",
            tuple(turned),
        )


def _equal(looks: Sequence[Look]) -> Iterator[Finding]:
    by_digest: defaultdict[str, list[Look]] = defaultdict(list)
    for look in looks:
        if look.digest:
            by_digest[look.digest].append(look)
    shared = [same for same in by_digest.values() if len({look.split for look in same}) > 1]
    if shared:
        files = tuple(" = ".join(f"{look.split} {look.frame.image}" for look in same) for same in shared)
        yield Finding(
            "equal",
            f"{plural(len(shared), 'image')} {_are(shared)} in two splits, pixel for pixel",
            "Take it out of one of them: what was trained on cannot be evaluated.",
            files,
        )


def _lossy(looks: Sequence[Look]) -> Iterator[Finding]:
    lossy = [str(look.frame.label) for look in looks if look.mask and look.mask.mode.startswith("JPEG")]
    if lossy:
        yield Finding(
            "lossy",
            f"{plural(len(lossy), 'mask')} {_are(lossy)} saved as JPEG, which mixes colours",
            "Export masks as PNG.",
            tuple(lossy),
        )


def _contents(looks: Sequence[Look], classes: Classes, own: bool) -> Iterator[Finding]:
    """Masks that hold something that stands for no class."""
    if not classes.colors:
        colored = [str(look.frame.label) for look in looks if look.mask and look.mask.values is None]
        if colored:
            fix = "Write masks: colors into classes.yaml, with the color of each class, or use the files of values."
            yield Finding(
                "colours",
                f"{plural(len(colored), 'mask')} {'hold' if len(colored) > 1 else 'holds'} "
                "colours where values are expected",
                fix if own else UNPACK,
                tuple(colored),
            )
    unknown: Counter[str] = Counter()
    files: dict[str, str] = {}
    for look in looks:
        others = _by_class(look.mask, classes)[1]
        unknown.update(others)
        if others:
            files[str(look.frame.label)] = others.most_common(1)[0][0]
    if unknown:
        what = "colour" if classes.colors else "value"
        listed = ", ".join(f"{value} ({pixels:,} pixels)" for value, pixels in unknown.most_common(5))
        more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
        fix = f"Add the {what} to classes.yaml, as a class or under ignored, or correct the masks."
        yield Finding(
            "unknown",
            f"{plural(len(unknown), what)} of masks {_are(unknown)} no class and not ignored, {listed}{more}",
            fix if own else UNPACK,
            tuple(f"{file} ({what} {value})" for file, value in files.items()),
        )


def _absent(looks: Sequence[Look], classes: Classes, own: bool) -> Iterator[Finding]:
    shown: Counter[int] = Counter()
    for look in looks:
        if look.split == "train":
            shown.update(class_pixels(look.mask, classes))
    names = [name for train_id, name in enumerate(classes.table.names) if not shown[train_id]]
    if names and shown:
        yield Finding(
            "absent",
            f"{', '.join(names)} never {'occur' if len(names) > 1 else 'occurs'} in train",
            "Add frames that show it, or take the class out of classes.yaml." if own else UNPACK,
        )


def _number(color: Sequence[int]) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _are(items: Sequence[object] | Mapping[Any, Any]) -> str:
    return "are" if len(items) > 1 else "is"
