"""Signals to the real command: what it saves, says and returns, and what goes on afterwards."""

import csv
import functools
import os
import shlex
import signal
import subprocess
import time

import pytest
import torch

from fastscnn.runs.record import read_record
from helpers import write_cityscapes

LONG = "trainer.max_epochs=500"


@pytest.fixture(scope="module")
def launch(start):
    """Start a command that ends as any process does, with all that its objects do at the end."""
    return functools.partial(start, FASTSCNN_TESTS_WHOLE_END="1")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Four steps an epoch, each logged, with the number of workers that users have."""
    root = write_cityscapes(tmp_path_factory.mktemp("cityscapes"), train=17, val=3)
    return [
        "data=fine",
        f"data.root={root}",
        "data.store=off",
        "data.batch_size=4",
        "trainer.log_every_n_steps=1",
        "trainer.accelerator=cpu",
        "logger=csv",
        "pictures=0",
    ]


def wait_for(condition, process):
    started = time.monotonic()
    while not (found := condition()):
        assert process.poll() is None, process.communicate(timeout=60)[1]
        assert time.monotonic() - started < 200
        time.sleep(0.02)
    return found


def rows(folder):
    if not (folder / "metrics.csv").exists():
        return []
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def run_of(cwd, steps=3):
    """The folder of the only run in `outputs/`, once it has logged so many rows."""
    folders = [path.parent for path in cwd.glob("outputs/*/*/run.json")]
    return folders[0] if folders and len(rows(folders[0])) >= steps else None


def ended(process):
    """What it printed; it ends within a minute, without a traceback of anything that ends with it."""
    output, error = process.communicate(timeout=60)
    assert "Traceback" not in error
    return output, error


def printed_command(error, prefix="Continue it: "):
    (line,) = [line for line in error.splitlines() if prefix in line]
    return line.partition(prefix)[2]


def last(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_ctrl_c_ends_a_multirun_with_its_run_saved_and_its_summary(launch, settings, tmp_path):
    """It goes to the processes that read the frames too, as in a terminal."""
    process = launch("train.py", "-m", "seed=1,2", LONG, *settings, cwd=tmp_path)
    folder = wait_for(lambda: run_of(tmp_path), process)
    os.killpg(process.pid, signal.SIGINT)
    output, error = ended(process)
    assert process.returncode == 128 + signal.SIGINT
    record = read_record(folder)
    assert (record["status"], record["error"]) == (
        "interrupted",
        f"stopped by SIGINT at step {last(folder)['global_step']}",
    )
    assert "1 job, group seed-" in output and "0  seed=1  interrupted" in output
    assert f"job 0 (seed=1) interrupted: {record['error']}" in error
    assert len(list(tmp_path.glob("outputs/*/*/run.json"))) == 1


def test_signal_before_the_first_step_ends_in_order_and_the_printed_command_works(launch, run_line, settings, tmp_path):
    folder = tmp_path / "it's [the] run"
    own = ["trainer.max_epochs=1", "data.crop_size=[64,128]", "++trainer.plugins=null"]
    process = launch("train.py", *own, *settings, r"paths.run_dir='it\'s [the] run'", cwd=tmp_path)
    wait_for((folder / "run.json").exists, process)
    process.send_signal(signal.SIGHUP)
    _, error = ended(process)
    assert process.returncode == 128 + signal.SIGHUP
    assert read_record(folder)["status"] == "interrupted"
    saved = (folder / "checkpoints" / "last.ckpt").exists()
    line = printed_command(error, "Continue it: " if saved else "Start a new run: ")
    words = subprocess.run(
        ["sh", "-c", rf"printf '%s\0' {line}"], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    done = run_line(shlex.join(words.stdout.split("\0")[:-1]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_requeued_slurm_job_goes_on_in_its_own_folder(launch, settings, tmp_path):
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    program.chmod(0o755)
    cluster = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "SLURM_JOB_ID": "123",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    }
    process = launch("train.py", *settings, "trainer.max_epochs=40", cwd=tmp_path, **cluster)
    folder = wait_for(lambda: run_of(tmp_path), process)
    os.killpg(process.pid, signal.SIGUSR1)
    _, error = ended(process)
    assert process.returncode == 128 + signal.SIGUSR1
    assert (tmp_path / "called").read_text() == "requeue 123\n"
    assert "SIGUSR1: SLURM job 123 is requeued" in error
    assert read_record(folder)["status"] == "interrupted"
    step = last(folder)["global_step"]

    process = launch("train.py", *settings, "trainer.max_epochs=40", cwd=tmp_path, **cluster, SLURM_RESTART_COUNT="1")
    wait_for(lambda: len(read_record(folder).get("resumed", [])) == 1 and len(rows(folder)) > step + 3, process)
    os.killpg(process.pid, signal.SIGUSR2)
    output, _ = ended(process)
    assert process.returncode == 128 + signal.SIGUSR2
    assert f"SLURM job 123 was started before: the run goes on in {folder.relative_to(tmp_path)}" in output
    assert (tmp_path / "called").read_text() == "requeue 123\nrequeue 123\n"
    assert last(folder)["global_step"] > step
    assert len(list(tmp_path.glob("outputs/*/*/run.json"))) == 1


@pytest.fixture(scope="module")
def two_devices(settings):
    return [*settings, "trainer.max_epochs=3", "trainer.devices=2", "trainer.strategy=ddp"]


@pytest.fixture(scope="module")
def stopped_on_two(launch, two_devices, tmp_path_factory):
    """A run on two devices whose second process alone got the signal: what it printed, and its folder."""
    cwd = tmp_path_factory.mktemp("two")
    process = launch("train.py", *two_devices, "paths.run_dir=run", cwd=cwd)
    folder = cwd / "run"
    wait_for(lambda: len(rows(folder)) >= 6, process)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "train_ddp_process_1"], capture_output=True, text=True, timeout=60
    )
    os.kill(int(children.stdout.split()[0]), signal.SIGTERM)
    _, error = ended(process)
    assert process.returncode == 128 + signal.SIGTERM
    return error, folder


def test_two_devices_stop_together(stopped_on_two):
    error, folder = stopped_on_two
    step = last(folder)["global_step"]
    assert step < 12
    record = read_record(folder)
    assert (record["status"], record["error"]) == ("interrupted", f"stopped by SIGTERM at step {step}")
    assert shlex.split(printed_command(error))[-1] == "resume='run'"


@pytest.mark.slow
def test_two_devices_go_on_to_the_bit(run, run_line, stopped_on_two, two_devices):
    error, folder = stopped_on_two
    whole = run("train.py", *two_devices, "paths.run_dir=whole", cwd=folder.parent)
    assert whole.returncode == 0, whole.stderr
    done = run_line(printed_command(error), cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    expected, found = last(folder.with_name("whole")), last(folder)
    assert [name for name, t in expected["state_dict"].items() if not torch.equal(t, found["state_dict"][name])] == []
    assert rows(folder) == rows(folder.with_name("whole"))
    names = ("status", "error", "metrics")
    records = [read_record(path) for path in (folder, folder.with_name("whole"))]
    assert [records[0][name] for name in names] == [records[1][name] for name in names]
