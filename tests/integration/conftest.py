"""Real runs of the real commands on tiny generated data."""

import contextlib
import fcntl
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from helpers import FAST, REPO, command, write_cityscapes

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
BROWSER_FLAGS += ["--disable-sync", "--no-first-run"]
BROWSER_FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
SECONDS = 300
"""Limit of a command."""


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


class WarmCommands:
    """Runs commands in children of one process that has all imported (tests/programs/warm_commands.py).

    Args:
        folder: Where the processes of a run of the tests meet: the first to come starts that process for all of them.
    """

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        self._users = (folder / "users").open("a")
        with (folder / "starting").open("a") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            fcntl.flock(self._users, fcntl.LOCK_SH)
            address = folder / "address"
            if not address.exists():
                address.write_text(self._start_process(folder), encoding="utf-8")
            self._address = address.read_text(encoding="utf-8")

    @staticmethod
    def _start_process(folder):
        """Start the process; returns its address, a short one, as sockets need."""
        address = tempfile.mktemp(prefix="fastscnn-warm-")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            arguments = (str(listener.fileno()), str(folder))
            started = command("../tests/programs/warm_commands.py", *arguments, cwd=REPO)
            subprocess.Popen(**started, stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()])
        return address

    def start(self, args, cwd, env):
        """As `subprocess.Popen` with captured text, in a session of its own."""
        out, err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115 (WarmProcess.close)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        connection.connect(self._address)
        request = json.dumps({"argv": args[1:], "cwd": str(cwd), "env": {k: str(v) for k, v in env.items()}})
        with open(os.devnull) as nothing:
            socket.send_fds(connection, [request.encode()], [nothing.fileno(), out.fileno(), err.fileno()])
        return WarmProcess(args, connection, out, err)

    def close(self):
        self._users.close()


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Start a command as `subprocess.Popen` does, with captured text: `start("train.py", "data=fine", …, cwd=DIR)`.

    Variables that an interpreter or a library reads as it starts have no effect in the warm process: a command that
    sets any is started in the usual way.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    warm = WarmCommands(folder / "warm") if sys.platform == "linux" else None
    with contextlib.ExitStack() as ends:
        if warm:
            ends.callback(warm.close)

        def start(script, *arguments, cwd, **environment):
            process = command(script, *arguments, cwd=cwd, **environment)
            if warm and all(name.startswith(READ_LATE) for name in environment):
                return ends.enter_context(contextlib.closing(warm.start(**process)))
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            return subprocess.Popen(**process, **pipes, text=True, start_new_session=True)

        yield start


@pytest.fixture(scope="session")
def run(start):
    """Run a command to its end: `run("train.py", "data=fine", …, cwd=DIR)`, as `subprocess.run` with captured text."""

    def run(*arguments, **keywords):
        process = start(*arguments, **keywords)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def run_line(run):
    """Run a command as a command of ours has printed it, in words that a shell understands."""

    def run_line(line, *more, cwd):
        python, script, *arguments = shlex.split(line)
        assert Path(python).samefile(sys.executable) or python == "python"
        return run(str((Path(cwd) / script).relative_to(REPO / "src")), *arguments, *more, cwd=cwd)

    return run_line


@pytest.fixture(scope="module")
def browser():
    """A headless browser with a camera that shows a test picture; each test opens pages of its own in it.

    One for a module: while it is open, nothing else in this process can run an event loop.
    """
    playwright_api = pytest.importorskip("playwright.sync_api")
    path = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if path is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)}")
    with playwright_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)
        except playwright_api.Error as error:
            pytest.skip(f"{path} does not start: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def cityscapes(tmp_path_factory):
    """A tiny data set in the Cityscapes layout."""
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"), train=5, val=2, train_extra=3)


@pytest.fixture(scope="session")
def trained(run, cityscapes, tmp_path_factory):
    """A finished run: its process, and its folder."""
    cwd = tmp_path_factory.mktemp("work")
    folder = cwd / "the run"
    done = run(
        "train.py",
        "data=fine",
        f"data.root={cityscapes}",
        "data.batch_size=2",
        "trainer.max_epochs=3",
        f"paths.run_dir={folder}".replace(" ", r"\ "),
        *FAST,
        cwd=cwd,
        FASTSCNN_PROGRESS_SECONDS="0.05",
    )
    assert done.returncode == 0, done.stderr
    return done, folder
