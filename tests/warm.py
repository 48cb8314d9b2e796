"""The client of the warm process (tests/programs/warm_commands.py), which has all imported that the tests need.

Commands of tests run in children of it, and so do the workers of pytest-xdist: a child starts in milliseconds, where a
new interpreter needs seconds of a core for its imports.
"""

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from helpers import REPO, SOURCES, command

SECONDS = 300
"""Limit of a command."""
PROGRAMS = Path(__file__).parent / "programs"
EARLY = "-early"
"""At the end of the address of the copy without Triton."""
READ_LATE = ("FASTSCNN_", "SLURM_", "CITYSCAPES_", "WANDB_", "PATH")
"""Beginnings of variables that nothing reads while it is imported."""
LEFT_OF_TRITON = re.compile(r"nanobind: leaked .*/refleaks\.html\n?", re.DOTALL)
"""What Triton says at the end of a process in which the collector leaves alone what was imported before the fork."""


class WarmProcess:
    """A command that runs in a child of the warm process; the part of `subprocess.Popen` that tests use."""

    def __init__(self, args, connection, out, err):
        self.args = args
        self.returncode = None
        self._lines = []
        self._connection, self._streams = connection, (out, err)
        self.pid = int(self._line(SECONDS))

    def _line(self, seconds):
        """The next line of the server; None if there is none within so many seconds."""
        if not self._lines and not select.select([self._connection], [], [], seconds)[0]:
            return None
        if not self._lines:
            self._lines = self._connection.recv(64).decode().splitlines() or ["-9"]  # the server is gone
        return self._lines.pop(0)

    def poll(self, seconds=0):
        if self.returncode is None and (line := self._line(seconds)):
            self.returncode = int(line)
        return self.returncode

    def wait(self, timeout=SECONDS):
        if self.poll(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=SECONDS):
        self.wait(timeout)
        out, err = (file.seek(0) or file.read() for file in self._streams)
        return out, LEFT_OF_TRITON.sub("", err)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        for file in (*self._streams, self._connection):
            file.close()


def run_program(script, *arguments, all_imported=False, **environment):
    """Run a script of tests/programs to its end in a process of its own, with what it forks.

    It imports Triton itself, with the settings of this environment, or finds all imported. Where the workers of the
    tests are not children of the warm process, it is started in the usual way.
    """
    if not all_imported:
        pytest.importorskip("triton")
    path = os.pathsep.join([str(SOURCES), *sys.path])
    process = {"args": [sys.executable, str(PROGRAMS / script), *arguments], "cwd": PROGRAMS}
    process |= {"env": {**os.environ, "PYTHONPATH": path, **environment}}
    with contextlib.ExitStack() as ends:
        if "FASTSCNN_TESTS_PYTHON" in os.environ:
            warm = ends.enter_context(contextlib.closing(WarmCommands(Path(os.environ["FASTSCNN_TESTS_WARM"]))))
            started = ends.enter_context(contextlib.closing(warm.start(**process, early=not all_imported)))
        else:
            process["args"][1:1] = ["-W", "ignore"]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            started = subprocess.Popen(**process, **pipes, text=True, start_new_session=True)
        try:
            _, errors = started.communicate(timeout=SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
        assert started.returncode == 0, errors


class WarmCommands:
    """Runs commands in children of one process that has all imported.

    Args:
        folder: A folder where the processes of a run of the tests meet: the first to come starts that process for all.
    """

    def __init__(self, folder):
        self._users = (folder / "users").open("a")
        with (folder / "starting").open("a") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(self._users, fcntl.LOCK_SH)
            address = folder / "address"
            if not address.exists():
                address.write_text(self._start_process(folder), encoding="utf-8")
            self.address = address.read_text(encoding="utf-8")

    @staticmethod
    def _start_process(folder):
        """Start the process; returns its address, a short one, as sockets need."""
        address = tempfile.mktemp(prefix="fastscnn-warm-")
        with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
            early.bind(f"{address}{EARLY}")
            late.bind(address)
            descriptors = []
            for listener in (early, late):
                listener.listen()
                descriptors.append(listener.fileno())
            started = command("../tests/programs/warm_commands.py", *map(str, descriptors), str(folder), cwd=REPO)
            subprocess.Popen(**started, stdin=subprocess.DEVNULL, pass_fds=descriptors)
        return address

    def start(self, args, cwd, env, early=False):
        """As `subprocess.Popen` with captured text, in a session of its own; from the copy without Triton if asked."""
        out, err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115 (WarmProcess.close)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        connection.connect(f"{self.address}{EARLY}" if early else self.address)
        request = json.dumps({"argv": args[1:], "cwd": str(cwd), "env": {k: str(v) for k, v in env.items()}})
        with open(os.devnull) as nothing:
            socket.send_fds(connection, [request.encode()], [nothing.fileno(), out.fileno(), err.fileno()])
        return WarmProcess(args, connection, out, err)

    def python(self):
        """A command line that is Python's for pytest-xdist: an interpreter that has all imported."""
        return f"'{sys.executable}' -S '{PROGRAMS / 'warm_python.py'}' {self.address}"

    def close(self):
        self._users.close()
