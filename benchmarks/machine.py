"""What a result was measured on."""

from typing import Any

from fastscnn.runs.machine import describe_machine
from fastscnn.runs.record import describe_process


def measured() -> dict[str, Any]:
    """The machine, the command, the versions and the commit: goes into every file of results/."""
    return {"machine": describe_machine(), **describe_process()}
