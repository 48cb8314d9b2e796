"""One training run: its folder, record and loggers, from the first check of the request to the last line."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from fastscnn.runs.counted import FIRST_EPOCH
from fastscnn.runs.effect import check_effect
from fastscnn.runs.folders import new_run_id, refuse_existing, run_folder
from fastscnn.runs.identity import Identity, chosen_identity, logger_choice, recorded_identity
from fastscnn.runs.jobs import record_job_folder, release_claim
from fastscnn.runs.loggers import check_loggers, opened_loggers, uses_wandb
from fastscnn.runs.metrics_csv import MetricsCSV, cut_back
from fastscnn.runs.offline import set_aside_dead, set_aside_empty
from fastscnn.runs.process import RUN_DIR_VARIABLE
from fastscnn.runs.provenance import write_provenance
from fastscnn.runs.record import METRICS, RunRecord, recorded
from fastscnn.runs.replay import replayed, told_apart
from fastscnn.runs.resume import Resumption, resumption, write_config
from fastscnn.runs.resume_point import new_run_command, resume_command
from fastscnn.runs.run_settings import recorded_settings
from fastscnn.runs.studies import STUDIES
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_writable, remove_leftovers, replaced
from fastscnn.utils.signals import Interrupted, waiting


class Run:
    """One training run.

    `create` and `resume` check the request and write nothing. `with run:` makes or reopens the folder, the record and
    the loggers, and closes them as finished, interrupted or failed. Its last line names the folder, also after a
    failure (there as a note on the error, with the command that continues the run).

    In a distributed run only the first process does this: the others have no record and no loggers.

    Attributes:
        config: What is run; of a resumed run its own config, with what the command line changes.
        identity: Its name, tags and group.
        resumption: The point that a resumed run continues from; None for a new run.
        record: Its record, inside `with run:`; None in the other processes of a distributed run.
        loggers: The loggers that receive its metrics, inside `with run:`.
        replays: The folder of the run that it trains again; None where there is none.
        when_closed: Called with its record once it is closed, however it ended.
    """

    def __init__(
        self,
        config: DictConfig,
        identity: Identity,
        resumption: Resumption | None = None,
        *,
        replays: Path | None = None,
    ) -> None:
        self.config = config
        self.replays = replays
        self.identity = identity
        self.resumption = resumption
        self.record: RunRecord | None = None
        self.loggers: list[Logger] = []
        self.when_closed: list[Callable[[Mapping[str, Any], Path], None]] = []
        self._folder = resumption.folder if resumption else None
        self._block: contextlib.AbstractContextManager[None] = contextlib.nullcontext()

    @classmethod
    def of(cls, config: DictConfig) -> "Run":
        """The run that a composed config asks for: the one that its `resume` names, or else a new one.

        Raises:
            RequestError: As `create` and `resume`.
        """
        folder = OmegaConf.select(config, "resume")
        if (replay := OmegaConf.select(config, "replay")) is not None:
            if folder is not None:
                problem = "resume and replay: a run goes on in its folder, or is trained again in a new one."
                raise RequestError(problem, key="replay", fix="Leave one of them out.")
            again, identity, source = replayed(str(replay), list(HydraConfig.get().overrides.task), config)
            return cls.create(again, identity, source)
        if folder is None:
            return cls.create(config)
        command_line = list(HydraConfig.get().overrides.task)
        parsed = OverridesParser.create().parse_overrides(command_line)
        named = any(override.key_or_group == "resume" for override in parsed)
        return cls.resume(str(folder), command_line if named else None, config)

    @classmethod
    def create(cls, config: DictConfig, identity: Identity | None = None, replays: Path | None = None) -> "Run":
        """A new run of a composed config, or of a recorded one that it replays.

        Raises:
            RequestError: Its folder exists already or cannot be written, W&B would mix it with other runs, or a setting
                on the command line would have no effect.
        """
        check_loggers(config)
        if is_first_process():
            if config.paths.run_dir:
                refuse_existing(Path(config.paths.run_dir))
                check_writable(Path(config.paths.run_dir), "paths.run_dir")
            else:
                check_writable(Path(config.paths.output_dir), "paths.output_dir")
        check_effect(config, list(HydraConfig.get().overrides.task))
        return cls(config, identity or chosen_identity(config), replays=replays)

    @classmethod
    def resume(cls, folder: str | Path, overrides: Sequence[str] | None, composed: DictConfig) -> "Run":
        """A run that was stopped, to be continued in its own folder.

        Its config is the one that it was started with, not today's defaults.

        Args:
            folder: Its folder, or `run.json` or `last.ckpt` in it.
            overrides: Settings to change, as on the command line; None where `composed` asks for the same run, and
                replaces its config.
            composed: What Hydra composed with these overrides today.

        Raises:
            RequestError: There is no such run, it is running, its folder cannot be written, or the overrides would make
                it another run.
        """
        first_process = is_first_process()
        found = resumption(folder, overrides, composed, first_process=first_process)
        check_loggers(found.config)
        if first_process and not found.finished:
            check_writable(found.folder, "resume")
        return cls(found.config, recorded_identity(found.record), found)

    @property
    def folder(self) -> Path:
        """The run's folder; a new run has one inside `with run:`."""
        assert self._folder is not None
        return self._folder

    @property
    def finished(self) -> bool:
        """Whether the run to resume is finished already."""
        return self.resumption is not None and self.resumption.finished

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint that a resumed run continues from."""
        return self.resumption.point.checkpoint if self.resumption and self.resumption.point else None

    @property
    def best_lost(self) -> bool:
        """Whether the best checkpoint of a resumed run is missing or broken."""
        return bool(self.resumption and self.resumption.point and self.resumption.point.best_lost)

    def print_finished(self) -> None:
        """Print that the run is finished already."""
        assert self.resumption is not None
        print(*self.resumption.lines(), sep="\n")
        record_job_folder(self.folder)

    def print_replayed(self) -> None:
        """Print what differs from the run that it trains again."""
        if self.record and self.replays:
            print(*told_apart(self.replays, self.record.data, self.folder), sep="\n")

    def update(self, **changes: object) -> None:
        """Change keys of the record, in the process that has it."""
        if self.record:
            self.record.update(**changes)

    def __enter__(self) -> "Run":
        self._block = self._opened() if is_first_process() else self._joined()
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._block.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _joined(self) -> Iterator[None]:
        """Take part in the run that the first process of a distributed run has opened."""
        self._folder = Path(os.environ.get(RUN_DIR_VARIABLE, "."))
        yield

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        with contextlib.ExitStack() as opening:
            opening.enter_context(waiting())  # a signal here would leave a record that nothing closes
            self.record = record = self._reopen(self.resumption) if self.resumption else self._make()
            self._folder = folder = record.folder
            os.environ[RUN_DIR_VARIABLE] = str(folder.resolve())
            record_job_folder(folder)
            opened = opening.pop_all()
        try:
            with recorded(record), contextlib.ExitStack() as stack:
                opened.close()
                if self.resumption:
                    _clean_up(self.resumption)
                else:
                    _write_hydra_files(self.config, folder)
                record.update(**write_provenance(folder, record.data))
                release_claim()
                if uses_wandb(self.config):
                    set_aside_dead(Path(self.config.paths.output_dir))
                chosen = stack.enter_context(opened_loggers(self.config, record, self.identity))
                self.loggers = [MetricsCSV(folder / METRICS), *chosen]
                yield
        except BaseException as error:
            error.add_note(f"The run's folder, left as it is: {folder}")
            if command := resume_command(folder):
                error.add_note(f"Continue it: {command}")
            elif isinstance(error, Interrupted):
                command = new_run_command(HydraConfig.get().overrides.task)
                error.add_note(f"It saved no checkpoint to continue from. Start a new run: {command}")
            raise
        finally:
            os.environ.pop(RUN_DIR_VARIABLE, None)
            for call in self.when_closed:
                call(record.data, folder)
        print(f"The run's folder: {folder}")

    def _make(self) -> RunRecord:
        run_id, paths = new_run_id(), self.config.paths
        return RunRecord.create(
            Path(paths.run_dir) if paths.run_dir else run_folder(Path(paths.output_dir), self.identity.name, run_id),
            run_id=run_id,
            name=self.identity.name,
            choices=self.identity.choices,
            seed=self.config.seed,
            overrides=self.identity.overrides,
            group=self.identity.group,
            further={
                "settings": recorded_settings(self.config),
                "first_epoch": FIRST_EPOCH,
                STUDIES: list(self.identity.studies),
                "replays": str(self.replays) if self.replays else None,
            },
        )

    def _reopen(self, resumption: Resumption) -> RunRecord:
        for line in resumption.lines():
            print(line)
        record = RunRecord.reopen(
            resumption.folder,
            epoch=resumption.epochs,
            step=resumption.step,
            overrides={key: list(values) for key, values in resumption.changes.items()},
        )
        now = {key: str(value) for key, (_, value) in resumption.changes.items()}
        record.update(
            overrides=record.data.get("overrides", {}) | now,
            choices=record.data["choices"] | {"logger": logger_choice(self.config)},
            settings=recorded_settings(self.config),
            first_epoch=FIRST_EPOCH,
            **{STUDIES: list(self.identity.studies)},
        )
        return record


def is_first_process() -> bool:
    """Whether this is not one of the other processes of a distributed run."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _clean_up(resumption: Resumption) -> None:
    """Remove half-written files of a killed run, and the metrics that it logged after its checkpoint."""
    folder = resumption.folder
    for part in (folder, *(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())):
        remove_leftovers(part)
    set_aside_empty(folder)
    write_config(resumption)
    rows = resumption.point.rows if resumption.point else None
    first = resumption.record.get("first_epoch", 0)
    was_finished = resumption.record["status"] == "finished"
    cut_back(folder / METRICS, rows=rows, epochs=resumption.epochs, finished=was_finished, first_epoch=first)


def _write_hydra_files(config: DictConfig, folder: Path) -> None:
    """Write the files that Hydra itself would write: the composed config, Hydra's own, and the overrides."""
    hydra = HydraConfig.get()
    contents = {"config": config, "hydra": OmegaConf.create({"hydra": hydra}), "overrides": hydra.overrides.task}
    for name, content in contents.items():
        with replaced(folder / ".hydra" / f"{name}.yaml", durable=True) as target:
            OmegaConf.save(content, target)
