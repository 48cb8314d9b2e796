"""Links from a comparison to the pages of evaluations (`eval.py report=true`)."""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from fastscnn.reports.comparison.content import EvaluationPage, RunView
from fastscnn.reports.comparison.records import Evaluation
from fastscnn.runs.evaluation_report import PAGE

COLUMNS = ("split", "resolution", "skip", "mIoU %")
"""Columns of the table between the run and the link."""


def evaluation_pages(
    evaluations: Sequence[Evaluation], runs: Sequence[RunView], output: Path
) -> tuple[EvaluationPage, ...]:
    """The pages of the evaluations of some runs, the newest of each run first, linked from a folder."""
    labels = {run.id: run.label for run in runs}
    pages = []
    for evaluation in reversed(evaluations):
        path = evaluation.folder / PAGE
        if evaluation.run in labels and path.is_file():
            split = str(evaluation.content.get("split", ""))
            miou = evaluation.miou(split)
            score = "" if miou is None else f"{100 * miou:.2f}"
            cells = (split, evaluation.resolution, evaluation.skip, score)
            pages.append(EvaluationPage(labels[evaluation.run], cells, _address(path, output)))
    order = list(labels.values())
    return tuple(sorted(pages, key=lambda page: order.index(page.run)))


def evaluations_html(pages: Sequence[EvaluationPage]) -> str:
    """A section with a link to each page; nothing without pages."""
    if not pages:
        return ""
    head = "".join(f"<th>{title}</th>" for title in ("run", *COLUMNS, "page"))
    rows = []
    for page in pages:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in (page.run, *page.cells))
        rows.append(f'<tr>{cells}<td><a href="{html.escape(page.address, quote=True)}">open</a></td></tr>')
    table = f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return (
        '<section id="evaluations"><h2>Pages of evaluations</h2>\n<p class="note">What is wrong, and where: confusion '
        "matrix, boundaries, sizes of objects, the worst frames (eval.py checkpoint=FILE report=true).</p>\n"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Pages of evaluations">{table}</div></section>'
    )


def _address(path: Path, output: Path) -> str:
    """Relative to the folder of the comparison, which may be copied with the runs; absolute from another drive."""
    try:
        return quote(Path(os.path.relpath(path, output.resolve())).as_posix())
    except ValueError:
        return path.as_uri()
