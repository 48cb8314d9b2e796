"""The dashboard as W&B's objects, and saving them: a workspace for exploration and a report for each question."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastscnn.reports.wandb.dashboard import BEST, PICTURES, RECIPE, Panel, Section, sections
from fastscnn.runs.identity import GROUPS
from fastscnn.runs.studies import TAG
from fastscnn.runs.tracking import ENVIRONMENT
from fastscnn.utils.errors import RequestError
from fastscnn.utils.text import one_line

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.workspaces import Workspace

TITLE = "Fast-SCNN: the paper's questions"
VIEW = "fastscnn"
"""The name of the workspace in its address (`?nw=fastscnn`), by which later calls find it."""
COLUMNS = 3
BARS = 200
RUNS_LOOKED_AT = 20
"""Number of the latest runs whose names of pictures are collected."""


def workspace(entity: str, project: str, content: Sequence[Section], study: str | None = None) -> "Workspace":
    """The workspace, not saved yet: the runs of a line differ in nothing but the seed."""
    from wandb_workspaces import workspaces as ws

    only = {"filters": _of_study(study)} if study else {}

    return ws.Workspace(
        entity=entity,
        project=project,
        name=title_of(study),
        sections=[
            ws.Section(
                name=section.title,
                panels=[_panel(panel) for panel in section.panels],
                is_open=place == 0,
                layout_settings=ws.SectionLayoutSettings(columns=COLUMNS, rows=-(-len(section.panels) // COLUMNS)),
            )
            for place, section in enumerate(content)
        ],
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Config(key) for key in (*GROUPS, RECIPE)],
            **only,
            pinned_columns=[
                "run:displayName",
                "run:state",
                *(f"config:{key}.value" for key in (*GROUPS, RECIPE, "experiment", "seed")),
                f"summary:{BEST}",
            ],
        ),
    )


def title_of(study: str | None, section: Section | None = None) -> str:
    """The title of the workspace, or of a section's report, of a study or of all runs."""
    title = f"Fast-SCNN: {section.title}" if section else TITLE
    return f"{title} ({study})" if study else title


def report(entity: str, project: str, section: Section, study: str | None = None) -> "Report":
    """The report of one question, not saved yet: finished runs, and in one mean those that differ only in the seed."""
    from wandb_workspaces import expr
    from wandb_workspaces.reports import v2 as wr

    runs = wr.Runset(
        name=section.title,
        groupby=[f"config.{key}" for key in section.grouping],
        filters=[
            *(expr.Config(group) == option for group, option in section.fixed.items()),
            expr.Metric("State") == "finished",
            expr.Metric("JobType") == section.job_type,
            *(_of_study(study) if study else ()),
        ],
    )
    panels = [_panel(panel) for panel in section.panels]
    for place, panel in enumerate(panels):
        row, column = divmod(place, COLUMNS)
        panel.layout = wr.Layout(x=8 * column, y=8 * row, w=8, h=8)
    return wr.Report(
        entity=entity,
        project=project,
        title=title_of(study, section),
        description="Written by src/dashboard.py, which overwrites it when it is called again.",
        blocks=[wr.P(section.question), wr.PanelGrid(runsets=[runs], panels=panels)],
        width="fluid",
    )


def _of_study(study: str) -> list[Any]:
    """The filter of the runs that carry the study's tag: every job of a multirun does, whichever call began it."""
    from wandb_workspaces import expr

    return [expr.Tags().isin([f"{TAG}{study}"])]


def save(entity: str | None, project: str, study: str | None = None) -> dict[str, str]:
    """Create the workspace and the reports in a W&B project, or update what an earlier call created.

    Args:
        entity: A user or team; None for the key's default.
        project: A project that has runs.
        study: The multirun whose runs are shown; None for all runs.

    Returns:
        The address of each, by its title, the workspace's first.

    Raises:
        RequestError: The library or a key is missing, or W&B does not know the project or cannot be reached.
    """
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    import wandb

    try:
        import wandb_workspaces  # noqa: F401
    except ImportError:
        raise RequestError("A dashboard needs another package.", fix="Run pip install wandb-workspaces.") from None
    try:
        return _save(entity, project, study)
    except RequestError:
        raise
    except Exception as error:  # a server may answer anything, and the client raises whatever it makes of that
        cause = one_line(str(error)).rstrip(".") or "no reason given"
        kind = "" if isinstance(error, wandb.errors.Error) else f"{type(error).__name__}: "
        raise RequestError(
            f"W&B at {wandb.setup().settings.base_url}: {kind}{cause[:300]}.",
            key="project",
            fix="Check the key (wandb login), entity, project, the network, and whether the server has dashboards.",
        ) from None


