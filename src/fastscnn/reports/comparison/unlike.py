"""What differs between runs beside the choices that are compared: where anything does, there is no difference."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastscnn.reports.comparison.groups import (
    EFFECTLESS,
    KEY_CHOICES,
    PLAIN_EXPERIMENTS,
    Difference,
    Group,
    difference,
    weights_of,
)
from fastscnn.reports.comparison.records import Run
from fastscnn.runs.identity import GROUPS, TRAINED_BY
from fastscnn.runs.renamed import MOVED
from fastscnn.runs.run_settings import in_settings

NAMED = (*GROUPS, *TRAINED_BY, "loss")
"""The choices that a comparison names, unless `group_by` names others: they stand in the labels of the groups."""
PLACES = {"skip": ("model.skip",), "activation": ("model.activation",), "model": ("model", "skip", "activation")}
"""Choice to the settings that it decides, where these are not those of its own name."""


def compared(group: Group, baseline: Group, metric: str, named: Sequence[str] = NAMED) -> tuple[Difference | None, str]:
    """The difference of two groups, or why there is none: what differs beside the named choices."""
    unequal = unlike(_all(group, baseline), named)
    values, base = group.values(metric), baseline.values(metric)
    if unequal and values and base:
        return None, f"not compared: {described(unequal)}"
    return difference(values, base), ""


def described(unequal: Mapping[str, Sequence[str]]) -> str:
    """`trainer.max_epochs 3, 1`, of the first few settings."""
    first = [f"{name} {', '.join(values)}" for name, values in list(unequal.items())[:3]]
    rest = f" and {len(unequal) - 3} more" if len(unequal) > 3 else ""
    return "; ".join(first) + rest


def unlike(runs: Sequence[Run], named: Sequence[str] = NAMED) -> dict[str, list[str]]:
    """Setting to its values, for every setting in which runs differ beside the named choices.

    Where all of them recorded every setting, these are compared, whatever the command lines said. Otherwise it is the
    command lines and the choices that are compared.
    """
    whole = all(run.record.get("settings") for run in runs)
    found = [_effective(run) if whole else _asked(run) for run in runs]
    given = {name for run in runs for name in _asked(run)}
    chosen = [name for name in named if len({run.choices.get(name) for run in runs}) > 1]
    explained = [place for name in chosen for place in (name, *PLACES.get(name, ()))]
    unequal = {}
    for key in dict.fromkeys(key for values in found for key in values):
        values = list(dict.fromkeys(values.get(key, "unset") for values in found))
        if len(values) < 2 or in_settings(key, named):
            continue
        if in_settings(key, explained) and not (whole and key in given):
            continue
        unequal[key] = values
    return unequal


def _effective(run: Run) -> dict[str, str]:
    """Every setting, with what `auto` stood for in the run."""
    return {**_relevant(run.record["settings"] | (run.record.get("settled") or {})), **weights_of(run)}


def _asked(run: Run) -> dict[str, str]:
    """The choices and the overrides of a command line."""
    choices = {name: run.choices[name] for name in KEY_CHOICES if name in run.choices}
    if choices.get("experiment") in PLAIN_EXPERIMENTS:
        del choices["experiment"]
    overrides = {MOVED.get(name, name): value for name, value in run.record.get("overrides", {}).items()}
    return {**choices, **_relevant(overrides), **weights_of(run)}


def _relevant(settings: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in settings.items() if not in_settings(name, EFFECTLESS)}


def alike(groups: Iterable[Group], baseline: Group) -> list[Group]:
    """The groups that differ from a baseline in nothing but the choices of the paper, and not in their weights' source.

    Of several files that the pre-trained groups started from, the one counts that most of them did.
    """
    named = (*GROUPS, PRETRAINED)
    fitting = [g for g in groups if not unlike(_all(g, baseline), named)]
    sources = Counter(source for g in fitting if (source := source_of(g)))
    chosen = max(sources, key=lambda source: sources[source], default=None)
    return [g for g in fitting if source_of(g) in (None, chosen)]


def _all(*groups: Group) -> list[Run]:
    """Every run of some groups, also those that a newer one of their seed replaces: they are of the group too."""
    return [run for group in groups for run in (*group.runs.values(), *group.superseded)]


def source_of(group: Group) -> str | None:
    """The first letters of the digest of the file that a pre-trained group started from; None where there is none."""
    return weights_of(group.first).get(PRETRAINED)


PRETRAINED = "pretrain.sha256"
