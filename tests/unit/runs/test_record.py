"""The run's record is true at any moment, whatever happens to the process."""

import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from fastscnn.runs import alive
from fastscnn.runs import record as module
from fastscnn.runs.alive import DEAD_AFTER_SECONDS, is_local
from fastscnn.runs.folders import new_run_id, run_folder
from fastscnn.runs.process import version_of
from fastscnn.runs.record import RunRecord, observed_record, read_record, recorded
from helpers import RUN_KEYS, full_disk, refused


def create(folder):
    return RunRecord.create(folder, run_id="abc", name="fine", choices={"data": "fine"}, seed=3)


def on_disk(folder):
    return json.loads((folder / "run.json").read_text())


def test_new_record_is_running_and_has_every_key(tmp_path):
    create(tmp_path / "run")
    data = on_disk(tmp_path / "run")
    assert set(RUN_KEYS) <= set(data)
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
    with refused("paths.run_dir", "exists"):
        create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    record = create(tmp_path / "run")
    record.update(metrics={"best": {"val/miou": math.nan}, "last": {"loss": math.inf}})
    text = (tmp_path / "run" / "run.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"]["best"] == {"val/miou": None}


@pytest.fixture
def living(tmp_path):
    """A process with an open run, and with a worker that outlives it; and the run's folder."""
    code = (
        "import os, sys, time; from pathlib import Path; from fastscnn.runs.record import RunRecord\n"
        "RunRecord.create(Path(sys.argv[1]), run_id='a', name='n', choices={}, seed=0)\n"
        "if os.fork() == 0:\n"  # the worker says that it is there, without the lock
        "    print(os.getpid(), flush=True)\n"
        "time.sleep(100)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    worker = int(process.stdout.readline())
    yield process, tmp_path / "run"
    process.kill()
    process.wait(timeout=60)
    os.kill(worker, signal.SIGKILL)


def change(folder, **changes):
    (folder / "run.json").write_text(json.dumps(on_disk(folder) | changes))


def test_killed_run_reads_as_failed_at_once_and_a_living_one_as_running(living):
    process, folder = living
    assert read_record(folder)["status"] == "running"
    process.kill()
    process.wait(timeout=60)
    assert on_disk(folder)["status"] == "running"
    record = read_record(folder)
    assert record["status"] == "failed"
    assert "killed" in record["error"]
    RunRecord.reopen(folder, epoch=1).close("finished")
    assert on_disk(folder)["status"] == "finished"


def test_dead_run_whose_process_number_is_in_use_is_dead(living):
    process, folder = living
    process.kill()
    process.wait(timeout=60)
    change(folder, pid=os.getpid())  # as after a restart of a container, where everything has its old number
    assert read_record(folder)["status"] == "failed"


def test_living_run_is_running_whatever_its_process_number_and_host_mean_here(living):
    _, folder = living
    change(folder, pid=2**22 + 1, boot="of another machine")  # as in another container
    old = time.time() - 10 * DEAD_AFTER_SECONDS
    os.utime(folder / "run.json", (old, old))
    assert read_record(folder)["status"] == "running"
    with refused("resume", "process 4194305 on ", " since 20"):
        RunRecord.reopen(folder)
    assert on_disk(folder)["pid"] == 2**22 + 1, "left alone"


def test_only_one_of_two_processes_goes_on_with_a_run(tmp_path):
    create(tmp_path / "run").close("failed")
    with open(tmp_path / "run" / "run.lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # it has just begun, and the record does not say so yet
        with refused("resume", "running"):
            RunRecord.reopen(tmp_path / "run")
    RunRecord.reopen(tmp_path / "run").close("finished")


@pytest.mark.parametrize("locks", ["not shared", "none"])
def test_heartbeat_decides_where_the_lock_cannot(tmp_path, monkeypatch, capsys, locks):
    if locks == "none":

        def no_locks(*args):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        create(tmp_path / "run")
        assert "without locks (No locks available)" in capsys.readouterr().err
    else:
        monkeypatch.setattr(alive, "LOCAL", set())
        create(tmp_path / "run")._run_lock.release()
        change(tmp_path / "run", boot="of another machine")
    assert read_record(tmp_path / "run")["status"] == "running"
    with refused("resume", "running"):
        RunRecord.reopen(tmp_path / "run")
    old = time.time() - DEAD_AFTER_SECONDS - 10
    os.utime(tmp_path / "run" / "run.json", (old, old))
    assert read_record(tmp_path / "run")["status"] == "failed"
    RunRecord.reopen(tmp_path / "run").close("finished")


@pytest.mark.parametrize("lives", [True, False])
def test_run_whose_lock_cannot_be_asked_is_watched_until_it_shows_whether_it_lives(tmp_path, monkeypatch, lives):
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr(alive, "DEAD_AFTER_SECONDS", 3.0)
    others = threading.enumerate()
    record = create(tmp_path / "run")
    (tmp_path / "run" / "run.lock").unlink()  # as in the folder of an older version
    if not lives:
        record._stop.set()
        for thread in set(threading.enumerate()).difference(others):
            thread.join(60)  # the beat that has begun
        os.utime(tmp_path / "run" / "run.json")
    assert read_record(tmp_path / "run")["status"] == "running"
    assert observed_record(tmp_path / "run")["status"] == ("running" if lives else "failed")


def test_file_system_of_a_folder_is_local_or_not_known_to_be(tmp_path, monkeypatch):
    assert is_local(tmp_path)
    monkeypatch.setattr(alive, "LOCAL", set())
    assert not is_local(tmp_path)


@pytest.mark.parametrize("end", ["failed", "finished"])
def test_full_disk_does_not_lose_the_last_state(tmp_path, end):
    with full_disk(tmp_path / "disk") as disk:
        record = create(tmp_path / "disk" / "run")
        disk.fill()
        with pytest.raises(OSError, match=r"run\.json.*No space left"):
            record.update(metrics={"best": {"val/miou": 0.5}, "last": {}})
        assert on_disk(record.folder)["metrics"]["best"] == {}
        record.close(end, "why" if end == "failed" else None)
        data = on_disk(record.folder)
        assert (data["status"], data["metrics"]["best"]) == (end, {"val/miou": 0.5})
        assert sorted(path.name for path in record.folder.iterdir()) == ["run.json", "run.lock"]


def test_room_for_the_last_state_grows_with_the_record(tmp_path):
    with full_disk(tmp_path / "disk") as disk:
        record = create(tmp_path / "disk" / "run")
        long = {f"val/iou/{number}": 0.5 for number in range(10_000)}
        record.update(metrics={"best": {}, "last": long})
        disk.fill()
        record.close("failed", "why")
        assert on_disk(record.folder)["metrics"]["last"] == long
        assert on_disk(record.folder)["status"] == "failed"


def test_run_is_refused_where_the_disk_has_no_room_for_its_record(tmp_path):
    with full_disk(tmp_path / "disk") as disk:
        disk.fill()
        with refused("paths.run_dir", "No space left"):
            create(tmp_path / "disk" / "run")
        assert not (tmp_path / "disk" / "run").exists()


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


def test_id_and_every_beginning_of_it_is_text_on_a_command_line():
    parse = OverridesParser.create().parse_override
    beginnings = {run_id[:length] for run_id in (new_run_id() for _ in range(60)) for length in range(1, 9)}
    assert {type(parse(f"id={beginning}").value()) for beginning in beginnings} == {str}


def test_version_of_a_package_that_is_not_there_is_no_error():
    assert version_of("no-such-package") == "not installed"
    assert version_of("torch") == torch.__version__.partition("+")[0]
