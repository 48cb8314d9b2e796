"""From run records to a comparison: a page, Markdown and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table as RichTable

from fastscnn.errors import RequestError
from fastscnn.reports import paper, tables
from fastscnn.reports.content import Comparison, Curve, RunView, Table
from fastscnn.reports.gallery import gallery
from fastscnn.reports.groups import Group, default_baselines, group_key, group_runs
from fastscnn.reports.page import write_page
from fastscnn.reports.records import Evaluation, Run, read_all
from fastscnn.runs.identity import GROUPS


def compare(config: DictConfig) -> Path:
    """Compare the runs of a composed `compare` config; returns the page.

    Raises:
        RequestError: There are no runs, or a filter or key that none of them has.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    folders = [Path(folder).expanduser() for folder in _listed(plain["runs"])]
    for folder in folders:
        if not folder.is_dir():
            raise RequestError(f"runs={folder} is no folder: set runs=DIR to one that holds runs, such as outputs.")
    runs, evaluations, warnings = read_all(folders)
    if not runs:
        where = ", ".join(map(str, folders))
        raise RequestError(f"runs={where} holds no run: python src/train.py makes one, or set runs=DIR.")
    chosen = filtered(runs, plain["filter"])
    comparison, groups = build(chosen, evaluations, plain, warnings)
    output = Path(plain["output"]).expanduser() if plain["output"] else folders[0] / "compare"
    try:
        output.mkdir(parents=True, exist_ok=True)
        _write(output / "comparison.md", markdown(comparison))
        _write(output / "comparison.csv", run_csv(chosen, groups))
        write_page(comparison, output / "index.html")
    except OSError as error:
        raise RequestError(f"output={output} cannot be written ({error.strerror}): set output=DIR.") from None
    _show(comparison)
    print(f"The page: {output / 'index.html'}")
    return output / "index.html"


def filtered(runs: Sequence[Run], wanted: Mapping[str, Any]) -> list[Run]:
    """Runs whose keys have the wanted values; a list of values admits each of them.

    Raises:
        RequestError: No run has the key, or none has the value.
    """
    left = list(runs)
    for key, value in (wanted or {}).items():
        values = {str(item) for item in _listed(value)}
        check_key("filter", str(key), runs)
        here = sorted({run.values[key] for run in left if key in run.values})
        left = [run for run in left if run.values.get(key) in values]
        if not left:
            raise RequestError(
                f"filter={{{key}:{'|'.join(sorted(values))}}} leaves no run: {key} is {', '.join(here) or 'nowhere'}."
            )
    return left


def check_key(setting: str, key: str, runs: Sequence[Run]) -> None:
    """Check that some run has a key.

    Raises:
        RequestError: None has; lists those there are.
    """
    known = {name for run in runs for name in run.values if not name.startswith(("metrics.", "versions."))}
    if not any(key in run.values for run in runs):
        raise RequestError(f"{setting} names {key}, which no run has: use one of {', '.join(sorted(known))}.")


def build(
    runs: Sequence[Run], evaluations: Sequence[Evaluation], settings: Mapping[str, Any], warnings: Sequence[str]
) -> tuple[Comparison, list[Group]]:
    """Everything that the comparison says of some runs, and the groups it found."""
    metric = settings["metric"]
    segmenting = [run for run in runs if run.choices.get("data") != "imagenet"]
    by = settings["group_by"]
    for key in by or ():
        check_key("group_by", key, runs)
    groups = group_runs(segmenting, (lambda run: {key: run.values.get(key, "") for key in by}) if by else group_key)
    baselines = choose_baselines(groups, settings["baseline"], metric)
    labels = {run.record["id"]: group.label for group in groups for run in (*group.runs.values(), *group.superseded)}
    ordered = sorted(runs, key=lambda run: run.record.get("started") or "", reverse=True)
    columns, views = _views(ordered, labels, metric)
    named = [(view.label, run) for view, run in zip(views, ordered, strict=True)]
    plain = group_runs(segmenting) if by else groups
    content = [
        tables.seeds_table(groups, baselines, metric),
        tables.table_8(plain),
        tables.skip_table(plain, evaluations),
        tables.table_7(plain, evaluations),
        tables.table_4(plain),
        tables.table_5(plain),
        tables.imagenet_table(runs),
    ]
    count = f"{len(runs)} runs, {sum(run.finished for run in runs)} finished"
    shown = f"; only {', '.join(f'{k}={v}' for k, v in settings['filter'].items())}" if settings["filter"] else ""
    numeric = frozenset(columns) & {"seed", "best %", "last %", "test %", "epochs", "minutes"}
    comparison = Comparison(
        title="Runs compared",
        subtitle=f"{count}{shown}. {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        metric=metric,
        columns=columns,
        numeric=numeric,
        runs=views,
        tables=content,
        gallery=gallery([pair for pair in named if pair[1].finished], evaluations, settings["gallery"]),
        paper_iou={f"paper: {name} (Cityscapes test)": dict(series) for name, series in paper.TABLE_5.items()},
        warnings=warnings,
    )
    return comparison, groups


