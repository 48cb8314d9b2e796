"""From a command line to a call: composing the config, reporting what went wrong, and the exit code."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fastscnn.errors import RequestError
from fastscnn.runs.config import check_config, explain

CONF = Path(__file__).resolve().parents[3] / "conf"
FAILED, WRONG_REQUEST = 1, 2


class JobFailed(Exception):
    """A job of a multirun went wrong and has said so; carries the exit code.

    Raised in place of the job's own error, so that the other jobs go on and nothing is printed twice.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def launch(config_name: str, command: Callable[[DictConfig], None]) -> None:
    """Compose `conf/CONFIG_NAME.yaml` with the command line, call the command with it, and exit.

    The command imports what is slow (torch) inside itself: help, `--cfg` and wrong overrides answer without it.

    Exit codes: 0 done, 1 failed, 2 the request was wrong (one sentence on stderr, no traceback).
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as they are, instead of Hydra's print and exit
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network

    def job(config: DictConfig) -> None:
        try:
            check_config(config)
            command(config)
        except Exception as error:
            code = report(error)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise JobFailed(code) from None
            sys.exit(code)

    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)()
    except JobFailed as failed:
        sys.exit(failed.code)
    except (HydraException, OmegaConfBaseException) as error:
        print(explain(error, CONF, config_name), file=sys.stderr)
        sys.exit(WRONG_REQUEST)
    except BrokenPipeError:  # the reader of our output, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as stop:
        for line in (str(stop) or "stopped", *getattr(stop, "__notes__", ())):
            print(line, file=sys.stderr)
        sys.exit(FAILED)


def report(error: Exception) -> int:
    """Print an error as soon as it happens, and return the exit code it stands for."""
    wrong_request = isinstance(error, RequestError | OmegaConfBaseException)
    notes = getattr(error, "__notes__", [])
    error.__notes__ = []  # they come last, not inside the traceback
    if wrong_request:
        sentence = str(error).splitlines()[0]
        print(f"{_job_label()}{sentence}", file=sys.stderr)
    else:
        traceback.print_exception(error)
        print(f"{_job_label()}failed: {type(error).__name__}: {error}", file=sys.stderr)
    for note in notes:
        print(note, file=sys.stderr)
    sys.stderr.flush()
    return WRONG_REQUEST if wrong_request else FAILED


def _job_label() -> str:
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        hydra_config = HydraConfig.get()
        return f"job {hydra_config.job.num} ({' '.join(hydra_config.overrides.task)}): "
    return ""
