"""The comparison as one self-contained page that opens from disk, without the network."""

import html
import json
import math
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

from fastscnn.reports.comparison.content import Comparison, RunView, Table
from fastscnn.reports.comparison.evaluation_pages import evaluations_html
from fastscnn.reports.comparison.panels import gallery_html
from fastscnn.reports.comparison.records import is_score
from fastscnn.utils.files import write_text

PAPER_COLOURS = ("#9aa0a6", "#5f6368")
SCRIPTS = ("looks.js", "page.js", "charts.js", "effects.js", "tools.js")
NO_RUNS = "There is no run here yet. Train one with python src/train.py, then call compare.py again."
EMPTY = "No finished run has a number for this table yet."
LONG = 20
"""Number of rows above which a table gets its own scroll bar."""
NO_PICTURES = (
    '<section><h2>Pictures</h2><p class="empty">No pictures yet: train with pictures=4, or call '
    "eval.py checkpoint=FILE pictures=4, then compare.py again.</p></section>"
)
COLUMN_HEAD, ROW_HEAD = 'th scope="col"', 'th scope="row"'
STATUSES = ("failed", "interrupted", "running")


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page; no reader sees it incomplete.

    Raises:
        OSError: It cannot be written.
    """
    write_text(path, page(comparison))


def page(comparison: Comparison) -> str:
    """The whole page as HTML."""
    dashed = any(view.pretrained for view in comparison.runs)
    return Template(_file("page.html")).substitute(
        title=html.escape(comparison.title),
        subtitle=html.escape(comparison.subtitle),
        warnings=_warnings(comparison.warnings),
        metric=html.escape(comparison.metric),
        dashes="; dashed with ImageNet pre-training, as in the paper's Figure 4" if dashed else "",
        refresh=f'<meta http-equiv="refresh" content="{comparison.refresh}">\n' if comparison.refresh else "",
        no_runs="" if comparison.runs else f'<p class="empty">{NO_RUNS}</p>',
        first_table="".join(_section(table, "first") for table in comparison.tables[:1]),
        other_tables="\n".join(_section(table) for table in comparison.tables[1:]),
        runs_table=_runs_table(comparison),
        evaluations=evaluations_html(comparison.evaluations),
        gallery=gallery_html(comparison.gallery) or (NO_PICTURES if comparison.runs else ""),
        data=_json(_data(comparison)),
        more=_json([_more(view) for view in comparison.runs]),
        style=_file("page.css"),
        plotly=_plotly(),
        script="".join([_file(SCRIPTS[0]), *(_file(name).replace('"use strict";\n', "") for name in SCRIPTS[1:])]),
    )


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _plotly() -> str:
    """The drawing library; its outermost function gets parentheses if it has the expected form.

    V8 takes these as a sign that it is called at once, and parses its 5 MB once instead of twice: a fifth of the time
    in which the page opens.
    """
    text = (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8").rstrip()
    start, end = "this, () => {\n", "\nreturn Plotly;\n}));"
    if text.count(start) == 1 and text.endswith(end):
        text = text.replace(start, "this, (() => {\n").removesuffix(end) + "\nreturn Plotly;\n})));"
    return text


def _file(name: str) -> str:
    return (resources.files("fastscnn.reports.comparison") / name).read_text(encoding="utf-8")


def _data(comparison: Comparison) -> dict[str, Any]:
    """The data for the scripts; the runs are in the order of the table's rows."""
    paper = {
        name: {"iou": dict(iou), "colour": colour, "on": "Fast-SCNN" in name}
        for (name, iou), colour in zip(comparison.paper_iou.items(), PAPER_COLOURS, strict=False)
    }
    listed = [row[0] for table in comparison.tables[:1] for row in table.rows]
    listed += [view.group for view in comparison.runs]
    groups = list(dict.fromkeys(listed))
    gaps = [
        {"place": gap.place, "label": gap.label, "baseline": gap.baseline, "text": gap.text}
        | {"mean": gap.mean, "low": gap.interval[0] if gap.interval else None}
        | {"high": gap.interval[1] if gap.interval else None}
        for gap in comparison.gaps
    ]
    names = sorted({name for view in comparison.runs for name in view.more if "/iou/" not in name})
    names += sorted({name for view in comparison.runs for name in view.more if "/iou/" in name})
    runs = [_run(view) for view in comparison.runs]
    return {
        "metric": comparison.metric,
        "metrics": [comparison.metric, *names],
        "percent": [name for name in (comparison.metric, *names) if name == comparison.metric or is_score(name)],
        "groups": groups,
        "runs": runs,
        "paper": paper,
        "gaps": gaps,
    }


def _more(view: RunView) -> dict[str, list[list[float]]]:
    """Metric to epochs, steps and values of a run, for the charts that a reader chooses."""
    found = {}
    for name, curve in view.more.items():
        points = [p for p in zip(curve.epochs, curve.steps, curve.values, strict=True) if math.isfinite(p[2])]
        found[name] = [[_short(point[place]) for point in points] for place in range(3)]
    return found


