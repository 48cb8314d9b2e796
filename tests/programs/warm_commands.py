"""Runs our commands for the tests in children of one process that has all imported: a child starts in milliseconds
where a new interpreter needs five seconds. `WarmCommands` in integration/conftest.py is its client; all processes of a
run of the tests use the same one, and it ends soon after the last of them: each holds a shared lock of a file.

One request a connection: a line of JSON with the file descriptors of stdin, stdout and stderr beside it. Two lines
come back: the child's pid, and how it ended.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
from pathlib import Path

POLL = 2.0
"""Seconds between two looks whether anyone is left who could ask."""
LATE = ("pandas", "wandb.apis.public", "wandb.sdk.launch")
"""What W&B imports only when a run begins."""


status: list[int] = []
"""The exit status of a command that has ended."""


@atexit.register  # before any import, so that it is the last of all that is called at the end
def end_at_once() -> None:
    """End a command's process without taking its objects apart, for which it would copy the memory that it shares.

    Not with FASTSCNN_TESTS_WHOLE_END in its environment, for tests of what a process says until its very end.
    """
    if status and "FASTSCNN_TESTS_WHOLE_END" not in os.environ:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status[0])


def load(source: Path) -> None:
    """Import the package and what its commands import, and load what all of them read and run; starts no thread."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # as every command does, before its import
    sys.path[0] = str(source)
    package = importlib.import_module("fastscnn")
    for name in (*LATE, *(module.name for module in pkgutil.walk_packages(package.__path__, "fastscnn."))):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    importlib.import_module("hydra.core.plugins").Plugins.instance()
    importlib.import_module("fastscnn.runs.provenance").packages()
    zeros = importlib.import_module("torch").zeros(1, 19, 2, 4)
    package.upsample_labels(zeros, (16, 32))
    gc.freeze()  # a child's collector, also the one at its end, leaves these objects alone: their memory stays shared


def over(folder: Path) -> bool:
    """Whether no process of the tests is left that holds the lock; the address is then taken away."""
    with contextlib.suppress(FileNotFoundError), (folder / "users").open() as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        (folder / "address").unlink(missing_ok=True)
    return True


def main(listener: socket.socket, folder: Path) -> dict | None:
    """Serve until the last client has gone; None. In a child that a request made: the request."""
    listener.settimeout(POLL)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            if not over(folder):
                continue
            os.unlink(listener.getsockname())
            return None
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        text, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if os.fork() == 0:  # the one that waits for the command and tells how it ended
            listener.close()
            pid = os.fork()
            if pid == 0:
                os.setsid()
                connection.close()
                for target, source in enumerate(descriptors):
                    os.dup2(source, target)
                    os.close(source)
                return json.loads(text)
            for descriptor in (0, 1, 2, *descriptors):
                os.close(descriptor)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            connection.sendall(f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.close()


if __name__ == "__main__":
    load(Path(__file__).resolve().parents[2] / "src")
    request = main(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
    if request is None:
        status.append(0)
    else:
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = request["argv"]
        sys.orig_argv = [sys.executable, *sys.argv]
        sys.path[0] = os.path.dirname(sys.argv[0])
        # Lightning imports W&B, which makes a folder for pictures that the first child to end would remove for all.
        sys.modules["wandb.sdk.data_types._private"].MEDIA_TMP.__init__(prefix="wandb-media")
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            status.append(0)
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                status.append((end.code or 0) & 0xFF)
            raise
