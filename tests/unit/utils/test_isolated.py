"""Functions in a child process: what comes back, and what becomes of a crash."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import in_a_child
import pytest

from fastscnn.utils.errors import Crash
from fastscnn.utils.isolated import Hosted, run
from helpers import refused


def test_result_comes_back_and_nothing_heavy_is_imported():
    assert run(in_a_child.add, 2, 3) == 5
    assert not {"torch", "cv2", "numpy"} & set(run(in_a_child.modules))


def test_errors_come_back_as_they_are_with_the_childs_traceback():
    with refused("data.root", "/x", fix="Set it.") as caught:
        run(in_a_child.refuse)
    assert "in refuse" in str(caught.value.__cause__)
    with pytest.raises(KeyError):
        run(in_a_child.fail)
    with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        run(in_a_child.fail_oddly)


@pytest.mark.parametrize(
    ("function", "argument", "how"),
    [(in_a_child.die, signal.SIGSEGV, "SIGSEGV"), (in_a_child.die, 9, "SIGKILL"), (in_a_child.leave, 3, "exit code 3")],
)
def test_crash_is_an_error_that_names_the_signal_and_leaves_no_file(tmp_path, monkeypatch, function, argument, how):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Crash) as caught:
        run(function, argument)
    assert caught.value.how == how
    assert list(tmp_path.iterdir()) == []


def test_sequence_that_stays_here_is_read_as_often_as_it_is_needed():
    assert run(in_a_child.total, served=[1, 2, 4]) == [7, 7, 3, 4]


def test_what_is_made_stays_in_the_child_until_it_crashes():
    with Hosted(in_a_child.counter, 10) as count:
        assert [count(1), count(2)] == [11, 13]
        with pytest.raises(ValueError):
            count(0)
        assert count(1) == 14
        with pytest.raises(Crash, match="SIGSEGV"):
            count(-1)


def test_child_ends_with_its_parent(tmp_path):
    code = (
        "import sys, in_a_child\n"
        "from fastscnn.utils.isolated import Hosted\n"
        "child = Hosted(in_a_child.counter, 1)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    child = Path("/proc", parent.stdout.readline().strip())
    assert child.exists()
    parent.kill()
    parent.wait(timeout=60)
    until = time.monotonic() + 60
    while child.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not child.exists()
