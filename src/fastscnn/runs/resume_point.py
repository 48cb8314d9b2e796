"""Which checkpoint a stopped run goes on from, and what is left out where one of them is broken."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fastscnn.runs.checkpoint import META, read_checkpoint
from fastscnn.runs.command_line import override, train_command
from fastscnn.runs.record import BEST, LAST, read_record
from fastscnn.utils.errors import RequestError

OF_ONE_CALL = ("resume", "rerun", "paths.run_dir")
"""Settings that a run which is started anew does not take over: its folder is there already."""


@dataclass(frozen=True)
class ResumePoint:
    """Where a run goes on.

    Attributes:
        checkpoint: The file that holds the state.
        epochs: Epochs that are done.
        batches: Batches of the next epoch that are done.
        step: Optimizer steps that are done.
        rows: Rows of `metrics.csv` that were written by then; None in checkpoints of earlier versions.
        warnings: What is broken, and what is done about it.
        best_lost: `best.ckpt` is gone or broken, so what is known of it does not count any more.
    """

    checkpoint: Path
    epochs: int
    batches: int
    step: int
    rows: int | None
    warnings: tuple[str, ...] = ()
    best_lost: bool = False


def resume_point(folder: Path) -> ResumePoint:
    """The place to go on from: `last.ckpt`, or `best.ckpt` where that one is broken.

    Raises:
        RequestError: Neither is whole, or it is of a version that cannot go on.
    """
    last, best = (_read(folder / name) for name in (LAST, BEST))
    if last is not None:
        lost = best is None and _had_best(last)
        broken = "is broken" if (folder / BEST).exists() else "is gone"
        warning = f"{folder / BEST} {broken}: the best of the validations from here on takes its place"
        return _point(folder, LAST, last, (warning,) if lost else (), best_lost=lost)
    if best is not None:
        broken = "is broken" if (folder / LAST).exists() else "is not there"
        return _point(folder, BEST, best, (f"{folder / LAST} {broken}: the run goes on from {folder / BEST}",))
    command = start_again(folder)
    if not can_go_on(folder):
        raise RequestError(
            f"resume={folder}: the run stopped before its first checkpoint, so there is nothing to go on from. "
            f"Start again: {command}"
        )
    names = " and ".join(str(folder / name) for name in (LAST, BEST) if (folder / name).exists())
    raise RequestError(f"resume={folder}: {names} cannot be read, so the run cannot go on. Start again: {command}")


def can_go_on(folder: Path) -> bool:
    """Whether a run's folder holds a checkpoint; whether it is whole shows when it is read."""
    return any((folder / name).exists() for name in (LAST, BEST))


def resume_command(folder: Path) -> str | None:
    """What to type to go on with a stopped run; None where it kept no checkpoint."""
    return train_command([override("resume", str(folder))]) if can_go_on(folder) else None


def start_again(folder: Path) -> str:
    """What to type to start a run anew, in a folder of its own."""
    file = folder / ".hydra" / "overrides.yaml"
    if not file.is_file():  # it was stopped before that was written
        command: str = read_record(folder)["command"]
        return command
    overrides: Any = OmegaConf.to_container(OmegaConf.load(file))
    return anew(overrides)


def anew(overrides: Sequence[str]) -> str:
    """What to type to start a run with these overrides, in a folder of its own."""
    return train_command([text for text in overrides if text.lstrip("+").partition("=")[0] not in OF_ONE_CALL])


def _read(path: Path) -> dict[str, Any] | None:
    """A checkpoint of training; None where it is not there or not whole."""
    try:
        content = read_checkpoint(path)
        content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"], content["global_step"]
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
            f"resume={folder}: {folder / name} is of a version that did not keep the best score: start a new run."
        )
    loop = content["loops"]["fit_loop"]
    epoch = loop["epoch_progress"]["current"]
    within = epoch.get("ready", epoch["processed"]) != epoch["processed"]
    batches = loop["epoch_loop.batch_progress"]["current"]["processed"] if within else 0
    step, rows = content["global_step"], content[META].get("rows")
    return ResumePoint(folder / name, epoch["processed"], batches, step, rows, warnings, best_lost)
