"""Going on with a run in its own folder: `resume=RUN_DIR` with what else the command line asks for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fastscnn.runs.config import check_config
from fastscnn.runs.jobs import within
from fastscnn.runs.record import LAST, RECORD, read_record, refuse_running
from fastscnn.runs.resume_point import ResumePoint, resume_point
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import replaced, write_bytes

CONFIG = Path(".hydra/config.yaml")
OF_THE_CALL = ("resume", "rerun", "paths")
"""Settings that belong to one call of the command, not to the run."""
MAY_CHANGE = (
    "data.root",
    "data.num_workers",
    "data.store",
    "data.exif",
    "data.max_pixels",
    "data.max_epochs",
    "data.lr",
    "data.check_val_every_n_epoch",
    "data.evaluate_test",
    "trainer",
    "optimizer",
    "pictures",
    "logger",
)
"""Settings that a resumed run may take anew. Any other would make it another run."""
MAY_NOT = ("trainer.limit_train_batches",)
"""Not even these of `MAY_CHANGE`: the number of steps in an epoch, by which the schedule counts."""


@dataclass(frozen=True)
class Resumed:
    """A run that goes on, and from where.

    Attributes:
        folder: Its folder, as it was named.
        config: Its own config with what changes.
        record: Its record, as it was left.
        changes: Setting to its value before and now.
        epochs: Epochs that are done.
        step: Optimizer steps that are done.
        point: Where it goes on; None where nothing is left to do.
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
        """Whether nothing is left to do."""
        return self.point is None

    def told(self) -> Iterator[str]:
        """What a person is told before the run goes on, in lines."""
        if self.point is None:
            yield (
                f"{self.folder} is finished (epoch {self.epochs} of {self.config.trainer.max_epochs}). Extend it with "
                f"trainer.max_epochs=N above {self.epochs}."
            )
            return
        within = f" and {self.point.batches} batches of the next" if self.point.batches else ""
        yield f"resume: epoch {self.epochs} of {self.config.trainer.max_epochs} is done{within} (step {self.step})"
        for warning in self.point.warnings:
            yield f"resume: {warning}"
        for key, (before, now) in self.changes.items():
            yield f"resume: {key} {before} -> {now}"


def resumed_run(config: DictConfig, *, first_process: bool = True) -> Resumed | None:
    """The run that `resume` of a composed config names; None where it names none.

    The run keeps the config that it was started with, not today's defaults; the command line's settings are put
    over it. Nothing is written.

    Args:
        config: What Hydra composed.
        first_process: Not one of the others of a distributed run, whose first process is running already.

    Raises:
        RequestError: There is no run to go on with, it is running, or something else is asked for than to go on.
    """
    if OmegaConf.select(config, "resume") is None:
        return None
    if not str(config.resume).strip():
        raise RequestError("resume= is empty: give a run's folder, outputs/NAME/TIME-ID.")
    folder = _folder(Path(str(config.resume)))
    record = refuse_running(folder) if first_process else read_record(folder)
    before = run_config(folder)
    overrides = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    by_hand = any(override.key_or_group == "resume" for override in overrides)
    now = _overridden(folder, before, overrides, config, record) if by_hand else config.copy()
    with open_dict(now):
        now.paths, now.resume, now.rerun = before.paths, None, False
    changes = _changes(before, now)
    for key, (old, new) in changes.items():
        if not within(key, MAY_CHANGE) or within(key, MAY_NOT):
            raise RequestError(
                f"resume={folder}: {key} {old} -> {new} would make it another run: leave {key} out, or start a new "
                "run without resume."
            )
    check_config(now)
    longer = "trainer.max_epochs" in changes
    if record["status"] == "finished" and not longer:
        last = record["metrics"]["last"]
        return Resumed(folder, now, record, changes, last.get("epoch", 0), last.get("step", 0))
    point = resume_point(folder)
    if longer and now.trainer.max_epochs <= point.epochs:
        raise RequestError(
            f"resume={folder}: trainer.max_epochs={now.trainer.max_epochs} is not above the {point.epochs} epochs that "
            f"are done: set trainer.max_epochs={point.epochs + 1} or more."
        )
    return Resumed(folder, now, record, changes, point.epochs, point.step, point)


