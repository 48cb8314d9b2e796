"""Runs that differ in the seed alone, and what their differences are worth."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from fastscnn.reports.comparison.records import Run
from fastscnn.runs.identity import GROUPS
from fastscnn.runs.run_settings import EXECUTION_SETTINGS, in_settings

KEY_CHOICES = (*GROUPS, "experiment", "loss", "optimizer", "debug")
PLAIN_EXPERIMENTS = frozenset(
    {
        "fine_only",
        "fine_coarse",
        "fine_imagenet",
        "fine_coarse_imagenet",
        "no_skip",
        "relu6",
        "half_resolution",
        "quarter_resolution",
        "camvid",
    }
)
"""Experiments that choose options of groups and set nothing else: `experiment=fine_only` is `data=fine`."""
IRRELEVANT = (*EXECUTION_SETTINGS, "seed", "data.root")
"""Settings that say how a run was carried out, not what it is."""


@dataclass(frozen=True)
class Group:
    """Runs that were asked the same question with different seeds.

    Attributes:
        label: Unique among the groups.
        key: What the runs agree in.
        runs: Seed to its finished run, the newest where there are several.
        superseded: Finished runs that a newer one of the same seed stands for.
    """

    label: str
    key: Mapping[str, str]
    runs: Mapping[int, Run]
    superseded: Sequence[Run] = ()

    @property
    def first(self) -> Run:
        """Any run of the group."""
        return next(iter(self.runs.values()))

    @property
    def settings(self) -> dict[str, str]:
        """What the runs agree in besides the choices that the paper compares: only equals stand side by side."""
        return {name: value for name, value in self.key.items() if name not in (*GROUPS, "pretrain.checkpoint")}

    def values(self, metric: str) -> dict[int, float]:
        """Seed to the metric of the best validation, percent; seeds without it are left out."""
        found = {seed: run.metric(metric) for seed, run in self.runs.items()}
        return {seed: 100 * value for seed, value in found.items() if value is not None}


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (over n - 1) of some numbers; the deviation is None for a single one."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Of some numbers; None where there are none."""
        numbers = list(values)
        if not numbers:
            return None
        deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
        return cls(statistics.fmean(numbers), deviation, len(numbers))

    def __str__(self) -> str:
        if self.deviation is None:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} ± {self.deviation:.2f} ({self.count})"


@dataclass(frozen=True)
class Difference:
    """How much higher a mean is than the baseline's.

    Attributes:
        mean: In points of percent.
        interval: Its 95% confidence interval by Student's t; None where a side has a single seed.
        how: `paired` where both have the same seeds, `Welch` where they have not, or why there is no interval.
    """

    mean: float
    interval: tuple[float, float] | None
    how: str

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.mean:+.2f} ({self.how})"
        return f"{self.mean:+.2f} [{self.interval[0]:+.2f}, {self.interval[1]:+.2f}] {self.how}"


def difference(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Difference of two means over seeds, seed to value; None where a side is empty."""
    if not ours or not baseline:
        return None
    common = sorted(set(ours) & set(baseline))
    mean = statistics.fmean(ours.values()) - statistics.fmean(baseline.values())
    if min(len(ours), len(baseline)) < 2:
        return Difference(mean, None, "1 seed: no interval")
    if len(common) == len(ours) == len(baseline):
        pairs = [ours[seed] - baseline[seed] for seed in common]
        error, freedom, how = math.sqrt(statistics.variance(pairs) / len(pairs)), len(pairs) - 1.0, "paired"
    else:
        sides = [(statistics.variance(side.values()) / len(side), len(side) - 1) for side in (ours, baseline)]
        error, how = math.sqrt(sum(variance for variance, _ in sides)), "Welch"
        terms = sum(variance**2 / count for variance, count in sides)
        freedom = error**4 / terms if terms else 1.0
    half = error * float(stats.t.ppf(0.975, freedom))
    return Difference(mean, (mean - half, mean + half), how)


def group_key(run: Run) -> dict[str, str]:
    """What makes a run what it is, the seed aside."""
    choices = {name: run.choices[name] for name in KEY_CHOICES if name in run.choices}
    if choices.get("experiment") in PLAIN_EXPERIMENTS:
        del choices["experiment"]
    overrides = run.record.get("overrides", {})
    settings = {name: str(value) for name, value in overrides.items() if not in_settings(name, IRRELEVANT)}
    return {**choices, "place": run.place, **settings}


def group_runs(runs: Iterable[Run], key: Callable[[Run], Mapping[str, str]] = group_key) -> list[Group]:
    """Groups of finished runs by their key, in the order of their first run."""
    collected: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        if run.finished:
            collected.setdefault(tuple(sorted(key(run).items())), []).append(run)
    keys = [dict(items) for items in collected]
    groups = []
    for found, label in zip(collected.items(), _labels(keys, [runs[0] for runs in collected.values()]), strict=True):
        newest: dict[int, Run] = {}
        superseded = []
        for run in found[1]:  # oldest first
            seed = int(run.record["seed"])
            if seed in newest:
                superseded.append(newest[seed])
            newest[seed] = run
        groups.append(Group(label, dict(found[0]), dict(sorted(newest.items())), superseded))
    return groups


def default_baselines(groups: Sequence[Group], metric: str) -> dict[str, Group]:
    """For each kind of data the group that the others are compared with.

    It is the one with the most choices at their default, fine labels before coarse ones; among equals the one with the
    most seeds, then the one with whose settings the most other groups were run.
    """
    alike = Counter(frozenset(group.settings.items()) for group in groups)

    def rank(group: Group) -> tuple[int, int, int]:
        choices = group.first.choices
        usual = sum(choices.get(name, default) == default for name, default in GROUPS.items() if name != "data")
        coarse = choices.get("data") == "fine_coarse"
        return usual - coarse, len(group.runs), alike[frozenset(group.settings.items())]

    best: dict[str, Group] = {}
    for group in groups:
        place = group.first.place
        if group.values(metric) and (place not in best or rank(group) > rank(best[place])):
            best[place] = group
    return best


def _labels(keys: Sequence[Mapping[str, str]], examples: Sequence[Run]) -> list[str]:
    """Names of the runs, with what differs where several groups share one."""
    names = [str(run.record["name"]) for run in examples]
    labels = []
    for name, key in zip(names, keys, strict=True):
        rivals = [other for rival, other in zip(names, keys, strict=True) if rival == name]
        different = [k for k in sorted({k for other in rivals for k in other}) if len({o.get(k) for o in rivals}) > 1]
        extras = [f"{k}={key[k]}" for k in different if k in key and not (k in GROUPS and key[k] == GROUPS[k])]
        labels.append(" ".join([name, *extras]))
    return labels
