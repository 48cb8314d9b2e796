"""The life of one run: its folder, record and loggers, from the first check to the last line."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from fastscnn.runs.folders import new_run_id, refuse_existing, run_folder
from fastscnn.runs.identity import Identity, chosen_identity, recorded_identity
from fastscnn.runs.jobs import keep_folder, release_claim
from fastscnn.runs.metrics_csv import MetricsCSV, cut_back
from fastscnn.runs.offline import set_aside_dead, set_aside_empty
from fastscnn.runs.process import RUN_DIR_VARIABLE
from fastscnn.runs.record import METRICS, RunRecord, recorded
from fastscnn.runs.resume import Resumed, write_config
from fastscnn.runs.resume_point import anew, resume_command
from fastscnn.runs.wandb_tracker import finish_seconds, wandb_tracker
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_writable, remove_leftovers, replaced
from fastscnn.utils.signals import Interrupted, waiting


@dataclass
class Session:
    """One open run.

    Attributes:
        folder: The run's folder.
        record: Its record; None in the processes of a distributed run that are not the first.
        loggers: Where its metrics go.
    """

    folder: Path
    record: RunRecord | None
    loggers: list[Logger]


def check_place(config: DictConfig, resumed: Resumed | None = None) -> None:
    """Check, before anything is computed, that a new run's folder can be made, and any run's written.

    Raises:
        RequestError: It exists already, or cannot be written.
    """
    if resumed:
        check_writable(resumed.folder, "resume")
    elif config.paths.run_dir:
        refuse_existing(Path(config.paths.run_dir))
        check_writable(Path(config.paths.run_dir), "paths.run_dir")
    else:
        check_writable(Path(config.paths.output_dir), "paths.output_dir")


@contextlib.contextmanager
def open_run(config: DictConfig, resumed: Resumed | None = None) -> Iterator[Session]:
    """Make the run's folder, record and loggers, and close them as finished or failed with this block.

    The last line printed names the folder, also after a failure (there as a note on the error, with the command that
    goes on).

    Args:
        config: What is run.
        resumed: The run that goes on, whose folder, record and loggers are then opened again.

    Raises:
        RequestError: The folder exists already, or the run cannot be started in the way asked for.
    """
    if getattr(rank_zero_only, "rank", 0) > 0:
        yield Session(Path(os.environ.get(RUN_DIR_VARIABLE, ".")), None, [])
        return
    _refuse_multirun(config)
    identity = recorded_identity(resumed.record) if resumed else chosen_identity(config)
    with contextlib.ExitStack() as opening:
        opening.enter_context(waiting())  # a signal in here would leave a record that nobody closes
        record = _reopened(resumed) if resumed else _created(config, identity)
        folder = record.folder
        os.environ[RUN_DIR_VARIABLE] = str(folder.resolve())
        keep_folder(folder)
        opened = opening.pop_all()
    try:
        with recorded(record), contextlib.ExitStack() as stack:
            opened.close()
            if resumed:
                _clean(folder)
                set_aside_empty(folder)
                write_config(resumed)
                finished, rows = resumed.record["status"] == "finished", resumed.point.rows if resumed.point else None
                cut_back(folder / METRICS, rows=rows, epochs=resumed.epochs, finished=finished)
            else:
                _write_hydra_files(config, folder)
            release_claim()
            loggers: list[Logger] = [MetricsCSV(folder / METRICS)]
            if config.logger.name == "wandb":
                set_aside_dead(Path(config.paths.output_dir))
                loggers.append(stack.enter_context(wandb_tracker(config, record, identity).running(finish_seconds())))
            yield Session(folder, record, loggers)
    except BaseException as error:
        error.add_note(f"The run's folder, kept as it is: {folder}")
        if command := resume_command(folder):
            error.add_note(f"Continue it: {command}")
        elif isinstance(error, Interrupted):
            error.add_note(f"It kept nothing to go on from. Start again: {anew(HydraConfig.get().overrides.task)}")
        raise
    finally:
        os.environ.pop(RUN_DIR_VARIABLE, None)
    print(f"The run's folder: {folder}")


def _created(config: DictConfig, identity: Identity) -> RunRecord:
    run_id = new_run_id()
    given = config.paths.run_dir
    return RunRecord.create(
        Path(given) if given else run_folder(Path(config.paths.output_dir), identity.name, run_id),
        run_id=run_id,
        name=identity.name,
        choices=identity.choices,
        seed=config.seed,
        overrides=identity.overrides,
        group=identity.group,
    )


def _reopened(resumed: Resumed) -> RunRecord:
    for line in resumed.told():
        print(line)
    record = RunRecord.reopen(
        resumed.folder,
        epoch=resumed.epochs,
        step=resumed.step,
        overrides={key: list(values) for key, values in resumed.changes.items()},
    )
    now = {key: str(value) for key, (_, value) in resumed.changes.items()}
    record.update(
        overrides=record.data.get("overrides", {}) | now,
        choices=record.data["choices"] | {"logger": resumed.config.logger.name},
    )
    return record


def _clean(folder: Path) -> None:
    """Take away what the run had half-written when it was killed."""
    for part in (folder, *(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())):
        remove_leftovers(part)


def _refuse_multirun(config: DictConfig) -> None:
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return
    if config.trainer.devices > 1 and HydraConfig.get().launcher._target_.endswith(".BasicLauncher"):
        raise RequestError(
            f"-m with trainer.devices={config.trainer.devices}: each process of a distributed run would start the "
            "whole multirun again. Add hydra/launcher=submitit_slurm or submitit_local (pip install "
            "hydra-submitit-launcher), or run the jobs one by one."
        )
    if config.logger.name == "wandb" and (wandb_id := os.environ.get("WANDB_RUN_ID")):
        raise RequestError(
            f"-m with WANDB_RUN_ID={wandb_id}: every job would write into that one W&B run. Leave -m out of a sweep's "
            "command, or unset WANDB_RUN_ID."
        )


def _write_hydra_files(config: DictConfig, folder: Path) -> None:
    """The files that Hydra itself would write: what was composed, and from which overrides."""
    hydra = HydraConfig.get()
    contents = {"config": config, "hydra": OmegaConf.create({"hydra": hydra}), "overrides": hydra.overrides.task}
    for name, content in contents.items():
        with replaced(folder / ".hydra" / f"{name}.yaml") as target:
            OmegaConf.save(content, target)
