"""From a command line to a call: composing the config, reporting what went wrong, and the exit code."""

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fastscnn.cli.arguments import check_arguments
from fastscnn.cli.multirun import close_multirun
from fastscnn.cli.options import in_one_row, register, with_options
from fastscnn.cli.start import started
from fastscnn.runs import slurm
from fastscnn.runs.config import broken_reference, check_config, explain
from fastscnn.runs.effect import check_multirun_settings
from fastscnn.runs.jobs import (
    DONE,
    FAILED,
    WRONG_REQUEST,
    Job,
    current_job,
    current_multirun,
    jobs_share_a_process,
    searches,
)
from fastscnn.runs.objective import value_of_run
from fastscnn.runs.process import RUN_DIR_VARIABLE
from fastscnn.runs.renamed import present_overrides, with_companions
from fastscnn.utils.errors import Crash, RequestError
from fastscnn.utils.files import not_written, why_not_written
from fastscnn.utils.output import outlive_reader
from fastscnn.utils.progress import Progress
from fastscnn.utils.signals import Interrupted, watched
from fastscnn.utils.text import one_line
from fastscnn.utils.threads import wait_briefly
from fastscnn.utils.utf8 import print_anything, use_utf8

BENCHMARK = "benchmark"
"""The command whose threads wait as their library has it, so that it measures what a user's own process gets."""
SOURCES = Path(__file__).resolve().parents[2]
"""Where the package lies: in a checkout `src/`, beside the mains."""
CHECKOUT = SOURCES.parent / "conf"
CONF = CHECKOUT if (CHECKOUT / "train.yaml").is_file() else SOURCES / "fastscnn" / "conf"
"""The checkout's configs, or the copy that an installed package carries."""

# Our options of the launchers have the names of those that their packages bring; the processes of the jobs import this.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


