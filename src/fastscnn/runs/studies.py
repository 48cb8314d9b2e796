"""The studies that a run belongs to: every job of a multirun carries its name, also one of an earlier call."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastscnn.runs.record_file import read_record_file
from fastscnn.utils.files import write_json

STUDIES = "studies"
"""The key of `run.json`: names of multiruns, the oldest first."""
OF_USERS = ("note", "tags")
"""Keys of `run.json` that `src/runs.py` writes, also while the run is going on."""
TAG = "study:"
"""Without "=", which the package for dashboards doubles in a filter."""
SECONDS = 10
"""How long W&B's server may take to add a tag."""


def with_study(studies: Sequence[str], study: str | None) -> list[str]:
    """The studies of a run and one more, if it is not there."""
    return list(dict.fromkeys([*studies, *([study] if study else [])]))


def join_study(record_file: Path, study: str) -> Mapping[str, Any] | None:
    """Add a study to the record of a run that another call began; returns the record, None where it was there already.

    A run that is going on in another process takes it over when it next writes its record.
    """
    data = read_record_file(record_file)
    known = data.get(STUDIES) or []
    if study in known:
        return None
    data[STUDIES] = with_study(known, study)
    write_json(record_file, data)
    return data


def on_disk(record_file: Path) -> Mapping[str, Any]:
    """A record as its file is now; empty where it cannot be read."""
    try:
        return read_record_file(record_file)
    except (OSError, ValueError):
        return {}


def tag_online(wandb_id: str, settings: Mapping[str, Any], study: str) -> None:
    """Add the study's tag to a run on W&B's server; a line says so where that is not possible.

    Nothing is asked of the network without a key, or where W&B is offline.
    """
    from fastscnn.runs.tracking import ENVIRONMENT  # which knows the record, which knows this module

    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    import wandb

    if wandb.setup().settings.mode not in ("online", "run") or not wandb.login(prompt=False, verify=False):
        return
    path = "/".join(str(part) for part in (settings.get("entity"), settings.get("project"), wandb_id) if part)
    try:
        run: Any = wandb.Api(timeout=SECONDS).run(path)
        run.tags = with_study(run.tags, f"{TAG}{study}")
        run.update()
    except Exception as error:  # whatever a server answers: the tag is worth less than the jobs
        cause = str(error).partition("\n")[0].rstrip(".")
        print(f"W&B: the run {wandb_id} has no tag {TAG}{study} ({type(error).__name__}: {cause}).", file=sys.stderr)