def _short(number: float) -> float:
    rounded = float(f"{number:.4g}") if abs(number) < 1000 and number != int(number) else number
    return int(rounded) if rounded == int(rounded) else rounded


def _run(view: RunView) -> dict[str, Any]:
    # JSON has no NaN: a single one would make all data unreadable
    curve = zip(view.curve.steps, view.curve.epochs, view.curve.values, strict=True)
    points = [point for point in curve if math.isfinite(point[2])]
    return {
        "label": html.escape(view.label),
        "group": view.group,
        "data": view.place,
        "counts": view.counts,
        "dashed": view.pretrained,
        "finished": view.status == "finished",
        "steps": _series([step for step, _, _ in points]),
        "epochs": _series([epoch for _, epoch, _ in points]),
        "values": [round(100 * value) for _, _, value in points],
        "iou": {name: value for name, value in view.iou.items() if math.isfinite(value)},
    }


def _series(numbers: Sequence[float]) -> list[float] | dict[str, float]:
    """The numbers or, if they are evenly spaced, first, step and count, which is shorter."""
    plain = [int(number) if number == int(number) else number for number in numbers]
    steps = {after - before for before, after in pairwise(plain)}
    if len(plain) > 3 and len(steps) == 1:
        return {"first": plain[0], "step": steps.pop(), "count": len(plain)}
    return plain


def _runs_table(comparison: Comparison) -> str:
    """A row for each run; runs with curves or bars have a switch."""
    head = ['<th scope="col"><span title="drawn in the charts">on</span></th>']
    for column in comparison.columns:
        kind = ' class="number"' if column in comparison.numeric else ""
        head.append(f'<th scope="col"{kind} aria-sort="none"><button type="button">{html.escape(column)}</button></th>')
    rows = []
    for view in comparison.runs:
        name = html.escape(view.label, quote=True)
        switch = f'<input type="checkbox" checked aria-label="{name}"><span {_look(view)}></span>'
        cells = [f"<td>{switch if view.curve.values or view.iou else ''}</td>"]
        for place, column in enumerate(comparison.columns):
            text, tag = view.cells.get(column, ""), "td" if place else ROW_HEAD
            cells.append(_cell(text, column in comparison.numeric, column == "error", tag))
        kind = f' class="{view.status}"' if view.status in STATUSES else ""
        rows.append(f'<tr data-run="{html.escape(view.id, quote=True)}"{kind}>{"".join(cells)}</tr>')
    return (
        f"<table aria-label='All runs'><thead><tr>{''.join(head)}</tr></thead><tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table>"
    )


def _section(table: Table, name_of: str = "") -> str:
    def row(cells: Sequence[str], tag: str, heat: float = 0) -> str:
        found = (
            _heat(text, heat)
            if heat and i and text
            else _cell(text, i in table.numeric, tag=tag if i or tag != "td" else ROW_HEAD)
            for i, text in enumerate(cells)
        )
        return "<tr>" + "".join(found) + "</tr>"

    body = "\n".join(row(cells, "td", table.heat if number else 0) for number, cells in enumerate(table.rows))
    body = body or f'<tr><td class="empty" colspan="{len(table.columns)}">{EMPTY}</td></tr>'
    note = f'<p class="note">{html.escape(table.caption)}</p>' if table.caption else ""
    head = row(table.columns, COLUMN_HEAD)
    scroll = "scroll tall" if len(table.rows) > LONG else "scroll"
    name = html.escape(table.title, quote=True)
    inside = f'<table class="plain" aria-label="{name}"><thead>{head}</thead><tbody>\n{body}\n</tbody></table>'
    region = f'<div class="{scroll}" tabindex="0" role="region" aria-label="{name}">{inside}</div>'
    own = f' id="{name_of}"' if name_of else ""
    return f'<section class="table"{own}><h2>{html.escape(table.title)}</h2>{note}\n{region}</section>'


def _heat(text: str, full: float) -> str:
    """A cell whose colour says how far it is from 0; its number says the same."""
    try:
        share = min(1.0, abs(float(text)) / full)
    except ValueError:
        return _cell(text, True)
    kind = "better" if float(text) > 0 else "worse"
    return f'<td class="number heat {kind}" style="--share:{round(70 * share)}%">{html.escape(text)}</td>'


def _cell(text: str, numeric: bool, wide: bool = False, tag: str = "td") -> str:
    kind = ' class="number"' if numeric else ' class="wide"' if wide and text else ""
    return f"<{tag}{kind}>{html.escape(text)}</{tag.partition(' ')[0]}>"


def _look(view: RunView) -> str:
    """What a swatch stands for."""
    return f'data-look="{html.escape(view.group, quote=True)}" data-dashed="{str(view.pretrained).lower()}"'


def _warnings(warnings: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(warning)}</li>" for warning in warnings)
    return f'<ul class="warnings">{items}</ul>' if items else ""
