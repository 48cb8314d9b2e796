"""A lock is held as long as its process lives, and readers can ask for it without getting in each other's way."""

import errno
import fcntl
import subprocess
import sys
import threading

import pytest

from fastscnn.utils.locks import NoLocks, is_held, take
from helpers import SOURCES

HOLD = "import sys, pathlib; from fastscnn.utils.locks import take; lock = take(pathlib.Path(sys.argv[1]));"


def holder(path, then):
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HOLD} print(lock is not None, flush=True); {then}", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SOURCES)},
    )
    assert process.stdout.readline() == "True\n"
    return process


def test_lock_is_free_the_moment_that_its_process_ends(tmp_path):
    path = tmp_path / "lock"
    assert is_held(path) is None
    process = holder(path, "input()")
    assert is_held(path)
    assert take(path) is None
    process.kill()
    process.wait(timeout=60)
    assert is_held(path) is False
    lock = take(path)
    assert is_held(path)
    lock.release()
    lock.release()
    assert is_held(path) is False


def test_who_waits_gets_the_lock_when_it_is_free(tmp_path):
    path = tmp_path / "lock"
    process = holder(path, "input()")
    found = []
    waiting = threading.Thread(target=lambda: found.append(take(path, wait=None)))
    waiting.start()
    process.communicate("\n", timeout=60)
    waiting.join(timeout=60)
    assert is_held(path)
    found[0].release()


def test_program_that_is_started_does_not_have_the_lock(tmp_path):
    then = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    process = holder(tmp_path / "lock", then)
    sleeper = process.stdout.readline().strip()
    process.kill()
    process.wait(timeout=60)
    assert is_held(tmp_path / "lock") is False
    subprocess.run(["kill", sleeper], check=True, timeout=60)


def test_lock_whose_file_was_removed_is_that_of_the_new_file(tmp_path):
    path = tmp_path / "lock"
    first, found = take(path), []
    waiting = threading.Thread(target=lambda: found.append(take(path, wait=60)))
    waiting.start()
    first.release(remove=True)
    waiting.join()
    assert is_held(path)
    assert take(path) is None
    found[0].release(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_readers_do_not_take_it_from_each_other(tmp_path):
    path = tmp_path / "lock"
    take(path).release()
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert is_held(path) is False


def test_file_system_without_locks_says_so(tmp_path, monkeypatch):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert is_held(path) is None
    with pytest.raises(NoLocks, match="No locks available"):
        take(path)