def choose_baselines(groups: Sequence[Group], wanted: Any, metric: str) -> dict[str, Group]:
    """The group that the others on the same data are compared with: by its label, by its keys, or the most default one.

    Raises:
        RequestError: None is meant, or several are.
    """
    if not wanted:
        return default_baselines(groups, metric)
    if isinstance(wanted, Mapping):
        fits = [g for g in groups if all(g.first.values.get(k) == str(v) for k, v in wanted.items())]
    else:
        fits = [g for g in groups if g.label == wanted] or [g for g in groups if g.first.record["name"] == wanted]
    if len(fits) != 1:
        labels = ", ".join(repr(group.label) for group in (fits or groups))
        found = "several groups" if fits else "no group"
        raise RequestError(f"baseline={wanted} is {found} of runs: name one of {labels}.")
    return {fits[0].first.place: fits[0]}


def markdown(comparison: Comparison) -> str:
    """The comparison as Markdown."""
    lines = [f"# {comparison.title}", "", comparison.subtitle, ""]
    for warning in comparison.warnings:
        lines += [f"> {warning}", ""]
    for table in comparison.tables:
        lines += [f"## {table.title}", "", *_markdown_table(table), ""]
        lines += [table.note, ""] if table.note else []
    numeric = frozenset(i for i, column in enumerate(comparison.columns) if column in comparison.numeric)
    rows = [[view.cells.get(column, "") for column in comparison.columns] for view in comparison.runs]
    runs = Table("All runs", comparison.columns, rows, numeric=numeric)
    return "\n".join([*lines, f"## {runs.title}", "", *_markdown_table(runs), ""])


def run_csv(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    """One row for each run, one column for each key that any of them has."""
    labels = {run.record["id"]: group.label for group in groups for run in group.runs.values()}
    keys = list(dict.fromkeys(["id", "name", "group_label", "status", "seed", *GROUPS]))
    keys += sorted({key for run in runs for key in run.values} - set(keys))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    for run in runs:
        writer.writerow({**run.values, "group_label": labels.get(run.record["id"], "")})
    return text.getvalue()


def _views(runs: Sequence[Run], labels: Mapping[str, str], metric: str) -> tuple[list[str], list[RunView]]:
    """Columns of the table of all runs, and the runs as the page shows them."""
    varied = [name for name in GROUPS if len({run.choices.get(name, GROUPS[name]) for run in runs}) > 1]
    views = []
    for run in runs:
        is_segmenting = run.choices.get("data") != "imagenet"
        own = metric if is_segmenting else "val/top1"
        group = labels.get(run.record["id"], str(run.record["name"]))
        epochs, minutes = run.metric("epoch", "last"), run.minutes
        cells = {
            "run": str(run.record["name"]),
            "id": str(run.record["id"]),
            "data": run.place,
            **{f"{name}=": run.choices.get(name, GROUPS[name]) for name in varied},
            "seed": str(run.record["seed"]),
            "status": str(run.record["status"]),
            "best %": _percent(run.metric(own)),
            "last %": _percent(run.metric(own, "last")),
            "test %": _percent(run.metric("test/" + own.partition("/")[2])),
            "epochs": f"{epochs:.0f}" if epochs is not None else "",
            "minutes": f"{minutes:.1f}" if minutes is not None else "",
            "error": str(run.record.get("error") or ""),
            "folder": "/".join(run.folder.parts[-2:]),
        }
        views.append(
            RunView(
                id=str(run.record["id"]),
                label=f"{group} · seed {run.record['seed']} · {run.record['id']}",
                group=group,
                status=str(run.record["status"]),
                cells=cells,
                curve=run.curve(metric) if is_segmenting else Curve((), (), ()),
                iou=_class_iou(run, metric),
                pretrained=run.choices.get("pretrain") == "imagenet",
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


def _markdown_table(table: Table) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rule = ["---:" if i in table.numeric else "---" for i in range(len(table.columns))]
    return [line(table.columns), line(rule), *(line(row) for row in table.rows)]


def _show(comparison: Comparison) -> None:
    """The first table, for a person at a terminal."""
    console = Console()
    first = comparison.tables[0]
    shown = RichTable(title=first.title, title_justify="left", caption=comparison.subtitle, caption_justify="left")
    compact = [place for place, column in enumerate(first.columns) if column not in ("data", "difference in test")]
    for place in compact:
        shown.add_column(first.columns[place], justify="right" if place in first.numeric else "left", overflow="fold")
    for row in first.rows:
        shown.add_row(*(row[place] for place in compact))
    console.print(shown)
    for warning in comparison.warnings:
        console.print(f"warning: {warning}", highlight=False, soft_wrap=True, markup=False)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
