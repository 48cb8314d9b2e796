"""The start and the end of a multirun: describing it to its jobs, and the summary of all jobs."""

import contextlib
import json
import os
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fastscnn.runs.jobs import (
    DONE,
    FAILED,
    RUNNING,
    VARIABLE,
    WRONG_REQUEST,
    Job,
    Multirun,
    current_multirun,
    unwritten,
)
from fastscnn.runs.objective import MONITORS
from fastscnn.runs.record import RECORD, observed_record
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import check_writable
from fastscnn.utils.text import one_line
from fastscnn.utils.values import refused

PLUGINS = {
    "hydra_plugins.hydra_joblib_launcher": "hydra-joblib-launcher",
    "hydra_plugins.hydra_submitit_launcher": "hydra-submitit-launcher",
}
"""The module of a launcher, and what pip calls it."""


class AnnounceMultirun(Callback):
    """Hydra callback that describes the multirun to its jobs before they start."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Set the environment variable; ends the command if the folders of the jobs cannot be written."""
        try:
            check_launcher(config)
            check_writable(Path(config.paths.output_dir), "paths.output_dir")
            check_writable(Path(config.hydra.sweep.dir), "hydra.sweep.dir")
        except RequestError as error:  # Hydra would only warn
            print(one_line(str(error)), file=sys.stderr)
            sys.exit(WRONG_REQUEST)
        given = [str(override) for override in config.hydra.overrides.task]
        named = {override.partition("=")[0] for override in given}
        searched = OmegaConf.select(config, "hydra.sweeper.params") or {}
        overrides = [*(f"{key}={value}" for key, value in searched.items() if key not in named), *given]
        multirun = Multirun.of(overrides, Path(config.hydra.sweep.dir).resolve())
        os.environ[VARIABLE] = json.dumps(asdict(multirun) | {"folder": str(multirun.folder)})


def check_launcher(config: DictConfig) -> None:
    """Check that the launcher of a multirun is installed, and that SLURM's knows how many processes a job has.

    Raises:
        RequestError: It is not; says what to install, or what to set.
    """
    target = str(OmegaConf.select(config, "hydra.launcher._target_"))
    for module, package in PLUGINS.items():
        if target.startswith(f"{module}.") and find_spec(module) is None:
            option = config.hydra.runtime.choices["hydra/launcher"]
            raise RequestError(
                f"hydra/launcher={option} needs {package}, which is not installed.",
                key="hydra/launcher",
                fix=f"Run pip install {package}.",
            )
    if OmegaConf.select(config, "hydra.launcher.n_jobs") == 0:
        raise refused("hydra.launcher.n_jobs", 0, "a whole number of 1 or more, or -1 for a job on each core")
    devices = OmegaConf.select(config, "trainer.devices")
    if target.endswith(".SlurmLauncher") and (not isinstance(devices, int) or devices < 1):
        raise RequestError(
            f"trainer.devices={devices} does not say how many GPUs a job asks SLURM for.",
            key="trainer.devices",
            fix="Set trainer.devices=N.",
        )


def close_multirun() -> int | None:
    """Print the status of each job, the failed ones last; returns the exit code, or None without a multirun."""
    multirun = current_multirun()
    if multirun is None:
        return None
    del os.environ[VARIABLE]
    found = [Job(**json.loads(path.read_text(encoding="utf-8"))) for path in multirun.folder.glob("job-*.json")]
    by_number = {job.number: job for job in found} | unwritten
    jobs = [by_number[number] for number in sorted(by_number)]
    unwritten.clear()
    for job in jobs:
        if job.status == "running":
            job.status, job.reason = "failed", "its process was killed"
        elif job.reason == RUNNING:
            _update_from_other_call(job)
    if not jobs:
        _remove_unused(multirun.folder)
        return None
    print(f"\n{len(jobs)} job{'s' if len(jobs) > 1 else ''}, group {multirun.group}:")
    width = max(len(" ".join(job.overrides)) for job in jobs)
    for job in jobs:
        best = _best(job)
        print(f"{job.number:>3}  {' '.join(job.overrides):<{width}}  {job.status:<11}  {best:<15}  {job.folder or '-'}")
    sys.stdout.flush()
    wrong = [job for job in jobs if job.code != DONE]
    for job in wrong:
        print(f"{job.label} {job.status}: {job.reason}", file=sys.stderr)
    if wrong:
        print("Call the multirun again: it runs only what is not finished.", file=sys.stderr)
    codes = {job.code for job in wrong}
    return FAILED if FAILED in codes else WRONG_REQUEST if WRONG_REQUEST in codes else max(codes, default=DONE)


def _remove_unused(folder: Path) -> None:
    """Remove the folder of a multirun that was refused before a job began; Hydra has written the config there."""
    config = folder / "multirun.yaml"
    if [*folder.glob("*")] == [config]:
        config.unlink()
    with contextlib.suppress(OSError):  # not empty: there is more in it than this call's
        folder.rmdir()
        for parent, name in zip(folder.parents, ("multirun", "outputs"), strict=False):
            if parent.name == name:
                parent.rmdir()


def _update_from_other_call(job: Job) -> None:
    """Update the status of a job that was skipped because another call was running it: it may have failed there."""
    try:
        record = observed_record(Path(job.folder or ""))
    except (OSError, ValueError, KeyError) as error:
        job.status, job.code, job.reason = "failed", FAILED, f"its run in another call is gone ({error})"
        return
    if record["status"] not in ("running", "finished"):
        job.status, job.code = "failed", FAILED
        job.reason = f"its run in another call {record['status']}: {record['error']}"


def _best(job: Job) -> str:
    try:
        metrics = json.loads((Path(job.folder or "") / RECORD).read_text(encoding="utf-8"))["metrics"]["best"]
    except (OSError, ValueError, KeyError):
        return "-"
    return next((f"{name} {metrics[name]:.4f}" for name in MONITORS if metrics.get(name) is not None), "-")
