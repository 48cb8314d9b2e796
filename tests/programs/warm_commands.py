"""Runs the tests' workers and the commands that they start in children of one process that has all imported: a child
starts in milliseconds where a new interpreter needs five seconds. `WarmCommands` in warm.py is its client. All the
processes of a run of the tests use the same one; it ends soon after the last of them: each holds a shared lock of a
file.

A copy of it is left behind before Triton is imported, at an address of its own, for programs that import Triton with
other settings.

One request a connection: a line of JSON with the file descriptors of stdin, stdout and stderr beside it. Two lines
come back: the child's pid, and how it ended. A child whose client is gone is ended.
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
import select
import signal
import socket
import sys
import types
from pathlib import Path

POLL = 2.0
"""Seconds between two looks whether anyone is left who could ask."""
WITHOUT_TRITON = (
    *("fastscnn.kernels.cuda.separable", "fastscnn.inference.backends.triton"),
    *("fastscnn.data.transforms.batch_crop", "fastscnn.data.transforms.augment"),
)
"""What programs import beside Triton, which reads its settings as it is imported: these do not import it."""
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


def load_without_triton(source: Path) -> None:
    """Import what all programs need; starts no thread."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # as every command does, before its import
    sys.path[0] = str(source)
    for name in WITHOUT_TRITON:
        importlib.import_module(name)
    assert "triton" not in sys.modules


def load() -> None:
    """Import the package and what its commands import, and load what all of them read and run; starts no thread."""
    package = importlib.import_module("fastscnn")
    for name in (*LATE, *(module.name for module in pkgutil.walk_packages(package.__path__, "fastscnn."))):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    importlib.import_module("hydra.core.plugins").Plugins.instance()
    importlib.import_module("fastscnn.runs.provenance").packages()
    zeros = importlib.import_module("torch").zeros(1, 19, 2, 4)
    package.upsample_labels(zeros, (16, 32))


def over(folder: Path) -> bool:
    """Whether no process of the tests is left that holds the lock; the address is then taken away."""
    with contextlib.suppress(FileNotFoundError), (folder / "users").open() as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        (folder / "address").unlink(missing_ok=True)
    return True


def run_command(request: dict) -> None:
    """Run a script, as `python SCRIPT ARGUMENTS` does."""
    sys.argv = request["argv"]
    sys.orig_argv = [sys.executable, *sys.argv]
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")


def run_code(request: dict) -> None:
    """Run a string, as `python -c CODE` does."""
    sys.argv = ["-c"]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (for as long as the process lives)
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    exec(request["code"], main.__dict__)


class Children:
    """The commands that run: descriptor of each process to its pid and to its client's connection."""

    def __init__(self) -> None:
        self.running: dict[int, tuple[int, socket.socket]] = {}

    def add(self, pid: int, connection: socket.socket) -> None:
        self.running[os.pidfd_open(pid)] = pid, connection
        self._send(connection, pid)

    def look_after(self, ready: list) -> None:
        """Tell how those have ended that have; end those whose client is gone, which sends nothing more."""
        for process, (pid, connection) in list(self.running.items()):
            if process in ready:
                self._send(connection, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                self._forget(process)
            elif connection in ready:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                os.waitpid(pid, 0)
                self._forget(process)

    def forget_all(self) -> None:
        for process in list(self.running):
            self._forget(process)

    def connections(self) -> list[socket.socket]:
        return [connection for _, connection in self.running.values()]

    def _forget(self, process: int) -> None:
        os.close(process)
        self.running.pop(process)[1].close()

    @staticmethod
    def _send(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(ConnectionError):
            connection.sendall(f"{number}\n".encode())


def main(listener: socket.socket, folder: Path) -> dict | None:
    """Serve until the last client has gone; None. In a child that a request made: the request."""
    gc.freeze()  # a child's collector, also the one at its end, leaves these objects alone: their memory stays shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children = Children()
    while True:
        ready = select.select([listener, *children.running, *children.connections()], [], [], POLL)[0]
        children.look_after(ready)
        if listener in ready:
            connection, _ = listener.accept()
            text, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            pid = os.fork()
            if pid == 0:
                os.setsid()
                signal.signal(signal.SIGINT, signal.default_int_handler)
                children.forget_all()
                for open_one in (listener, connection):
                    open_one.close()
                for target, source in enumerate(descriptors):
                    os.dup2(source, target)
                    os.close(source)
                return json.loads(text)
            for descriptor in descriptors:
                os.close(descriptor)
            children.add(pid, connection)
        elif not ready and over(folder):
            os.unlink(listener.getsockname())
            return None


if __name__ == "__main__":
    early, late = (socket.socket(fileno=int(descriptor)) for descriptor in sys.argv[1:3])
    users = Path(sys.argv[3])
    load_without_triton(Path(__file__).resolve().parents[2] / "src")
    if os.fork() == 0:
        late.close()
        request = main(early, users)
    else:
        early.close()
        load()
        request = main(late, users)
    if request is None:
        status.append(0)
    else:
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        # Lightning imports W&B, which makes a folder for pictures that the first child to end would remove for all.
        if "wandb" in sys.modules:
            sys.modules["wandb.sdk.data_types._private"].MEDIA_TMP.__init__(prefix="wandb-media")
        try:
            run_code(request) if "code" in request else run_command(request)
            status.append(0)
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                status.append((end.code or 0) & 0xFF)
            raise
