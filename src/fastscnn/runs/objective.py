"""The value of a finished run that a search optimises: `optimized_metric`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastscnn.runs.record import read_record

MONITORS = ("val/miou", "val/top1")
"""What decides which checkpoint of a run is the best."""
POLL_SECONDS = 1.0


def optimized_value(record: Mapping[str, Any], metric: str | None) -> float | None:
    """The value of a run's record for a metric: at its best validation, or the latest one.

    Args:
        record: The run's.
        metric: Its name; None for the run's monitor.

    Returns:
        None where the run has no such value.
    """
    values = record["metrics"]["last"] | record["metrics"]["best"]
    names = (metric,) if metric else MONITORS
    return next((float(values[name]) for name in names if values.get(name) is not None), None)


def value_of_run(folder: str | None, metric: str | None, *, wait: bool = False) -> float | None:
    """As `optimized_value`, of the run in a folder; None where it is not finished, or has no record.

    Args:
        folder: The run's.
        metric: As there.
        wait: Wait for the end of a run that another process is running.
    """
    while True:
        try:
            record = read_record(Path(folder or ""))
        except (OSError, ValueError):
            return None
        if not wait or record["status"] != "running":
            return optimized_value(record, metric) if record["status"] == "finished" else None
        time.sleep(POLL_SECONDS)