def _save(entity: str | None, project: str, study: str | None) -> dict[str, str]:
    api = _api()
    entity = entity or api.default_entity
    if project not in {known.name for known in api.projects(entity)}:
        raise RequestError(
            f"project={project}: {entity} has no such W&B project.",
            key="project",
            fix="Train a run in it first, or set entity= and project=.",
        )
    content = sections(_picture_names(api.runs(f"{entity}/{project}", per_page=RUNS_LOOKED_AT)))
    view = workspace(entity, project, content, study)
    keep_identity(view, entity, project, view_name(study))
    view.save()
    found = {title_of(study): view.url}
    known = {one.display_name: one.id for one in api.reports(f"{entity}/{project}")}
    for section in content:
        text = report(entity, project, section, study)
        text.id = known.get(text.title, "")
        text.save()
        found[text.title] = text.url
    return found


def _api() -> Any:
    import wandb

    mode = wandb.setup().settings.mode
    if mode not in ("online", "run"):
        raise RequestError(
            f"WANDB_MODE={mode}: a dashboard is stored on the server.",
            key="WANDB_MODE",
            fix="Unset WANDB_MODE, or set dry_run=true.",
        )
    if not wandb.login(prompt=False, verify=False):
        raise RequestError(
            "A dashboard needs a W&B key.",
            key="WANDB_API_KEY",
            fix="Store one with wandb login, or set WANDB_API_KEY, or dry_run=true.",
        )
    return wandb.Api()


def view_name(study: str | None) -> str:
    """The name of the workspace of a study in its address."""
    return f"{VIEW}-{hashlib.sha256(study.encode()).hexdigest()[:8]}" if study else VIEW


def keep_identity(view: Any, entity: str, project: str, name: str = VIEW) -> None:
    """Give a workspace the name and the id of the one that an earlier call saved, so that it is updated.

    By names that the package documents nowhere. Where a version has others, each call makes another workspace.
    """
    if not hasattr(view, "_internal_name") or not hasattr(view, "_internal_id"):
        print("This version of wandb-workspaces names a new workspace at each call: delete the one of before by hand.")
        return
    view._internal_name = f"nw-{name}-v"
    view._internal_id = _view_id(entity, project, name)


def _view_id(entity: str, project: str, name: str) -> str:
    """W&B's id of the workspace that an earlier call saved; empty if there is none."""
    from wandb_workspaces import workspaces as ws

    try:
        return str(ws.Workspace.from_url(f"/{entity}/{project}?nw={name}")._internal_id)
    except ValueError as error:
        if "not found" in str(error):
            return ""
        raise


def _picture_names(runs: Iterable[Any]) -> list[str]:
    latest = itertools.islice(runs, RUNS_LOOKED_AT)
    return sorted({name for run in latest for name in run.summary.keys() if name.startswith(PICTURES)})  # noqa: SIM118


def _panel(panel: Panel) -> Any:
    from wandb_workspaces.reports import v2 as wr

    groups: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    metrics = list(panel.metrics)
    if panel.kind == "curve":
        return wr.LinePlot(title=panel.title, x=panel.x, y=metrics, **groups)
    if panel.kind == "bars":
        return wr.BarPlot(title=panel.title, metrics=metrics, max_bars_to_show=BARS, **groups)
    if panel.kind == "scatter":
        (metric,) = metrics
        return wr.ScatterPlot(title=panel.title, x=wr.Config(panel.x), y=wr.SummaryMetric(metric), log_x=True)
    return wr.MediaBrowser(title=panel.title, media_keys=metrics, grid_x_axis="step", grid_y_axis="run")
