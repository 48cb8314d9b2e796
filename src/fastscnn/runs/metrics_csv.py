"""`metrics.csv`: one row for each call of the logger, one column for each metric."""

import csv
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from fastscnn.runs.counted import FIRST_EPOCH, Counted
from fastscnn.runs.record import STEP
from fastscnn.utils.files import append_text, replaced
from fastscnn.utils.plain_files import DamagedFile


class MetricsCSV(Counted):
    """Lightning logger that appends to `metrics.csv` row by row, so that a killed run does not lose its metrics.

    A new metric gets a new column: the file is rewritten and atomically replaced. An existing file is continued.

    Attributes:
        columns: Names of the metrics logged so far.
        rows: Number of rows; each checkpoint stores it, so that a resumed run continues with exactly those rows.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.columns, rows = read_rows(path)
        self.rows = len(rows)

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """One file a run: no versions."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run's config is in `.hydra/`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row; NaN stays an empty cell.

        Raises:
            WriteError: The file cannot be written; the earlier rows are unchanged.
        """
        metrics, step = self.counted(metrics, step)
        row = {STEP: step, **{name: value for name, value in metrics.items() if value == value}}
        new = [name for name in (STEP, *metrics) if name not in self.columns]
        if new:
            self._add_columns(new)
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerow(row)
        append_text(self.path, text.getvalue())
        self.rows += 1

    def sync(self) -> None:
        """Flush the rows to the disk, before a checkpoint that depends on them is written."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def _add_columns(self, names: list[str]) -> None:
        _, rows = read_rows(self.path)
        self.columns = [*self.columns, *names]
        _write(self.path, self.columns, rows)


def cut_back(path: Path, *, rows: int | None, epochs: int, finished: bool, first_epoch: int = FIRST_EPOCH) -> None:
    """Remove the rows of a `metrics.csv` that were logged after the checkpoint that its run continues from.

    The test's row of a finished run is not removed.

    Args:
        path: The file, which need not exist.
        rows: How many rows there were at the checkpoint; None if the checkpoint does not say.
        epochs: The epochs completed at the checkpoint, which decide in that case.
        finished: Whether the run was finished.
        first_epoch: The number of the first epoch in the file: 0 in those of earlier versions, whose rows are numbered
            anew.
    """
    try:
        columns, found = read_rows(path)
    except DamagedFile as error:
        _set_aside(path, error)
        return
    if not columns:
        return
    tests = [name for name in columns if finished and name.startswith("test/")]
    stays = [
        row
        for number, row in enumerate(found)
        if (number < rows if rows is not None else _number(row.get("epoch")) - first_epoch < epochs)
        or any(row[name] for name in tests)
    ]
    for row in stays if first_epoch != FIRST_EPOCH else ():
        if row.get("epoch") and not any(row[name] for name in tests):
            row["epoch"] = f"{_number(row['epoch']) + FIRST_EPOCH - first_epoch:g}"
    _write(path, columns, stays)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and complete rows of a `metrics.csv`, empty if there is no file. A row cut short by a kill is skipped.

    Raises:
        DamagedFile: It is no text, holds zeros, or its columns are not those of a `metrics.csv`.
    """
    if not path.exists():
        return [], []
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        reader = csv.DictReader(io.StringIO(whole))
        columns = list(reader.fieldnames or [])
        rows = [row for row in reader if None not in row and None not in row.values()]
    except (UnicodeDecodeError, csv.Error):
        raise _damaged(path) from None
    if "\0" in whole or (whole and STEP not in columns):
        raise _damaged(path)
    return columns, rows


def _number(cell: str | None) -> float:
    try:
        return float(cell or 0)
    except ValueError:
        return math.inf


def _damaged(path: Path) -> DamagedFile:
    return DamagedFile(f"{path} is damaged.", fix="Move it away.")


def _set_aside(path: Path, error: DamagedFile) -> None:
    names = (path.with_suffix(f".damaged{number or ''}.csv") for number in range(10**6))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    print(f"resume: {error.args[0]} It is renamed to {aside.name}, and the run begins a new one.")


def _write(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    with replaced(path) as target, target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
