"""What was found in a data set, as one table and as JSON."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table

from fastscnn.data.check.check import Report
from fastscnn.data.check.findings import class_pixels
from fastscnn.data.check.look import Look
from fastscnn.data.datasets.colors import color_of
from fastscnn.data.datasets.folder_splits import SPLITS


def table(report: Report) -> Table:
    """A column for each split; rows of what its files are, then the share of the pixels of each class."""
    looks = {split: [look for look in report.looks if look.split == split] for split in SPLITS}
    shown = Table(title=f"{report.dataset}: {report.root}", title_justify="left")
    shown.add_column("")
    for split in SPLITS:
        shown.add_column(split, justify="right")

    def add(name: str, cell: Callable[[Sequence[Look]], str]) -> None:
        shown.add_row(name, *(cell(looks[split]) if looks[split] else "-" for split in SPLITS))

    add("images", lambda found: f"{len(found):,}")
    add("with a mask", lambda found: f"{sum(look.frame.label is not None for look in found):,}")
    add("sizes", lambda found: _sizes(Counter(look.size for look in found if look.size)))
    add("kinds of images", lambda found: _listed(Counter(look.mode for look in found if look.mode)))
    add("kinds of masks", lambda found: _listed(Counter(look.mask.mode for look in found if look.mask)))
    if report.classes is None:
        return shown
    pixels = {split: _class_counts(report, looks[split]) for split in SPLITS}
    names = report.classes.table.names
    for place, name in enumerate([*names, "ignored"]):
        train_id = place if place < len(names) else report.classes.table.ignore_index
        shown.add_row(name, *(_share(pixels[split], train_id) for split in SPLITS), end_section=place == len(names) - 1)
    return shown


def record(report: Report) -> dict[str, Any]:
    """All of it in plain containers."""
    splits = {}
    for split in SPLITS:
        looks = [look for look in report.looks if look.split == split]
        masks = [look.mask for look in looks if look.mask]
        sizes = Counter("x".join(map(str, look.size)) for look in looks if look.size)
        splits[split] = {
            "images": len(looks),
            "masks": sum(look.frame.label is not None for look in looks),
            "sizes": dict(sizes.most_common()),
            "image_modes": dict(Counter(look.mode for look in looks if look.mode).most_common()),
            "mask_modes": dict(Counter(mask.mode for mask in masks).most_common()),
            "values": _summed([mask.values for mask in masks if mask.values is not None], str),
            "colors": _summed(
                [mask.colors for mask in masks if mask.values is None or mask.palette],
                lambda number: str(list(color_of(number))),
            ),
        }
        if report.classes:
            counts = _class_counts(report, looks)
            splits[split]["pixels"] = {name: counts[place] for place, name in enumerate(report.classes.table.names)}
            splits[split]["ignored"] = counts[report.classes.table.ignore_index]
    return {
        "data": report.dataset,
        "root": str(report.root.resolve()),
        "splits": splits,
        "findings": [finding.record() for finding in report.findings],
        **({"proposed": report.proposed} if report.proposed else {}),
    }


def _class_counts(report: Report, looks: Sequence[Look]) -> Counter[int]:
    total: Counter[int] = Counter()
    if report.classes:
        for look in looks:
            total.update(class_pixels(look.mask, report.classes))
    return total


def _summed(counts: Sequence[Any], name: Callable[[int], str]) -> dict[str, int]:
    total: Counter[int] = Counter()
    for one in counts:
        total.update(one)
    return {name(number): pixels for number, pixels in sorted(total.items())}


def _share(pixels: Counter[int], train_id: int) -> str:
    whole = sum(pixels.values())
    return "-" if not whole else f"{100 * pixels[train_id] / whole:.2f} %" if pixels[train_id] else "0"


def _sizes(sizes: Counter[Any]) -> str:
    if len(sizes) > 2:
        heights, widths = zip(*sizes, strict=True)
        return f"{len(sizes):,} sizes, {min(heights)}x{min(widths)} to {max(heights)}x{max(widths)}"
    return ", ".join(f"{height}x{width}" for (height, width), _ in sizes.most_common())


def _listed(kinds: Counter[str]) -> str:
    first = ", ".join(f"{kind} ({count:,})" if len(kinds) > 1 else kind for kind, count in kinds.most_common(3))
    return first + (f" and {len(kinds) - 3} more" if len(kinds) > 3 else "")
