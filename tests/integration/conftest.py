"""Real runs of the real commands on tiny generated data."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

from helpers import FAST, REPO, command, write_cityscapes

SECONDS = 300
"""Limit of a command."""


class WarmCommands:
    """Runs commands in children of one process that has their libraries imported (tests/programs/warm_commands.py).

    Variables that an interpreter or a library reads as it starts have no effect there: commands that set any other than
    ours (`FASTSCNN_…`) are started in the usual way.
    """

    def __init__(self):
        self._address = tempfile.mktemp(prefix="fastscnn-warm-")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)
            listener.listen()
            started = command("../tests/programs/warm_commands.py", str(listener.fileno()), cwd=REPO)
            self._server = subprocess.Popen(**started, stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()])

    def run(self, args, cwd, env):
        """As `subprocess.run` with captured text."""
        with (
            open(os.devnull) as nothing,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
            socket.socket(socket.AF_UNIX) as connection,
        ):
            connection.settimeout(SECONDS)
            connection.connect(self._address)
            request = json.dumps({"argv": args[1:], "cwd": str(cwd), "env": {k: str(v) for k, v in env.items()}})
            socket.send_fds(connection, [request.encode()], [nothing.fileno(), out.fileno(), err.fileno()])
            with connection.makefile() as answers:
                pid = int(answers.readline())
                try:
                    code = int(answers.readline())
                except BaseException:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                    raise
            texts = [file.seek(0) or file.read() for file in (out, err)]
            return subprocess.CompletedProcess(args, code, *texts)

    def close(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._address)
        self._server.wait(SECONDS)
        os.unlink(self._address)


@pytest.fixture(scope="session")
def run():
    """Run a command to its end: `run("train.py", "data=fine", …, cwd=DIR)`."""
    warm = WarmCommands() if sys.platform == "linux" else None

    def run(script, *arguments, cwd, **environment):
        process = command(script, *arguments, cwd=cwd, **environment)
        if warm and all(name.startswith("FASTSCNN_") for name in environment):
            return warm.run(**process)
        return subprocess.run(**process, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)

    yield run
    if warm:
        warm.close()


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
