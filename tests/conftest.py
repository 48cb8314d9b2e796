"""The suite always ends: what pytest-xdist alone would wait for without end.

A test that takes too long fails by pytest-timeout, or, where it never comes back from C code, ends its worker by
pytest's own watchdog (`faulthandler_timeout`); both limits stand in pyproject.toml. A worker that died ends the run
(`--max-worker-restart 0`). Two cases are left: a dead worker whose forked children hold its pipe open, so that xdist
does not learn of its end; and a test that hangs while it is cleaned up after it failed, when both limits are spent.
"""

import contextlib
import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

# Where PYTHONDONTWRITEBYTECODE is set, as in many containers, each of the many processes of a run would compile the
# package anew, and each worker would rewrite every test for its assertions: ten seconds of a core in each.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

POLL = 2.0
"""Seconds between two looks."""
PR_SET_PDEATHSIG = 1
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""Signals that tests send, and which must not be ignored from the start, as in a shell's background or under nohup."""


def pytest_configure(config):
    for number in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if hasattr(config, "workerinput"):
        if sys.platform == "linux":
            prctl = ctypes.CDLL(None).prctl
            os.register_at_fork(after_in_child=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
    elif getattr(config.option, "numprocesses", None):
        limit = 2 * float(config.getini("faulthandler_timeout"))
        config.pluginmanager.register(Watch(limit))


def pytest_xdist_auto_num_workers(config):
    """One more than cores: some tests wait, for a limit to pass or a service to answer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


def pytest_xdist_setupnodes(config, specs):
    """Workers are children of the warm process, which has all imported, and which tests start commands in too.

    Not where lines are counted: those that run while the package is imported would not be. And not beside a GPU: what
    a process has asked the driver, it cannot share with its children.
    """
    with contextlib.suppress(ModuleNotFoundError):  # in a small suite of a test, which has the process of its own run
        from warm import WarmCommands

        folder = tempfile.TemporaryDirectory(prefix="fastscnn-tests-")
        config.add_cleanup(folder.cleanup)
        os.environ["FASTSCNN_TESTS_WARM"] = folder.name
        gpu = Path("/dev/nvidiactl").exists()
        if sys.platform == "linux" and not gpu and not config.getoption("cov_source", None):
            warm = WarmCommands(Path(folder.name))
            config.add_cleanup(warm.close)
            os.environ["FASTSCNN_TESTS_PYTHON"] = warm.python()
    for spec in specs:
        spec.python = os.environ.get("FASTSCNN_TESTS_PYTHON")


class Watch:
    """Ends the run, as failed and with its name, where a test never does.

    Args:
        limit: Seconds that a test may take with all that belongs to it.
    """

    def __init__(self, limit):
        self.limit = limit
        self.running = {}
        threading.Thread(target=self._watch, daemon=True).start()

    def pytest_runtest_logstart(self, nodeid):
        self.running[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid):
        self.running.pop(nodeid, None)

    def _watch(self):
        while True:
            time.sleep(POLL)
            late = [test for test, since in list(self.running.items()) if time.monotonic() - since > self.limit]
            if late:
                reason = f"{', '.join(late)} did not end within {self.limit:g} seconds"
                print(f"\n\nThe run is ended as failed: {reason}.", file=sys.__stderr__, flush=True)
                os._exit(pytest.ExitCode.TESTS_FAILED)
