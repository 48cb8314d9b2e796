"""Which checkpoint a stopped run continues from, also if one of its checkpoints is broken."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastscnn.runs.checkpoint import META, read_checkpoint
from fastscnn.runs.command_line import override, train_command
from fastscnn.runs.position import position
from fastscnn.runs.record import BEST, LAST, read_record
from fastscnn.runs.run_settings import read_run_overrides
from fastscnn.utils.errors import RequestError

NOT_REPEATED = ("resume", "rerun", "paths.run_dir")
"""Settings that the command for a new run leaves out: the folder that they name exists already."""


@dataclass(frozen=True)
class ResumePoint:
    """The point from which a run continues.

    Attributes:
        checkpoint: The file that holds the state.
        epochs: Completed epochs.
        batches: Completed batches of the next epoch.
        step: Completed optimizer steps.
        rows: Rows that `metrics.csv` had at that point; None in checkpoints of earlier versions.
        warnings: What is broken, and what happens because of it.
        best_lost: `best.ckpt` is missing or broken, so its recorded score no longer counts.
        classes: Names of the classes that the network predicts.
    """

    checkpoint: Path
    epochs: int
    batches: int
    step: int
    rows: int | None
    warnings: tuple[str, ...] = ()
    best_lost: bool = False
    classes: tuple[str, ...] = ()


def resume_point(folder: Path) -> ResumePoint:
    """The point to continue from: `last.ckpt`, or `best.ckpt` if `last.ckpt` is broken.

    Raises:
        RequestError: Neither can be read, or the checkpoint is of a version that cannot be resumed.
    """
    last, best = (_read(folder / name) for name in (LAST, BEST))
    if last is not None:
        lost = best is None and _had_best(last)
        broken = "is broken" if (folder / BEST).exists() else "is gone"
        warning = f"{folder / BEST} {broken}: the best of the validations from here on takes its place"
        return _point(folder, LAST, last, (warning,) if lost else (), best_lost=lost)
    if best is not None:
        broken = "is broken" if (folder / LAST).exists() else "is not there"
        return _point(folder, BEST, best, (f"{folder / LAST} {broken}: the run continues from {folder / BEST}",))
    command = restart_command(folder)
    if not can_go_on(folder):
        raise RequestError(
            f"resume={folder}: the run stopped before its first checkpoint, so it cannot continue.",
            key="resume",
            fix=f"Start a new run: {command}",
        )
    names = " and ".join(str(folder / name) for name in (LAST, BEST) if (folder / name).exists())
    problem = f"resume={folder}: {names} cannot be read, so the run cannot continue."
    raise RequestError(problem, key="resume", fix=f"Start a new run: {command}")


def can_go_on(folder: Path) -> bool:
    """Whether a run's folder holds a checkpoint, which may turn out to be broken when it is read."""
    return any((folder / name).exists() for name in (LAST, BEST))


def resume_command(folder: Path) -> str | None:
    """The command that continues a stopped run; None if the run saved no checkpoint."""
    return train_command([override("resume", str(folder))]) if can_go_on(folder) else None


def restart_command(folder: Path) -> str:
    """The command that starts the same run from the beginning, in a new folder."""
    overrides = read_run_overrides(folder)
    if overrides is None:  # the run stopped before this file was written, or the file is damaged
        command = read_record(folder).get("command")
        return str(command or train_command([]))
    return new_run_command(overrides)


def new_run_command(overrides: Sequence[str]) -> str:
    """The command that starts a run with these overrides in a new folder."""
    return train_command([text for text in overrides if text.lstrip("+").partition("=")[0] not in NOT_REPEATED])


def _read(path: Path) -> dict[str, Any] | None:
    """A training checkpoint; None if it is missing or broken."""
    try:
        content = read_checkpoint(path)
        position(content), content["global_step"]
    except (RequestError, KeyError):
        return None
    return content


def _had_best(content: dict[str, Any]) -> bool:
    states = content.get("callbacks", {}).items()
    return any(key.startswith("FolderCheckpoint") and state.get("best_k_models") for key, state in states)


def _point(
    folder: Path, name: Path, content: dict[str, Any], warnings: tuple[str, ...], *, best_lost: bool = False
) -> ResumePoint:
    if "best_scores" not in content[META]:
        raise RequestError(
            f"resume={folder}: {folder / name} was written by a version that did not store the best score.",
            key="resume",
            fix="Start a new run.",
        )
    epochs, batches = position(content)
    step, rows = content["global_step"], content[META].get("rows")
    classes = tuple(content[META]["classes"].get("names", ()))
    return ResumePoint(folder / name, epochs, batches, step, rows, warnings, best_lost, classes)
