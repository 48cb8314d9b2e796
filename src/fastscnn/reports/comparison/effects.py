"""Differences to a baseline as the page shows them: a forest plot, and class IoU as a heat map."""

from collections.abc import Mapping, Sequence

from fastscnn.reports.comparison.content import Gap, Table
from fastscnn.reports.comparison.groups import Group, Spread
from fastscnn.reports.comparison.unlike import NAMED, compared

FULL_COLOUR = 5.0
"""Percentage points of a class's IoU that get the full colour, or more where a difference is larger."""


def gaps(
    groups: Sequence[Group], baselines: Mapping[str, Group], metric: str, named: Sequence[str] = NAMED
) -> list[Gap]:
    """The difference of each group to the baseline of its data, the highest first; what is not compared comes last."""
    found = []
    for group in groups:
        baseline = baselines.get(group.first.place)
        if baseline is None or group is baseline or not group.values(metric):
            continue
        gap, reason = compared(group, baseline, metric, named)
        text = str(gap) if gap else reason or "no difference"
        mean, interval = (gap.mean, gap.interval) if gap else (None, None)
        found.append(Gap(group.first.place, group.label, baseline.label, mean, interval, text))
    order = list(dict.fromkeys(group.first.place for group in groups))
    return sorted(found, key=lambda gap: (order.index(gap.place), gap.mean is None, -(gap.mean or 0)))


def class_tables(groups: Sequence[Group], baselines: Mapping[str, Group], metric: str) -> list[Table]:
    """For each data set, each group's class IoU as differences to the baseline's means, in points."""
    split = metric.partition("/")[0]
    tables = []
    for place, baseline in baselines.items():
        base = _means(baseline, split)
        others = [group for group in groups if group.first.place == place and group is not baseline]
        rows, full = [], FULL_COLOUR
        for group in others:
            means = _means(group, split)
            apart = {name: means[name] - base[name] for name in base if name in means}
            cells = [f"{round(apart[name], 1) + 0.0:+.1f}" if name in apart else "" for name in base]
            full = max([full, *map(abs, apart.values())])
            if any(cells):
                rows.append([group.label, *cells])
        if rows and base:
            rows.insert(0, [f"{baseline.label}, IoU %", *(f"{value:.1f}" for value in base.values())])
            caption = (
                f"The first row is the baseline's IoU in percent, at its best {metric}; the others are differences "
                "to it in points, means over seeds. Blue is better, orange is worse. Settings that differ are named "
                "in the first table."
            )
            numeric = frozenset(range(1, len(base) + 1))
            tables.append(Table(f"Class IoU: differences, {place}", ["runs", *base], rows, caption, numeric, full))
    return tables


def _means(group: Group, split: str) -> dict[str, float]:
    prefix = f"{split}/iou/"
    names = dict.fromkeys(
        name for run in group.runs.values() for name in run.record["metrics"].get("best", {}) if name.startswith(prefix)
    )
    found = {name.removeprefix(prefix): Spread.of(group.values(name).values()) for name in names}
    return {name: spread.mean for name, spread in found.items() if spread}
