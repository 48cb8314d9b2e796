"""Proposing `classes.yaml` from what the masks hold."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fastscnn.data.check.look import Look
from fastscnn.data.datasets.class_file import MOST, Classes, distinct_colors
from fastscnn.data.datasets.classes import CAMVID, CITYSCAPES, IGNORE_INDEX, ClassTable
from fastscnn.data.datasets.colors import Color, ColorMap, color_of

BLACK: Color = (0, 0, 0)


class Proposal(NamedTuple):
    """Classes that fit what the masks hold.

    Attributes:
        classes: The classes; None where none can be proposed.
        why_not: Why, as the end of a sentence without its full stop.
    """

    classes: Classes | None
    why_not: str = ""


def propose(looks: Sequence[Look], name: str) -> Proposal:
    """Propose classes for all values, or for all colours, that the masks of some frames hold.

    Colours are those of Cityscapes or CamVid where all of them are, and then have their names. 255 is ignored, unless
    0 is the only other value; so is black beside the colours of a known table.

    Args:
        looks: Of all frames.
        name: Of the data set.
    """
    masks = [look.mask for look in looks if look.mask]
    if not masks:
        return Proposal(None, "there is no mask that can be read")
    palettes = {(value, color) for mask in masks for value, color in mask.palette.items()}
    agree = len({value for value, _ in palettes}) == len(palettes)  # a program may write each file its own palette
    if agree and all(mask.values is not None for mask in masks):
        values = sorted({value for mask in masks for value in mask.values or ()})
        return _of_values(values, dict(palettes), name)
    pixels: Counter[int] = Counter()
    for mask in masks:
        pixels.update(mask.colors)
    if len(pixels) > MOST or any(mask.cut for mask in masks):
        return Proposal(
            None,
            f"the masks hold more than {MOST} colours, as photographs do, or masks that were saved as JPEG or resized",
        )
    return _of_colors([color_of(number) for number, _ in pixels.most_common()], name)


def _of_values(values: Sequence[int], palette: dict[int, int], name: str) -> Proposal:
    ignored = [IGNORE_INDEX] if IGNORE_INDEX in values and list(values) not in ([0, 255], [255]) else []
    kept = [value for value in values if value not in ignored]
    known = {value: color_of(palette[value]) for value in kept if value in palette}
    spare = (color for color in distinct_colors(2 * MOST) if color not in known.values())
    unique = len(set(known.values())) == len(known)
    colors = tuple(known[value] if value in known and unique else next(spare) for value in kept)
    names = tuple(f"class {value}" for value in kept)
    spared = tuple(ignored) if ignored or IGNORE_INDEX in kept else (IGNORE_INDEX,)
    return Proposal(Classes(ClassTable(name, names, colors, tuple(kept), spared)))


def _of_colors(colors: Sequence[Color], name: str) -> Proposal:
    """The most frequent first, unless they are of a known table, whose order they then have."""
    for table in (CITYSCAPES, CAMVID):
        known = dict(zip(table.colors, table.names, strict=True))
        if {*colors} <= {*known, BLACK} and {*colors} & {*known}:
            ordered = [color for color in table.colors if color in colors]
            names = [known[color] for color in ordered]
            ignored = [BLACK] if BLACK in colors and BLACK not in known else []
            return _mapped(names, ordered, ignored, name)
    names = ["background" if color == BLACK else f"class {place}" for place, color in enumerate(colors)]
    return _mapped(names, colors, [], name)


def _mapped(names: Sequence[str], colors: Sequence[Color], ignored: Sequence[Color], name: str) -> Proposal:
    table = ClassTable(name, tuple(names), tuple(colors), tuple(range(len(names))), (IGNORE_INDEX,))
    return Proposal(Classes(table, ColorMap(tuple(colors), tuple(ignored))))
