"""Reading `run.json` and checking that it holds what every record holds."""

import json
from pathlib import Path
from typing import Any

from fastscnn.utils.plain_files import DamagedFile, read_json

REQUIRED = {"status": str, "choices": dict, "metrics": dict}
"""What every record holds, and of which type it is."""
OPTIONAL = {"name": str, "started": str, "overrides": dict, "resumed": list}
"""What a record may lack or have as null."""


def read_record_file(path: Path) -> dict[str, Any]:
    """Read a record as it is written.

    Raises:
        DamagedFile: It does not hold what a record holds; names the file.
        FileNotFoundError: It is not there.
    """
    try:
        data = read_json(path)
        _check(data)
    except ValueError as error:
        problem = f"{path} cannot be read ({error})."
        raise DamagedFile(problem, key="resume", fix="Restore it from a copy, or start a new run.") from None
    record: dict[str, Any] = data
    return record


def _check(data: Any) -> None:
    if not isinstance(data, dict):
        raise ValueError("it is not the record of a run")
    if missing := [key for key in REQUIRED if key not in data]:
        raise ValueError(f"it has no {', '.join(missing)}")
    kinds = REQUIRED | {key: kind for key, kind in OPTIONAL.items() if data.get(key) is not None}
    for key, kind in kinds.items():
        _check_kind(key, data[key], kind)
    for name, values in data["metrics"].items():
        _check_kind(f"metrics.{name}", values, dict)


def _check_kind(key: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"its {key} is {json.dumps(value)[:40]}")
