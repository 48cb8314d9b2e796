"""Skipping what is finished: which jobs of a repeated multirun are finished, are running, or can be continued."""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fastscnn.runs import slurm
from fastscnn.runs.identity import chosen_identity
from fastscnn.runs.jobs import DONE, RUNNING, Job, current_multirun
from fastscnn.runs.record import RECORD, observed_record, read_record, running_as
from fastscnn.runs.resume_point import can_go_on
from fastscnn.runs.run_settings import CONFIG, EXECUTION_SETTINGS, STARTS, in_settings, read_run_config, run_settings
from fastscnn.runs.studies import join_study, tag_online
from fastscnn.training.starts import resolve_starts
from fastscnn.utils.errors import RequestError
from fastscnn.utils.plain_files import DamagedFile


@dataclass(frozen=True)
class Earlier:
    """An earlier run of the same config.

    Attributes:
        folder: Its folder.
        record: Its record.
    """

    folder: Path
    record: dict[str, Any]

    @property
    def rank(self) -> tuple[int, str, str]:
        """The run with the highest rank counts: finished, then running, then resumable, and the latest of these."""
        place = {"finished": 3, "running": 2}.get(self.record["status"], 1 if can_go_on(self.folder) else 0)
        return place, self.record.get("started") or "", self.folder.name  # which has the time to the microsecond


def left_to_do(config: DictConfig, job: Job) -> bool:
    """Whether a job of a multirun has something to do; prints what, unless it is a new run.

    If the job's earlier run stopped, `resume` of the config is set, so that the job continues it.
    """
    if config.rerun or config.resume or config.get("replay"):
        return True
    resolve_starts(config)
    if first_process():
        job.claim(claim_file(config))
    earlier = earlier_run(config)
    if earlier and earlier.record["status"] == "running" and observed_record(earlier.folder)["status"] != "running":
        earlier = earlier_run(config)
    if earlier is None:
        return True
    folder, record = earlier.folder, earlier.record
    if multirun := current_multirun():
        _join(config, earlier, multirun.group)
    if record["status"] == "finished":
        print(f"{job.label}: finished already in {folder}; rerun=true trains a new run", flush=True)
        job.update(status="skipped", code=DONE, reason="finished already", folder=str(folder))
        job.release()
        return False
    if record["status"] == "running":
        print(f"{job.label}: running now in {folder} ({running_as(record)}), so it is left alone", flush=True)
        job.update(status="skipped", code=DONE, reason=RUNNING, folder=str(folder))
        job.release()
        return False
    print(f"{job.label}: goes on in {folder}", flush=True)
    job.update(status="continued", folder=str(folder))
    config.resume = str(folder)
    return True


def _join(config: DictConfig, earlier: Earlier, study: str) -> None:
    """Make a run that an earlier call began one of this study too: in its record, and where W&B has it online."""
    if not first_process():
        return
    try:
        joined = join_study(earlier.folder / RECORD, study)
    except (OSError, DamagedFile) as error:
        _print_once(f"{earlier.folder / RECORD} cannot be written: it does not name the study {study} ({error}).")
        return
    wandb_id, settings = earlier.record.get("wandb_id"), OmegaConf.select(config, "logger.wandb")
    if joined and wandb_id and settings and earlier.record["status"] == "finished":
        tag_online(str(wandb_id), settings, study)


def claim_file(config: DictConfig) -> Path:
    """The lock file that a job holds while it starts; jobs with the same settings have the same file."""
    wanted = json.dumps(_comparable(config, _ignored()), sort_keys=True, default=str)
    place = config.paths.run_dir or chosen_identity(config).name
    digest = hashlib.sha256(f"{place}\n{wanted}".encode()).hexdigest()[:16]
    return Path(config.paths.output_dir) / ".starting" / digest


def first_process() -> bool:
    """Whether this is the first process of a distributed run, which does what must happen once."""
    return all(os.environ.get(rank, "0") == "0" for rank in ("SLURM_PROCID", "LOCAL_RANK"))


def done_before_restart(config: DictConfig) -> bool:
    """Whether a job that SLURM has restarted finished this run before.

    If it only began the run, `resume` of the config is set, so that the run continues. A job's script may contain
    several commands: each finds its own run.
    """
    if config.rerun or config.resume or config.get("replay"):
        return False
    resolve_starts(config)
    job = slurm.job_id()
    found = [earlier for earlier in _same(config) if earlier.record.get("slurm_job") == job and earlier.rank[0] > 0]
    best = max(found, key=lambda earlier: earlier.rank, default=None)
    if best is None:
        return False
    if best.record["status"] == "finished":
        print(f"SLURM job {job} was started before and finished this run: {best.folder}", flush=True)
        return True
    print(f"SLURM job {job} was started before: the run goes on in {best.folder}", flush=True)
    config.resume = str(best.folder)
    return False


def earlier_run(config: DictConfig) -> Earlier | None:
    """The earlier run of the same config, if it is finished, running or resumable.

    Two configs are the same if they differ only in `EXECUTION_SETTINGS`. In a cluster job with several tasks, only
    finished runs count, and the run that the same job began before it was requeued: each task searches on its own, and
    only these runs look the same to all tasks.
    """
    found = _same(config)
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        job = slurm.job_id() if slurm.restarted() else None
        found = [
            earlier
            for earlier in found
            if earlier.record["status"] == "finished" or (job and earlier.record.get("slurm_job") == job)
        ]
    best = max(found, key=lambda earlier: earlier.rank, default=None)
    return best if best and best.rank[0] > 0 else None


def _same(config: DictConfig) -> list[Earlier]:
    """The runs of the same config, in the folder where a new run would be."""
    ignored = _ignored()
    wanted = _comparable(config, ignored)
    return [earlier for earlier in _runs(config) if _asks_for(earlier.folder, wanted, ignored)]


def _ignored() -> list[str]:
    """Settings in which two configs of the same run may differ."""
    multirun = current_multirun()
    swept = multirun.swept if multirun else ()
    return [key for key in EXECUTION_SETTINGS if key not in swept]


def _runs(config: DictConfig) -> Iterator[Earlier]:
    """The runs in the folder where a new run would be."""
    if config.paths.run_dir:
        folders = [Path(config.paths.run_dir)]
    else:
        named = Path(config.paths.output_dir) / chosen_identity(config).name
        folders = [path.parent for path in named.glob(f"*/{RECORD}")]
    for folder in folders:
        try:
            yield Earlier(folder, read_record(folder))
        except FileNotFoundError:
            continue
        except (OSError, DamagedFile) as error:
            _print_ignored(folder, error)


def _asks_for(folder: Path, wanted: dict[str, Any], ignored: list[str]) -> bool:
    try:
        return _comparable(read_run_config(folder), ignored) == wanted
    except RequestError as error:
        if (folder / CONFIG).exists():  # a run that stopped at its start has none
            _print_ignored(folder, error)
        return False


@functools.cache
def _print_once(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _print_ignored(folder: Path, error: Exception) -> None:
    problem = str(error.args[0] if isinstance(error, RequestError) else error).rstrip(".")
    _print_once(f"{problem}: the run in {folder} is not asked whether it is the one of this job.")


def _comparable(config: DictConfig, ignored: list[str]) -> dict[str, Any]:
    """What decides whether two configs ask for the same run; of a file the digest does, not where it lies."""
    digests = [name for name in STARTS if OmegaConf.select(config, f"{name}.sha256")]
    ignored = [*ignored, *(f"{name}.checkpoint" for name in digests)]
    return {key: value for key, value in run_settings(config).items() if not in_settings(key, ignored)}