def run_config(folder: Path) -> DictConfig:
    """The config that a run was started with, or was resumed with last.

    Raises:
        RequestError: It is not there, or cannot be read.
    """
    try:
        config = OmegaConf.load(folder / CONFIG)
        OmegaConf.resolve(config.copy())
    except (OSError, ValueError, OmegaConfBaseException) as error:
        cause = str(error).splitlines()[0]
        raise RequestError(f"resume={folder}: {folder / CONFIG} cannot be read ({cause}): start a new run.") from None
    assert isinstance(config, DictConfig)
    return config


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value, for every value of nested containers."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return values


def resolved(config: DictConfig) -> dict[str, Any]:
    """Dotted key to value of a config, without the settings that belong to the call."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return {key: value for key, value in flat(plain).items() if not within(key, OF_THE_CALL)}


def write_config(resumed: Resumed) -> None:
    """Put the changed config and overrides in their place in `.hydra/`; the earlier ones stay, as `config.1.yaml`."""
    if not resumed.changes:
        return
    folder = resumed.folder / CONFIG.parent
    had: Any = OmegaConf.load(folder / "overrides.yaml") if (folder / "overrides.yaml").exists() else []
    added = [f"{key}={'null' if now is None else now}" for key, (_, now) in resumed.changes.items()]
    number = next(number for number in range(1, 10**6) if not (folder / f"config.{number}.yaml").exists())
    for name, content in (("config", resumed.config), ("overrides", OmegaConf.create([*had, *added]))):
        path = folder / f"{name}.yaml"
        if path.exists():
            write_bytes(folder / f"{name}.{number}.yaml", path.read_bytes())
        with replaced(path) as target:
            OmegaConf.save(content, target)


def _folder(given: Path) -> Path:
    folder = given
    if given.name == RECORD:
        folder = given.parent
    elif given.name == LAST.name:
        folder = given.parent.parent
    elif given.suffix == ".ckpt":
        raise RequestError(f"resume={given}: a run goes on from its last.ckpt: give the run's folder.")
    if not folder.is_dir():
        raise RequestError(f"resume={given}: there is no such folder. Give a run's folder, outputs/NAME/TIME-ID.")
    if not (folder / RECORD).is_file():
        raise RequestError(f"resume={given} is no run's folder (it has no {RECORD}): give outputs/NAME/TIME-ID.")
    return folder


def _overridden(
    folder: Path, before: DictConfig, overrides: Sequence[Override], today: DictConfig, record: Mapping[str, Any]
) -> DictConfig:
    """The run's config with the command line's settings; `logger` is the one group that may be chosen anew."""
    config = before.copy()
    groups = HydraConfig.get().runtime.choices
    for override in overrides:
        key, value = override.key_or_group, override.value()
        if key in ("resume", "rerun", "paths.output_dir"):
            continue
        if key.startswith("paths."):
            raise RequestError(f"resume={folder}: a run goes on in its own folder: leave {key} out.")
        if override.is_delete():
            raise RequestError(f"resume={folder}: ~{key} would make it another run: start a new run without resume.")
        if key == "logger":
            with open_dict(config):
                config.logger = today.logger
        elif key in groups:
            had = record["choices"].get(key, "none")
            if str(value) != had:
                raise RequestError(
                    f"resume={folder}: the run has {key}={had}, and {key}={value} would make it another run: start a "
                    "new run without resume."
                )
        else:
            OmegaConf.update(config, key, value, force_add=True)
    return config


def _changes(before: DictConfig, now: DictConfig) -> dict[str, tuple[Any, Any]]:
    old, new = resolved(before), resolved(now)
    keys = [*new, *(key for key in old if key not in new)]
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}
