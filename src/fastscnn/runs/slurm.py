"""SLURM: the job of this process, and requeueing it, so that it continues in its run's folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

PREEMPT_SIGNAL = "SUBMITIT_PREEMPT_SIGNAL"
"""Environment variable with the name, without SIG, of the signal by which submitit asks a job to save and requeue."""


def job_id() -> str | None:
    """The job of this process, which keeps its id when it is requeued; None outside SLURM."""
    return os.environ.get("SLURM_JOB_ID") or None


def restarted() -> bool:
    """Whether SLURM has started this job at least once before."""
    return job_id() is not None and os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def signals() -> tuple[str, ...]:
    """Names of the signals that ask to save and to requeue; none outside a job.

    SIGUSR1, as Lightning has it and submitit had it, and what submitit takes now, SIGUSR2 unless its variable says
    otherwise.
    """
    named = os.environ.get(PREEMPT_SIGNAL)
    if job_id() is None and named is None and "SUBMITIT_EXECUTOR" not in os.environ:
        return ()
    return ("SIGUSR1", f"SIG{(named or 'USR2').removeprefix('SIG')}")


def requeue(number: int, handler: Callable[[int, Any], Any] | None) -> None:
    """Requeue this job, once for all of its tasks.

    Args:
        number: The signal that asked for it.
        handler: What somebody else installed for that signal, such as submitit's, which then does it and ends this
            process.
    """
    if handler is not None:
        handler(number, None)
        return
    job = job_id()
    if job is None or os.environ.get("SLURM_PROCID", "0") != "0":
        return
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    name = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    try:
        done = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True, timeout=120)
        problem = done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""
    except (OSError, subprocess.SubprocessError) as error:
        problem = str(error)
    asked = signal.Signals(number).name
    if problem:
        print(f"{asked}: SLURM job {name} could not be requeued ({problem})", file=sys.stderr, flush=True)
    else:
        print(f"{asked}: SLURM job {name} is requeued and goes on in its run's folder", file=sys.stderr, flush=True)