class JobFailed(Exception):
    """A job of a multirun failed and its error is printed already; carries the exit code.

    Raised in place of the job's own error, so that nothing is printed twice and Hydra's launchers see the failure.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def launch(config_name: str, command: Callable[[DictConfig], Any]) -> None:
    """Compose `conf/CONFIG_NAME.yaml` with the command line, call the command with it, and exit.

    The command imports slow modules (torch) inside itself, so that help, `--cfg` and unknown overrides answer at once.

    Exit codes: 0 done, 1 failed, 2 the request was wrong (one sentence on stderr, no traceback), 128 + signal if a
    signal ended the command.
    """
    use_utf8(_is_command)
    print_anything()
    outlive_reader()
    logging.raiseExceptions = False  # W&B or Lightning logging to a full disk would print tracebacks
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it prints a line when it is first imported on a machine
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them and exiting
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing albumentations would use the network
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # it prints lines of its own about files that we report
    if config_name != BENCHMARK:
        wait_briefly()

    def task(config: DictConfig) -> Any:
        started()
        # The processes of a distributed run stop where all of them do.
        with watched(slurm.signals(), waits=RUN_DIR_VARIABLE in os.environ) as watch:
            try:
                return call(config, command, config_name)
            except Interrupted as stop:
                print_stop(stop)
                asked = watch.cluster or (stop.signum if signal.Signals(stop.signum).name in slurm.signals() else 0)
                if asked and RUN_DIR_VARIABLE not in os.environ:
                    slurm.requeue(asked, watch.handler)
                if current_job() is not None and not in_this_process():
                    raise JobFailed(stop.code) from None
                raise

    register(CONF)
    sys.argv[1:] = present_overrides(in_one_row(sys.argv[1:]))
    if config_name == "train":
        sys.argv[1:] = with_companions(sys.argv[1:])
    sys.path.append(os.getcwd())  # a user's own modules, which a config may name
    code = DONE
    try:
        sys.argv[1:] = with_options(sys.argv[1:], config_name, CONF)
        if RUN_DIR_VARIABLE not in os.environ:  # Lightning gives the processes that it starts a hydra.run.dir
            check_arguments(sys.argv[1:], config_name)
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)()
    except JobFailed as failed:
        code = failed.code
    except RequestError as error:  # of a group, or of a sweeper
        code = report(error)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        print(explain(error, CONF, config_name), file=sys.stderr)
        code = WRONG_REQUEST
    except OSError as error:  # of a file that Hydra itself writes: those of a command have been reported
        print(f"{why_not_written(error)}: set hydra.sweep.dir to a folder that can be written.", file=sys.stderr)
        code = WRONG_REQUEST
    except Interrupted as stop:
        # If Lightning started this process, an exit code other than 0 would make it kill the first process.
        code = DONE if stop.together and RUN_DIR_VARIABLE in os.environ else stop.code
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)
        code = 128 + signal.SIGINT
    logging.disable(logging.INFO)  # libraries that log at exit, such as torch, would follow our last sentence
    summary = close_multirun()
    if code := code if code > 128 else summary or code:
        sys.exit(code)


def _is_command(program: Path) -> bool:
    """Whether a program is a main of the checkout or a console script of the installed package."""
    return program.parent == SOURCES or program.name.startswith("fastscnn-")


def call(config: DictConfig, command: Callable[[DictConfig], Any], name: str) -> Any:
    """Call a command with the composed config: as a job of a multirun, or alone, where an error ends the process.

    Returns:
        What the command returns; of a job of a multirun the value that a search optimises, None where it has none.
    """
    if (job := current_job()) is not None:
        with job.running():
            run_job(config, job, command)
            metric = config.get("optimized_metric")
            return value_of_run(job.folder, metric, wait=searches()) if job.code == DONE else None
    try:
        check_config(config)
        check_multirun_settings(config)
        if slurm.restarted() and "rerun" in config:
            from fastscnn.cli.skip_finished import done_before_restart

            if done_before_restart(config):
                return None
        with Progress(f"{name}: working", bar=False):
            return command(config)
    except Exception as error:
        sys.exit(report(error))


def run_job(config: DictConfig, job: Job, command: Callable[[DictConfig], Any]) -> None:
    """Run one job of a multirun, and record its status.

    An error is printed at once. With Hydra's own launcher, which runs the jobs one after the other, it is not raised:
    the other jobs run, and the summary gives the exit code.

    Raises:
        JobFailed: The job failed in a process that another launcher started.
    """
    try:
        check_config(config)
        if "rerun" in config:
            from fastscnn.cli.skip_finished import left_to_do

            if not left_to_do(config, job):
                return
        with Progress(f"{job.label}: working", bar=False):
            command(config)
    except Exception as error:
        code = report(error)
        text = one_line(str(error)) if isinstance(error, RequestError) else str(error).partition("\n")[0]
        reason = text if isinstance(error, RequestError) else f"{type(error).__name__}: {text}"
        job.update(status="failed", code=code, reason=reason)
        if not in_this_process():
            raise JobFailed(code) from None
    except Interrupted as stop:
        job.update(status="interrupted", code=stop.code, reason=str(stop))
        raise
    except BaseException as stop:
        job.update(status="stopped", reason=str(stop) or type(stop).__name__)
        raise
    else:
        job.update(status=job.status if job.status == "continued" else "finished", code=DONE)


def in_this_process() -> bool:
    """Whether Hydra's own launcher runs the jobs of the multirun in this process, one after the other."""
    return current_multirun() is not None and jobs_share_a_process()


def print_stop(stop: Interrupted) -> None:
    """Print which signal ended a command, and how to continue; once for all processes of a distributed run."""
    if RUN_DIR_VARIABLE not in os.environ:
        for line in (f"{_job_label()}{stop}", *getattr(stop, "__notes__", ())):
            print(line, file=sys.stderr, flush=True)


def report(error: Exception) -> int:
    """Print an error as soon as it happens, and return its exit code."""
    wrong_request = isinstance(error, RequestError | OmegaConfBaseException)
    notes = getattr(error, "__notes__", [])
    error.__notes__ = []  # printed last, not inside the traceback
    if wrong_request:
        # OmegaConf's errors go on with lines about its own objects.
        sentence = str(error) if isinstance(error, RequestError) else broken_reference(error)
        print(f"{_job_label()}{one_line(sentence)}", file=sys.stderr)
    elif (unwritten := not_written(error)) is not None:
        # The disk is at fault, not the program: a traceback would not help.
        print(f"{_job_label()}failed: {one_line(why_not_written(unwritten))}", file=sys.stderr)
    elif isinstance(error, Crash):
        print(f"{_job_label()}failed: {one_line(str(error))}", file=sys.stderr)
    else:
        traceback.print_exception(error)
        print(f"{_job_label()}failed: {type(error).__name__}: {error}", file=sys.stderr)
    for note in notes:
        print(note, file=sys.stderr)
    sys.stderr.flush()
    return WRONG_REQUEST if wrong_request else FAILED


def _job_label() -> str:
    job = current_job()
    return f"{job.label}: " if job else ""
