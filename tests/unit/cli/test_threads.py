"""Threads that wait go to sleep soon, by what the OpenMP library itself says, unless the user has chosen."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[3] / "src"
PROGRAM = """
import ctypes, importlib.util, sys
from pathlib import Path
from fastscnn.cli.launch import launch

(folder,) = importlib.util.find_spec("torch").submodule_search_locations
(library,) = Path(folder, "lib").glob("libgomp*.so*")
launch(sys.argv.pop(1), lambda config: ctypes.CDLL(str(library)))
"""
"""The library that torch brings is loaded, without the rest of torch, which takes seconds."""
OPENMP = ("OMP_", "GOMP_", "KMP_")


def spins(*command, **chosen):
    """How many times a thread looks before it goes to sleep, as torch's libgomp shows when a command loads it."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(OPENMP)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command],
        env={**others, "PYTHONPATH": str(SRC), "OMP_DISPLAY_ENV": "VERBOSE", **chosen},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (count,) = set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr))
    return int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="torch has libgomp on Linux alone")
def test_waiting_threads_of_a_command_go_to_sleep_soon():
    assert spins("train") == 1_000


@pytest.mark.skipif(sys.platform != "linux", reason="torch has libgomp on Linux alone")
@pytest.mark.parametrize(
    ("command", "chosen", "count"),
    [
        (("train",), {"OMP_WAIT_POLICY": "PASSIVE"}, 0),
        (("train",), {"GOMP_SPINCOUNT": "77"}, 77),
        (("benchmark",), {}, 300_000),  # what a user's own process gets, which it measures
    ],
)
def test_choice_of_the_user_stays_and_so_does_what_is_measured(command, chosen, count):
    assert spins(*command, **chosen) == count
