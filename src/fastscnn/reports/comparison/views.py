"""The runs on the page: the cells of their row, their curve and their class IoU."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from fastscnn.reports.comparison.content import Curve, RunView
from fastscnn.reports.comparison.groups import Group
from fastscnn.reports.comparison.records import Run
from fastscnn.runs.identity import GROUPS
from fastscnn.runs.record import METRICS

NUMERIC = frozenset({"seed", "best %", "last %", "test %", "epochs", "minutes"})
"""Columns of the table of all runs that hold numbers."""


def group_labels(
    runs: Iterable[Run], groups: Sequence[Group], key: Callable[[Run], Mapping[str, str]]
) -> dict[str, str]:
    """Id of each run, finished or not, to the label of its group."""
    labels = {frozenset(group.key.items()): group.label for group in groups}
    taken = set(labels.values())
    found = {}
    for run in runs:
        name = str(run.record["name"])
        alone = f"{name} ({run.record['status']})" if name in taken else name
        found[str(run.record["id"])] = labels.get(frozenset(key(run).items()), alone)
    return found


def run_views(
    runs: Sequence[Run], groups: Sequence[Group], labels: Mapping[str, str], metric: str, warnings: list[str]
) -> tuple[list[str], list[RunView]]:
    """Columns of the table of all runs, and the runs on the page; appends to the warnings."""
    varied = [name for name in GROUPS if len({run.choices.get(name, GROUPS[name]) for run in runs}) > 1]
    counted = {id(run) for group in groups for run in group.runs.values()}
    views = []
    most = max(30, min(400, 10_000 // max(1, len(runs))))
    for run in runs:
        is_segmenting = run.choices.get("data") != "imagenet"
        own = metric if is_segmenting else ""  # the accuracy of pre-training has a table of its own
        group = labels[str(run.record["id"])]
        epochs, minutes = run.metric("epoch", "last"), run.minutes
        cells = {
            "run": str(run.record["name"]),
            "dataset": run.place,
            "seed": str(run.record["seed"]),
            "status": str(run.record["status"]),
            "best %": _percent(run.metric(own)),
            "last %": _percent(run.metric(own, "last")),
            "test %": _percent(run.metric("test/" + own.partition("/")[2])),
            "epochs": f"{epochs:.0f}" if epochs is not None else "",
            "minutes": f"{minutes:.1f}" if minutes is not None else "",
            **{name: str(run.choices.get(name, GROUPS[name])) for name in varied},
            "id": str(run.record["id"]),
            "error": str(run.record.get("error") or ""),
            "folder": "/".join(run.folder.parts[-2:]),
        }
        try:
            curve = run.curve(metric) if is_segmenting else Curve((), (), ())
            more = {name: found for name, found in run.curves(most).items() if name != metric}
        except (OSError, ValueError, IndexError) as error:
            warnings.append(f"{run.folder / METRICS} cannot be read and is not drawn ({error}).")
            curve, more = Curve((), (), ()), {}
        views.append(
            RunView(
                id=str(run.record["id"]),
                label=f"{group} · seed {run.record['seed']} · {run.record['id']}",
                group=group,
                status=str(run.record["status"]),
                cells=cells,
                curve=curve,
                place=run.place,
                counts=id(run) in counted,
                iou=_class_iou(run, metric),
                pretrained=run.choices.get("pretrain") == "imagenet",
                more=more,
            )
        )
    columns = list(dict.fromkeys(name for view in views for name in view.cells))
    used = [name for name in columns if any(view.cells.get(name) for view in views)]
    return used, views


def _class_iou(run: Run, metric: str) -> dict[str, float]:
    prefix = f"{metric.partition('/')[0]}/iou/"
    found = run.record["metrics"].get("best", {})
    return {
        name.removeprefix(prefix): round(100 * value, 2)
        for name, value in found.items()
        if name.startswith(prefix) and value is not None
    }


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"
