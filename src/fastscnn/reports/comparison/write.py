"""A comparison as Markdown, as CSV and on the terminal."""

import csv
import io
from collections.abc import Container, Iterable, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table as RichTable

from fastscnn.reports.comparison.content import Comparison, Table
from fastscnn.reports.comparison.groups import Group
from fastscnn.reports.comparison.records import Run
from fastscnn.runs.identity import GROUPS


def markdown(comparison: Comparison) -> str:
    """The comparison as Markdown."""
    lines = [f"# {comparison.title}", "", comparison.subtitle, ""]
    for warning in comparison.warnings:
        lines += [f"> {warning}", ""]
    for table in comparison.tables:
        lines += [f"## {table.title}", "", *markdown_table(table.columns, table.rows, table.numeric), ""]
        lines += [table.caption, ""] if table.caption else []
    numeric = frozenset(i for i, column in enumerate(comparison.columns) if column in comparison.numeric)
    rows = [[view.cells.get(column, "") for column in comparison.columns] for view in comparison.runs]
    runs = Table("All runs", comparison.columns, rows, numeric=numeric)
    return "\n".join([*lines, f"## {runs.title}", "", *markdown_table(runs.columns, runs.rows, runs.numeric), ""])


def run_csv(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    """CSV with a row for each run and a column for each key of any run."""
    labels = {run.record["id"]: group.label for group in groups for run in group.runs.values()}
    keys = list(dict.fromkeys(["id", "name", "group_label", "status", "seed", *GROUPS]))
    keys += sorted({key for run in runs for key in run.values} - set(keys) - _constant(runs))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for run in runs:
        writer.writerow({**run.values, "group_label": labels.get(run.record["id"], "")})
    return text.getvalue()


def _constant(runs: Sequence[Run]) -> set[str]:
    """Settings that are the same in all runs, and that no command line names."""
    settings = {key for run in runs for key in run.record.get("settings") or {}}
    given = {key for run in runs for key in run.record.get("overrides", {})}
    return {key for key in settings - given if len({run.values.get(key) for run in runs}) == 1}


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Container[int] = ()) -> list[str]:
    """Lines of a Markdown table; the columns at the places `numeric` are aligned to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rule = ["---:" if place in numeric else "---" for place in range(len(columns))]
    return [line(columns), line(rule), *(line(row) for row in rows)]


def show(comparison: Comparison) -> None:
    """Print the first table to the terminal."""
    console = Console()
    first = comparison.tables[0]
    rich_table = RichTable(title=first.title, title_justify="left", caption=comparison.subtitle, caption_justify="left")
    compact = [place for place, column in enumerate(first.columns) if column not in ("data", "difference in test")]
    widths = []
    for place in compact:
        cells = [first.columns[place], *(row[place] for row in first.rows)]
        widths.append(max(len(word) for cell in cells for word in (cell.split() or [""])))
        justify: Literal["right", "left"] = "right" if place in first.numeric else "left"
        rich_table.add_column(first.columns[place], justify=justify, min_width=widths[-1])
    if sum(widths) + 3 * len(widths) + 1 > console.width:  # a word would be broken: a block for each row
        print(first.title)
        for row in first.rows:
            print(row[compact[0]])
            for place in compact[1:]:
                print(f"  {first.columns[place]}: {row[place]}")
        print(comparison.subtitle)
    else:
        for row in first.rows:
            rich_table.add_row(*(row[place] for place in compact))
        console.print(rich_table)
    for warning in comparison.warnings:
        console.print(f"warning: {warning}", highlight=False, soft_wrap=True, markup=False)
