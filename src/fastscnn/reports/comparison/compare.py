"""From run records to a comparison: a page, Markdown and CSV."""

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fastscnn.reports import paper
from fastscnn.reports.comparison import tables
from fastscnn.reports.comparison.content import Comparison
from fastscnn.reports.comparison.diff import print_diff, run_folders, two_runs
from fastscnn.reports.comparison.effects import class_tables, gaps
from fastscnn.reports.comparison.evaluation_pages import evaluation_pages
from fastscnn.reports.comparison.gallery import gallery
from fastscnn.reports.comparison.groups import Group, default_baselines, group_key, group_runs
from fastscnn.reports.comparison.page import write_page
from fastscnn.reports.comparison.records import EVALUATION, Evaluation, Run, read_all
from fastscnn.reports.comparison.unlike import NAMED
from fastscnn.reports.comparison.views import NUMERIC, group_labels, run_views
from fastscnn.reports.comparison.write import markdown, run_csv, show
from fastscnn.runs.record import METRICS, RECORD
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_writable, write_text

SECONDS = 20
"""Between two looks at the records, and after which an open page loads itself anew (watch=true)."""


def watch(config: DictConfig) -> None:
    """Compare as `compare` does, and anew whenever a record or its metrics have changed or an evaluation has ended.

    It ends when none of the runs that `filter` leaves is going on.

    Raises:
        RequestError: As `compare`.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    folders = [Path(folder).expanduser() for folder in _listed(plain["runs"])]
    seen: dict[Path, int] = {}
    while True:
        runs, evaluations, _ = read_all(folders)
        runs = filtered(runs, plain["filter"]) if runs else runs
        files = [run.folder / name for run in runs for name in (RECORD, METRICS)]
        files += [evaluation.folder / EVALUATION for evaluation in evaluations]
        now = {file: file.stat().st_mtime_ns for file in files if file.exists()}
        running = any(run.record["status"] == "running" for run in runs)
        if now != seen or not running:
            compare(config)
        if not running:
            print("No run is going on: the page is not renewed any more.")
            return
        seen = now
        time.sleep(SECONDS)


def compare(config: DictConfig) -> Path | None:
    """Compare the runs of a composed `compare` config; returns the page, None where two runs' differences are printed.

    Raises:
        RequestError: There are no runs, or a filter or key that none of them has.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    folders = [Path(folder).expanduser() for folder in _listed(plain["runs"])]
    if plain.get("diff"):
        print_diff(two_runs(read_all([*folders, *run_folders(plain["diff"])])[0], plain["diff"]))
        return None
    for folder in folders:
        if not folder.is_dir():
            raise RequestError(
                f"runs={folder} is not a folder.",
                key="runs",
                fix="Set runs=DIR to a folder with runs, such as outputs.",
            )
    output = Path(plain["output"]).expanduser() if plain["output"] else folders[0] / "compare"
    check_writable(output, "output")
    runs, evaluations, warnings = read_all(folders)
    if not runs:
        where = ", ".join(map(str, folders))
        raise RequestError(
            f"runs={where} holds no run.", key="runs", fix="Train one with python src/train.py, or set runs=DIR."
        )
    if not isinstance(plain["gallery"], int) or plain["gallery"] < 0:
        wrong = f"gallery={plain['gallery']} is not a whole number of 0 or more."
        raise RequestError(wrong, key="gallery", fix="Set gallery=N.")
    chosen = filtered(runs, plain["filter"])
    comparison, groups = build(chosen, evaluations, plain, warnings)
    comparison = replace(comparison, evaluations=evaluation_pages(evaluations, comparison.runs, output))
    write_text(output / "comparison.md", markdown(comparison))
    write_text(output / "comparison.csv", run_csv(chosen, groups))
    write_page(comparison, output / "index.html")
    show(comparison)
    print(f"The page: {output / 'index.html'}")
    return output / "index.html"


def filtered(runs: Sequence[Run], wanted: Any) -> list[Run]:
    """Runs whose keys have the wanted values, or one of a list of values; see `key_values` for the forms.

    Raises:
        RequestError: No run has the key, or none has the value.
    """
    left = list(runs)
    for key, value in key_values("filter", wanted).items():
        values = {str(item) for item in _listed(value)}
        check_key("filter", str(key), runs)
        here = sorted({run.values[key] for run in left if key in run.values})
        left = [run for run in left if run.values.get(key) in values or (key == "study" and values & set(run.studies))]
        if not left:
            raise RequestError(
                f"filter={key}={','.join(sorted(values))} leaves no run.",
                key="filter",
                fix=f"{key} is one of {', '.join(here) or 'none'}.",
            )
    return left


