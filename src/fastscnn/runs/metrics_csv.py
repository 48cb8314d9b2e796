"""`metrics.csv`: one row for each moment that something was logged, one column for each metric."""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from fastscnn.runs.record import STEP
from fastscnn.utils.files import append_text, replaced


class MetricsCSV(Logger):
    """Lightning logger that appends to `metrics.csv`, row by row, so that a killed run keeps what it measured.

    A metric that is new gets a column; the file is then rewritten beside itself and takes its own place. An
    existing file is continued.

    Attributes:
        columns: Names of what was logged so far.
        rows: How many rows there are; each checkpoint keeps it, so that a run goes on with exactly the rows of then.
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
        """Ignored: the run's config is in `.hydra/`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row; NaN stays an empty cell.

        Raises:
            WriteError: It cannot be written; the rows before are as they were.
        """
        row = {STEP: step, **{name: value for name, value in metrics.items() if value == value}}
        new = [name for name in (STEP, *metrics) if name not in self.columns]
        if new:
            self._add_columns(new)
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerow(row)
        append_text(self.path, text.getvalue())
        self.rows += 1

    def sync(self) -> None:
        """Have the rows on the disk, before a checkpoint counts on them."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def _add_columns(self, names: list[str]) -> None:
        _, rows = read_rows(self.path)
        self.columns = [*self.columns, *names]
        _write(self.path, self.columns, rows)


def cut_back(path: Path, *, rows: int | None, epochs: int, finished: bool) -> None:
    """Take out of a `metrics.csv` what was logged after the checkpoint that its run goes on from: it comes anew.

    The test's row of a run that was finished stays.

    Args:
        path: The file, where there is one.
        rows: How many rows there were; None where the checkpoint does not say.
        epochs: The epochs that were done, for that case.
        finished: Whether the run was finished.
    """
    columns, found = read_rows(path)
    if not columns:
        return
    tests = [name for name in columns if finished and name.startswith("test/")]
    stays = [
        row
        for number, row in enumerate(found)
        if (number < rows if rows is not None else float(row.get("epoch") or 0) < epochs)
        or any(row[name] for name in tests)
    ]
    _write(path, columns, stays)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and whole rows of a `metrics.csv`; none where there is no file. What a kill cut short is left out."""
    if not path.exists():
        return [], []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    reader = csv.DictReader(io.StringIO(whole))
    return list(reader.fieldnames or []), [row for row in reader if None not in row.values()]


def _write(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    with replaced(path) as target, target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
