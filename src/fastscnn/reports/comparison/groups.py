"""Groups of runs that differ only in the seed, and the statistics of their differences."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from fastscnn.reports.comparison.records import Run
from fastscnn.runs.identity import GROUPS, PLAIN_CALLBACKS
from fastscnn.runs.renamed import MOVED
from fastscnn.runs.run_settings import EXECUTION_SETTINGS, STARTS, in_settings

KEY_CHOICES = (*GROUPS, "experiment", "loss", "optimizer", "scheduler", "debug")
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
"""Experiments that only choose options of groups: `experiment=fine_only` is `data=fine`."""
IRRELEVANT = (*EXECUTION_SETTINGS, "seed", "data.root")
"""Settings of how a run was executed, which do not distinguish runs."""
EFFECTLESS = (
    *IRRELEVANT,
    *(f"{name}.{key}" for name in STARTS for key in ("checkpoint", "sha256")),
    *(f"callbacks.{name}" for name in PLAIN_CALLBACKS),
)
"""Settings that change no number; of files the digest counts, not where they lie."""


@dataclass(frozen=True)
class Group:
    """Runs with the same settings and different seeds.

    Attributes:
        label: Unique among the groups.
        key: The keys and values that the runs have in common.
        runs: Seed to its newest finished run.
        superseded: Finished runs that a newer run of the same seed replaces.
    """

    label: str
    key: Mapping[str, str]
    runs: Mapping[int, Run]
    superseded: Sequence[Run] = ()

    @property
    def first(self) -> Run:
        """The run with the lowest seed, for values that all runs share."""
        return next(iter(self.runs.values()))

    @property
    def settings(self) -> dict[str, str]:
        """The common settings besides the choices that the paper compares; tables compare groups that share them."""
        apart = (*GROUPS, "pretrain.checkpoint", "pretrain.sha256")
        return {name: value for name, value in self.key.items() if name not in apart}

    def values(self, metric: str) -> dict[int, float]:
        """Seed to the metric of the best validation, percent; seeds without it are omitted."""
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
        """The spread of some numbers; None if there are none."""
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
    """Difference between a mean and the mean of the baseline.

    Attributes:
        mean: The difference, in percentage points.
        interval: Its 95% confidence interval by Student's t; None if a side has a single seed.
        how: `paired` if both have the same seeds, otherwise `Welch`, or the reason why there is no interval.
    """

    mean: float
    interval: tuple[float, float] | None
    how: str

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.mean:+.2f} ({self.how})"
        return f"{self.mean:+.2f} [{self.interval[0]:+.2f}, {self.interval[1]:+.2f}] {self.how}"


def difference(ours: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Difference of two means over seeds, seed to value; None if a side is empty."""
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
    """All choices and settings that distinguish runs, except the seed."""
    choices = {name: run.choices[name] for name in KEY_CHOICES if name in run.choices}
    if choices.get("experiment") in PLAIN_EXPERIMENTS:
        del choices["experiment"]
    overrides = run.record.get("overrides", {})
    present = {MOVED.get(name, name): str(value) for name, value in overrides.items()}
    weights = weights_of(run)
    known = [f"{name.partition('.')[0]}.checkpoint" for name in weights]  # wherever the file lies
    settings = {name: value for name, value in present.items() if not in_settings(name, (*IRRELEVANT, *known))}
    return {**choices, "place": run.place, **settings, **weights}


def weights_of(run: Run) -> dict[str, str]:
    """`pretrain.sha256` and its like to the first letters of the digest, for the files that a run started from."""
    found = {name: (run.record.get(name) or {}).get("sha256") for name in STARTS}
    return {f"{name}.sha256": str(digest)[:8] for name, digest in found.items() if digest}


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
    """For each kind of data, the group that the others are compared with.

    It is the group with the most choices at their default, fine labels before coarse ones; then the one with the most
    seeds; then the one whose settings most other groups share.
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
    """The names of the runs; groups with the same name get the keys in which they differ."""
    names = [str(run.record["name"]) for run in examples]
    labels = []
    for name, key in zip(names, keys, strict=True):
        rivals = [other for rival, other in zip(names, keys, strict=True) if rival == name]
        different = [k for k in sorted({k for other in rivals for k in other}) if len({o.get(k) for o in rivals}) > 1]
        extras = [f"{k}={key[k]}" for k in different if k in key and not (k in GROUPS and key[k] == GROUPS[k])]
        labels.append(" ".join([name, *extras]))
    return labels
