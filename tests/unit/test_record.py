"""The run's record is true at any moment, whatever happens to the process."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from fastscnn.errors import RequestError
from fastscnn.runs.record import (
    DEAD_AFTER_SECONDS,
    RunRecord,
    new_run_id,
    read_record,
    recorded,
    run_folder,
    version_of,
)

KEYS = ["id", "name", "status", "error", "command", "choices", "seed", "started", "finished", "versions", "git"]
KEYS += ["device", "metrics", "checkpoints", "wandb_id"]


def create(folder):
    return RunRecord.create(folder, run_id="abc", name="fine", choices={"data": "fine"}, seed=3)


def on_disk(folder):
    return json.loads((folder / "run.json").read_text())


def test_new_record_is_running_and_has_every_key(tmp_path):
    create(tmp_path / "run")
    data = on_disk(tmp_path / "run")
    assert set(KEYS) <= set(data)
    assert data["status"] == "running"
    assert data["choices"] == {"data": "fine"}
    assert data["versions"]["torch"]


def test_block_that_ends_is_finished_and_one_that_raises_is_failed_with_its_error(tmp_path):
    with recorded(create(tmp_path / "good")):
        assert on_disk(tmp_path / "good")["status"] == "running"
    assert on_disk(tmp_path / "good")["status"] == "finished"
    assert on_disk(tmp_path / "good")["finished"]
    for number, error in enumerate([ValueError("two\nlines"), KeyboardInterrupt(), SystemExit(1)]):
        folder = tmp_path / str(number)
        with pytest.raises(type(error)), recorded(create(folder)):
            raise error
        assert on_disk(folder)["status"] == "failed"
        assert on_disk(folder)["error"].startswith(type(error).__name__)
        assert "\n" not in on_disk(folder)["error"]


def test_existing_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RequestError, match="exists already"):
        create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    record = create(tmp_path / "run")
    record.update(metrics={"best": {"val/miou": math.nan}, "last": {"loss": math.inf}})
    text = (tmp_path / "run" / "run.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"]["best"] == {"val/miou": None}


def test_killed_run_reads_as_failed_and_a_living_one_as_running(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from fastscnn.runs.record import RunRecord\n"
        "RunRecord.create(Path(sys.argv[1]), run_id='a', name='n', choices={}, seed=0); print('up', flush=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == "up\n"
    assert read_record(tmp_path / "run")["status"] == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert on_disk(tmp_path / "run")["status"] == "running"
    record = read_record(tmp_path / "run")
    assert record["status"] == "failed"
    assert "killed" in record["error"]


def test_run_of_another_host_is_dead_when_its_heartbeat_stopped(tmp_path):
    record = create(tmp_path / "run")
    record.update(host="elsewhere", pid=1)
    assert read_record(tmp_path / "run")["status"] == "running"
    old = time.time() - DEAD_AFTER_SECONDS - 10
    os.utime(tmp_path / "run" / "run.json", (old, old))
    assert read_record(tmp_path / "run")["status"] == "failed"


def test_reader_never_sees_half_a_record(tmp_path):
    record = create(tmp_path / "run")
    pid = os.fork()
    if pid == 0:
        for number in range(300):
            record.update(metrics={"best": {}, "last": {"filler": "x" * 20_000, "number": number}})
        os._exit(0)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        assert on_disk(tmp_path / "run")["id"] == "abc"


def test_two_runs_of_one_moment_have_two_folders(tmp_path):
    folders = {run_folder(tmp_path, "fine", new_run_id()) for _ in range(100)}
    assert len(folders) == 100
    assert all(folder.parent == tmp_path / "fine" for folder in folders)


def test_version_of_a_package_that_is_not_there_is_no_error():
    assert version_of("no-such-package") == "not installed"
    assert version_of("torch") == torch.__version__.partition("+")[0]
