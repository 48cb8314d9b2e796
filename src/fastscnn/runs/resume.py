"""Resuming a run in its own folder: `resume=RUN_DIR`, with other settings of the command line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from fastscnn.runs.effect import check_effect
from fastscnn.runs.record import LAST, RECORD, read_record, refuse_running
from fastscnn.runs.renamed import YOUNGER
from fastscnn.runs.resume_point import ResumePoint, resume_point
from fastscnn.runs.run_settings import (
    CALL_SETTINGS,
    CONFIG,
    OVERRIDES,
    STARTS,
    may_change,
    read_run_config,
    read_run_overrides,
    run_settings,
    to_plain,
)
from fastscnn.runs.trust import check_trusted, named_targets, targets_in, trusted_packages
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import replaced, write_bytes
from fastscnn.utils.values import check_whole

OF_THE_CALL = [key for key in CALL_SETTINGS if key != "paths"]
TEACHER = "distill.checkpoint"
"""May lie elsewhere now: its digest stays. To have one or none is another run."""
NEW_RUN = "Start a new run without resume."


@dataclass(frozen=True)
class Resumption:
    """A run to be resumed, and the point that it continues from.

    Attributes:
        folder: Its folder, as the user named it.
        config: Its own config, with the changed settings.
        record: Its record, as it was when the run stopped.
        changes: Setting to its value before and now.
        epochs: Completed epochs.
        step: Completed optimizer steps.
        point: The point to continue from; None if the run is finished.
    """

    folder: Path
    config: DictConfig
    record: Mapping[str, Any]
    changes: Mapping[str, tuple[Any, Any]]
    epochs: int
    step: int
    point: ResumePoint | None = None

    @property
    def finished(self) -> bool:
        """Whether the run is finished already."""
        return self.point is None

    @property
    def _max_epochs(self) -> Any:
        """The epochs of the run; where they are `auto`, what that stands for in it."""
        epochs = self.config.trainer.max_epochs
        return self.record.get("settled", {}).get("trainer.max_epochs", epochs) if epochs == "auto" else epochs

    def lines(self) -> Iterator[str]:
        """The lines that are printed before the run continues."""
        if self.point is None:
            yield (
                f"{self.folder} is finished (epoch {self.epochs} of {self._max_epochs}). Extend it with "
                f"trainer.max_epochs=N above {self.epochs}."
            )
            return
        part = f" and {self.point.batches} batches of the next" if self.point.batches else ""
        yield f"resume: epoch {self.epochs} of {self._max_epochs} is done{part} (step {self.step})"
        for warning in self.point.warnings:
            yield f"resume: {warning}"
        for key, (before, now) in self.changes.items():
            yield f"resume: {key} {before} -> {now}"


def resumption(
    given: str | Path, overrides: Sequence[str] | None, composed: DictConfig, *, first_process: bool = True
) -> Resumption:
    """The point that a stopped run continues from, and its config. Nothing is written.

    The config is the one that the run was started with, not today's defaults, with the overrides applied to it.

    Args:
        given: The run's folder, or `run.json` or `last.ckpt` in it.
        overrides: Settings to change, as on the command line; None where `composed` asks for the same run, and
            replaces its config.
        composed: What Hydra composed with these overrides today.
        first_process: Whether this is the first process of the run; in the others, the run is running already.

    Raises:
        RequestError: There is no such run, it is running, or the overrides would make it another run.
    """
    folder = recorded_folder(given)
    record = refuse_running(folder) if first_process else read_record(folder)
    before = read_run_config(folder)
    now = composed.copy() if overrides is None else _overridden(folder, before, overrides, composed, record)
    if overrides is not None:  # else every name in it is the command line's own
        check_effect(now, overrides)
        own = named_targets(overrides) | targets_in(to_plain(composed))
        trust = trusted_packages(OmegaConf.select(composed, "trust"))
        check_trusted(to_plain(now), own, source=str(folder / CONFIG), trust=trust)
    with open_dict(now):
        now.paths, now.resume, now.rerun = before.paths, None, False
        for name in STARTS:  # the same file may lie elsewhere now; one that is read on is read where it lies
            digest = OmegaConf.select(now, f"{name}.sha256")
            if not may_change(f"{name}.checkpoint") and digest and digest == OmegaConf.select(before, f"{name}.sha256"):
                now[name].checkpoint = before[name].checkpoint
    changes = _changes(before, now)
    for key, (old, new) in changes.items():
        if not may_change(key) or (key == TEACHER and not (old and new)):
            raise RequestError(
                f"resume={folder}: {key} {old} -> {new} would make it another run.",
                key=key,
                fix=f"Leave {key} out, or start a new run without resume.",
            )
    longer = "trainer.max_epochs" in changes
    if record["status"] == "finished" and not longer:
        last = record["metrics"]["last"]
        return Resumption(folder, now, record, changes, last.get("epoch", 0), last.get("step", 0))
    point = resume_point(folder)
    if longer:
        check_whole("trainer.max_epochs", now.trainer.max_epochs, 1)
    if longer and now.trainer.max_epochs <= point.epochs:
        raise RequestError(
            f"resume={folder}: trainer.max_epochs={now.trainer.max_epochs} is not above the {point.epochs} epochs that "
            "are done.",
            key="trainer.max_epochs",
            fix=f"Set trainer.max_epochs={point.epochs + 1} or more.",
        )
    return Resumption(folder, now, record, changes, point.epochs, point.step, point)


def write_config(resumption: Resumption) -> None:
    """Write the changed config and overrides to `.hydra/`; the earlier files are renamed, `config.1.yaml`."""
    if not resumption.changes:
        return
    folder = resumption.folder
    had = read_run_overrides(folder)
    if had is None and (folder / OVERRIDES).exists():
        print(f"resume: {folder / OVERRIDES} cannot be read: it is written anew, with the changed settings alone")
    added = [f"{key}={'null' if now is None else now}" for key, (_, now) in resumption.changes.items()]
    number = next(number for number in range(1, 10**6) if not (folder / f".hydra/config.{number}.yaml").exists())
    for file, content in ((CONFIG, resumption.config), (OVERRIDES, OmegaConf.create([*(had or []), *added]))):
        path = folder / file
        if path.exists():
            write_bytes(path.with_suffix(f".{number}.yaml"), path.read_bytes(), durable=True)
        with replaced(path, durable=True) as target:
            OmegaConf.save(content, target)


def recorded_folder(given: str | Path, key: str = "resume") -> Path:
    """The run's folder that a setting names: the folder itself, or `run.json` or `last.ckpt` in it.

    Raises:
        RequestError: It is none; names the setting.
    """
    fix = "Give a run's folder, outputs/NAME/TIME-ID."
    if not str(given).strip():
        raise RequestError(f"{key}= is empty.", key=key, fix=fix)
    folder = given = Path(given)
    if given.name == RECORD:
        folder = given.parent
    elif given.name == LAST.name:
        folder = given.parent.parent
    elif given.suffix == ".ckpt":
        problem = f"{key}={given}: a run goes on from its last.ckpt."
        raise RequestError(problem, key=key, fix="Give the run's folder.")
    if not folder.is_dir():
        raise RequestError(f"{key}={given}: there is no such folder.", key=key, fix=fix)
    if not (folder / RECORD).is_file():
        raise RequestError(f"{key}={given} is no run's folder (it has no {RECORD}).", key=key, fix=fix)
    return folder


def _overridden(
    folder: Path, before: DictConfig, overrides: Sequence[str], composed: DictConfig, record: Mapping[str, Any]
) -> DictConfig:
    """The run's config with the command line's settings; `logger` is the only group that may change."""
    config = before.copy()
    groups = HydraConfig.get().runtime.choices
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key, value = override.key_or_group, override.value()
        if key in (*OF_THE_CALL, "paths.output_dir"):
            continue
        if key.startswith("paths."):
            problem = f"resume={folder}: a run goes on in its own folder."
            raise RequestError(problem, key=key, fix=f"Leave {key} out.")
        if override.is_delete():
            problem = f"resume={folder}: ~{key} would make it another run."
            raise RequestError(problem, key=key, fix=NEW_RUN)
        if key == "logger":
            with open_dict(config):
                config.logger = composed.get("logger") or {}
        elif key == "callbacks":
            _refuse_other_callbacks(folder, config, composed)
        elif key in groups:
            had = record["choices"].get(key, YOUNGER.get(key, "none"))
            if str(value) != had:
                raise RequestError(
                    f"resume={folder}: the run has {key}={had}, and {key}={value} would make it another run.",
                    key=key,
                    fix=NEW_RUN,
                )
        else:
            OmegaConf.update(config, key, value, force_add=True)
    return config


def _refuse_other_callbacks(folder: Path, config: DictConfig, composed: DictConfig) -> None:
    had = config.get("callbacks") or {}
    if set(had) != set(composed.get("callbacks") or {}):
        raise RequestError(
            f"resume={folder}: the run has the callbacks {', '.join(map(str, had)) or 'none'}, and others would make "
            "it another run.",
            key="callbacks",
            fix=NEW_RUN,
        )


def _changes(before: DictConfig, now: DictConfig) -> dict[str, tuple[Any, Any]]:
    old, new = run_settings(before), run_settings(now)
    keys = [*new, *(key for key in old if key not in new)]
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}
