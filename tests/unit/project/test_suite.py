"""The suite ends, whatever a test does: each kind of hang in a small suite of its own, with this project's options."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
OPTIONS = TESTS.parent / "pyproject.toml"
SHORT = ["-o", "timeout=2", "-o", "faulthandler_timeout=4"]
LONG = ["-o", "timeout=25", "-o", "faulthandler_timeout=50"]
"""For what must be noticed by itself, also on a machine so busy that it takes longer than the short limits."""
PLUGINS = ["-p", "xdist", "-p", "xdist.looponfail", "-p", "pytest_timeout"]
"""Those that this project's options need; Hydra's own would take as long to import as all the rest."""
PASSES = "def test_before():\n    pass\n\n\n"
DIES = """
def test_odd():
    import os, signal
    os.kill(os.getpid(), signal.SIGSEGV)
"""
DIES_WITH_A_CHILD = """
def test_odd():
    import os, signal, time
    if os.fork() == 0:
        time.sleep(300)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGSEGV)
"""
WAITS = """
def test_odd():
    import subprocess
    subprocess.run(["sleep", "300"])
"""
DEADLOCK = """
def test_odd():
    import ctypes
    lock = ctypes.create_string_buffer(64)
    call = ctypes.PyDLL(None).pthread_mutex_lock
    call(lock)
    call(lock)
"""
CLEANS_UP_WITHOUT_END = """
import time, pytest

@pytest.fixture
def odd():
    yield
    time.sleep(300)

def test_odd(odd):
    assert False
"""


def suite(folder, body, workers, limits=SHORT):
    """Run a suite of two files: one test passes, then comes `body`; afterwards one passes in the other file."""
    (folder / "pyproject.toml").write_text(OPTIONS.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "tests").mkdir()
    (folder / "tests" / "conftest.py").write_text((TESTS / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "tests" / "test_a.py").write_text(PASSES + body, encoding="utf-8")
    (folder / "tests" / "test_b.py").write_text(PASSES, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGINS, *limits, "-n", workers],
        cwd=folder,
        env=environment | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("body", [DIES, DIES_WITH_A_CHILD], ids=["alone", "with a child"])
def test_worker_that_dies_ends_the_run_as_failed_with_the_tests_name(tmp_path, body):
    done = suite(tmp_path, body, "1", LONG)
    assert done.returncode == 1, done.stdout
    assert "FAILED tests/test_a.py::test_odd - worker 'gw0' crashed" in done.stdout


def test_wait_without_end_fails_by_name_and_the_other_tests_run(tmp_path):
    done = suite(tmp_path, WAITS, "2")
    assert done.returncode == 1, done.stdout
    assert "FAILED tests/test_a.py::test_odd - Failed: Timeout" in done.stdout
    assert "1 failed, 2 passed" in done.stdout


@pytest.mark.parametrize("workers", ["0", "1"])
def test_hang_in_c_code_that_holds_the_interpreter_ends_the_run_with_the_tests_name(tmp_path, workers):
    done = suite(tmp_path, DEADLOCK, workers)
    assert done.returncode == 1, done.stdout
    assert "Timeout (0:00:04)!" in done.stdout
    assert "in test_odd" in done.stdout


@pytest.mark.slow
def test_cleaning_up_without_end_after_a_failure_ends_the_run_with_the_tests_name(tmp_path):
    done = suite(tmp_path, CLEANS_UP_WITHOUT_END, "1")
    assert done.returncode == 1, done.stdout
    assert "failed: tests/test_a.py::test_odd did not end within 8 seconds" in done.stdout


def test_every_process_that_a_test_waits_for_has_a_time_limit():
    unlimited = []
    for file in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and waits(node):
                unlimited.append(f"{file.name}:{node.lineno}")
    assert unlimited == [], "give each of these calls a timeout="


def waits(call):
    """Whether a call waits for a process, and without a limit."""
    module = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
    limited = any(keyword.arg == "timeout" for keyword in call.keywords)
    if module == "subprocess" and call.func.attr in ("run", "call", "check_call", "check_output"):
        return not limited
    return call.func.attr == "communicate" and not limited