def key_values(setting: str, wanted: Any) -> dict[str, Any]:
    """Keys and values from `{data:fine,seed:[0,1]}` or from `data=fine seed=0,1`.

    Raises:
        RequestError: It has neither form.
    """
    if isinstance(wanted, Mapping):
        return {str(key): value for key, value in wanted.items()}
    pairs = [pair.partition("=") for pair in str(wanted or "").split()]
    if not all(key and equals for key, equals, _ in pairs):
        raise RequestError(
            f"{setting}={wanted} is not a list of KEY=VALUE pairs.",
            key=setting,
            fix=f"Write '{setting}=\"data=fine skip=keep\"'.",
        )
    return {key: value.split(",") if "," in value else value for key, _, value in pairs}


def check_metric(metric: str, runs: Sequence[Run]) -> None:
    """Check that some run has a metric, unless none has any.

    Raises:
        RequestError: No run has it; lists those that exist.
    """
    existing = {name for run in runs for name in run.record["metrics"].get("best", {})}
    if existing and metric not in existing:
        known = sorted(name for name in existing if name.startswith(("val/", "test/")) and "/iou/" not in name)
        raise RequestError(f"metric={metric} is in no run.", key="metric", fix=f"Use one of {', '.join(known)}.")


def check_key(setting: str, key: str, runs: Sequence[Run]) -> None:
    """Check that some run has a key.

    Raises:
        RequestError: No run has it; lists those that exist.
    """
    known = {
        name
        for run in runs
        for name in run.values
        if not name.startswith(("choices.", "metrics.", "overrides.", "versions."))
    }
    if not any(key in run.values for run in runs):
        near = difflib.get_close_matches(key, known, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise RequestError(
            f"{setting} names {key}, which no run has.{meant}",
            key=setting,
            fix=f"Keys are groups and settings; comparison.csv lists all: {', '.join(sorted(known)[:20])}, ...",
        )


def build(
    runs: Sequence[Run], evaluations: Sequence[Evaluation], settings: Mapping[str, Any], warnings: Sequence[str]
) -> tuple[Comparison, list[Group]]:
    """The content of a comparison of some runs, and the groups of runs."""
    metric = settings["metric"]
    segmenting = [run for run in runs if run.choices.get("data") != "imagenet"]
    by = settings["group_by"]
    check_metric(metric, segmenting)
    for key in by or ():
        check_key("group_by", key, runs)
    key_of = (lambda run: {key: run.values.get(key, "") for key in by}) if by else group_key
    groups = group_runs(segmenting, key_of)
    baselines = choose_baselines(groups, settings["baseline"], metric)
    ordered = sorted(runs, key=lambda run: run.record.get("started") or "", reverse=True)
    warnings = list(warnings)
    columns, views = run_views(ordered, groups, group_labels(runs, groups, key_of), metric, warnings)
    named = [(view.label, run) for view, run in zip(views, ordered, strict=True)]
    plain = group_runs(segmenting) if by else groups
    content = [
        tables.seeds_table(groups, baselines, metric, by or NAMED),
        tables.table_8(plain),
        tables.skip_table(plain, evaluations),
        tables.activation_table(plain),
        tables.table_7(plain, evaluations),
        tables.table_4(plain),
        tables.table_5(plain),
        tables.imagenet_table(runs),
        *class_tables(groups, baselines, metric),
    ]
    count = f"{len(runs)} runs, {sum(run.finished for run in runs)} finished"
    wanted = key_values("filter", settings["filter"])
    only = " ".join(f"{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in wanted.items())
    comparison = Comparison(
        title="Runs compared",
        subtitle=f"{count}{'; only ' if only else ''}{only}. {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        metric=metric,
        columns=columns,
        numeric=NUMERIC,
        runs=views,
        tables=content,
        gallery=gallery([pair for pair in named if pair[1].finished], evaluations, settings["gallery"]),
        paper_iou={f"paper: {name} (Cityscapes test)": dict(series) for name, series in paper.TABLE_5.items()},
        warnings=warnings,
        refresh=SECONDS if settings.get("watch") and any(run.record["status"] == "running" for run in runs) else 0,
        gaps=gaps(groups, baselines, metric, by or NAMED),
    )
    return comparison, groups


def choose_baselines(groups: Sequence[Group], wanted: Any, metric: str) -> dict[str, Group]:
    """The group that the others on the same data are compared with: by its label, its keys, or by default.

    Raises:
        RequestError: No group fits, or several do.
    """
    if not wanted:
        return default_baselines(groups, metric)
    fits = [g for g in groups if g.label == wanted] or [g for g in groups if g.first.record["name"] == wanted]
    if not fits and not (isinstance(wanted, str) and "=" not in wanted):
        pairs = key_values("baseline", wanted)
        fits = [g for g in groups if all(g.first.values.get(key) == str(value) for key, value in pairs.items())]
    if len(fits) != 1:
        labels = ", ".join(repr(group.label) for group in (fits or groups))
        found = "several groups" if fits else "no group"
        raise RequestError(f"baseline={wanted} is {found} of runs.", key="baseline", fix=f"Name one of {labels}.")
    return {fits[0].first.place: fits[0]}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
