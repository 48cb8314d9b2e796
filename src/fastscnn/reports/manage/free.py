"""Which checkpoints of runs can go: those of failed runs, of superseded ones and of trials."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fastscnn.reports.comparison.groups import group_runs
from fastscnn.reports.comparison.records import Run
from fastscnn.runs.record import BEST, LAST
from fastscnn.runs.resume_point import can_go_on

TRIAL = "trial"
EXPORTS = ("*.onnx", "*.pt2", "*.ts", "*.torchscript", "*.safetensors", "*.xml")
"""What an export leaves beside a checkpoint."""

Freed = tuple[Run, str, Path]


def to_free(
    runs: Iterable[Run], every: Sequence[Run], folders: Sequence[Path], *, by_name: bool
) -> tuple[list[Freed], list[tuple[Run, str]]]:
    """The files that can go, each with its run and the reason; and the runs that are left alone, with the reason.

    Args:
        runs: The runs that are asked about.
        every: All runs of the folders, which decide what is superseded.
        folders: Where comparisons are looked for.
        by_name: Whether the user named these runs: then a newest checkpoint to go on from goes too.
    """
    superseded = {str(old.record["id"]) for group in group_runs(every) for old in group.superseded}
    compared = set(_compared(folders))
    files: list[Freed] = []
    left: list[tuple[Run, str]] = []
    for run in runs:
        reason = _reason(run, superseded)
        if reason is None:
            continue
        checkpoints = sorted((run.folder / "checkpoints").glob("*.ckpt"))
        if not checkpoints:
            continue
        if str(run.record["id"]) in compared:
            left.append((run, "a comparison counts it"))
            continue
        if any(next(run.folder.rglob(pattern), None) for pattern in EXPORTS):
            left.append((run, "it was exported"))
            continue
        goes_on = run.record["status"] != "finished" and can_go_on(run.folder)
        newest = LAST.name if (run.folder / LAST).exists() else BEST.name
        for path in checkpoints:
            if goes_on and not by_name and path.name == newest:
                left.append((run, f"it can go on from {newest}; id={run.record['id']} frees that too"))
            else:
                files.append((run, reason, path))
    return files, left


def freed(files: Iterable[Freed]) -> None:
    """Delete the files; a record says what it no longer has by their absence."""
    for _, _, path in files:
        path.unlink(missing_ok=True)


def _reason(run: Run, superseded: set[str]) -> str | None:
    if run.record["status"] == "running":
        return None
    if run.record["status"] in ("failed", "interrupted"):
        return str(run.record["status"])
    if str(run.record["id"]) in superseded:
        return "superseded by a newer run of its seed"
    is_trial = TRIAL in (run.record.get("tags") or ()) or run.choices.get("debug")
    return "trial" if is_trial else None


def _compared(folders: Iterable[Path]) -> Iterator[str]:
    """Ids of the runs that a comparison below the folders counts: a row of its CSV with the label of a group."""
    for folder in folders:
        for file in folder.rglob("comparison.csv"):
            try:
                with file.open(newline="", encoding="utf-8") as rows:
                    yield from (row["id"] for row in csv.DictReader(rows) if row.get("group_label") and row.get("id"))
            except (OSError, csv.Error):
                continue
