"""Signals end a command in order: at once, where it asks, or through the cluster's queue."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fastscnn.runs import slurm
from fastscnn.utils import signals
from fastscnn.utils.signals import Interrupted, received, waiting, watched


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python calls the handler between two instructions


@pytest.fixture(autouse=True)
def outside_of_any_cluster(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SUBMITIT_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", signals.ENDING)
def test_signal_ends_a_command_at_once_and_the_handlers_of_before_come_back(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=name) as raised, watched():
        send(number)
    assert raised.value.code == 128 + number
    assert signal.getsignal(number) == before and received() == 0


def test_signal_waits_for_who_asks_or_for_the_end_of_what_must_not_be_cut_short(capfd):
    with watched(), waiting():
        assert received() == 0
    reached = []
    with pytest.raises(Interrupted, match="SIGTERM"), watched():
        with waiting():
            send(signal.SIGTERM)
            reached.append(received())
            send(signal.SIGHUP)  # the first one counts
        reached.append("after")
    assert reached == [signal.SIGTERM]
    assert "SIGTERM: the run ends in order" in capfd.readouterr().err


def test_process_of_a_distributed_run_waits_all_the_time():
    with watched(waits=True):
        with waiting():
            send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert received() == signal.SIGTERM


def test_second_ctrl_c_ends_at_once_but_not_the_copy_that_comes_with_the_first(monkeypatch):
    with pytest.raises(Interrupted, match="SIGINT"), watched(), waiting():
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert received() == signal.SIGINT
        monkeypatch.setattr(signals, "SECOND_AFTER_SECONDS", 0.0)
        send(signal.SIGINT)
        pytest.fail("it went on")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_what_is_ignored_or_handled_by_somebody_else_stays_so(handler):
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with watched() as watch:
            assert signal.getsignal(signal.SIGHUP) is handler
            send(signal.SIGHUP)
            assert watch.received == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_forked_process_dies_of_a_signal_unless_its_parent_waits():
    def fork_and(number):
        up, child = os.pipe()
        end, ours = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(ours)
            os.write(child, b"1")
            os.read(end, 1)  # until the signal was sent
            os._exit(7)
        os.read(up, 1)  # a signal that comes earlier is dropped by Python's own fork
        os.kill(pid, number)
        for descriptor in (up, child, end, ours):
            os.close(descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    with watched():
        assert fork_and(signal.SIGTERM) == -signal.SIGTERM
        with waiting():
            assert fork_and(signal.SIGINT) == 7


WORKER = r"""
import os, signal, sys, time
from fastscnn.utils.signals import ignore_in_worker
pid = os.fork()
if pid == 0:
    ignore_in_worker()
    os.write(1, b"up\n")
    time.sleep(60)
    os._exit(3)
os.write(1, f"{pid}\n".encode())
sys.stdin.readline()
os.kill(pid, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def test_worker_obeys_its_parent_alone():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    first, second = process.stdout.readline(), process.stdout.readline()
    worker = int(first if first != "up\n" else second)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(worker, number)
    time.sleep(0.2)
    os.kill(worker, 0)
    assert process.communicate("end it\n", timeout=30)[0] == "0\n"


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A `scontrol` that writes down how it was called; `fail` makes it refuse."""
    program, log = tmp_path / "bin" / "scontrol", tmp_path / "called"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ -e {tmp_path}/fail ] && echo "no such job" >&2 && exit 1\necho "$@" >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    return log


def test_slurm_job_is_requeued_by_its_first_task(scontrol, monkeypatch, capfd):
    assert slurm.signals() == ("SIGUSR1", "SIGUSR2")
    slurm.requeue(signal.SIGUSR1, None)
    assert scontrol.read_text() == "requeue 123\n"
    assert "SIGUSR1: SLURM job 123 is requeued" in capfd.readouterr().err
    monkeypatch.setenv("SLURM_PROCID", "1")
    slurm.requeue(signal.SIGUSR1, None)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "100")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    slurm.requeue(signal.SIGUSR2, None)
    assert scontrol.read_text() == "requeue 123\nrequeue 100_4\n"
    (scontrol.parent / "fail").touch()
    slurm.requeue(signal.SIGUSR2, None)
    assert "SLURM job 100_4 could not be requeued (no such job)" in capfd.readouterr().err


def test_signal_of_submitit_is_handed_on_to_its_own_handler(monkeypatch):
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USR2")
    called = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))
    try:
        with watched(slurm.signals()) as watch, pytest.raises(Interrupted, match="SIGUSR2"):
            send(signal.SIGUSR2)
        assert not called, "not before the run is saved"
        slurm.requeue(watch.cluster, watch.handler)
        assert called == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_no_cluster_no_signals_of_one():
    assert slurm.signals() == () and slurm.job_id() is None and not slurm.restarted()
