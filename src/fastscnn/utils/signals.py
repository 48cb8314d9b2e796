"""Signals that ask a command to end: it ends cleanly, at once or where nothing is lost."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""Names of the signals that end a command cleanly; not every system has all of them."""
SECOND_AFTER_SECONDS = 1.0
"""A Ctrl-C this long after the first signal ends the command at once; an earlier one may be a repeat of it."""


class Interrupted(BaseException):
    """A signal asked the command to end.

    Attributes:
        signum: The number of the signal.
        together: Whether all processes of a distributed run end by it.
    """

    def __init__(self, signum: int, place: str = "", *, together: bool = False) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}{place}")
        self.signum = signum
        self.together = together

    @property
    def code(self) -> int:
        """The exit code of the command."""
        return 128 + self.signum


class Watch:
    """The signals that were received while the handlers are installed.

    A signal that was inherited as ignored (`nohup`) stays ignored. Handlers of others stay too, except for a signal of
    the cluster, such as submitit's: call `handler` to run that one.

    Attributes:
        received: The first signal; 0 if there was none.
        cluster: The first signal of the cluster; 0 if there was none.
        waits: Whether a signal is only recorded, until `received` is called.
    """

    def __init__(self, cluster: Sequence[str] = (), *, waits: bool = False) -> None:
        self.received = self.cluster = 0
        self.waits = waits
        self._cluster = _numbers(cluster)
        self._at = 0.0
        self._before: dict[int, Any] = {}

    @property
    def handler(self) -> Any:
        """The handler that others had installed for the received signal of the cluster; None if there was none."""
        before = self._before.get(self.cluster)
        return before if callable(before) else None

    def install(self) -> None:
        """Install the handlers."""
        for number in sorted(_numbers(ENDING) | self._cluster):
            before = signal.getsignal(number)
            others = callable(before) and before is not signal.default_int_handler
            if before in (signal.SIG_IGN, None) or (others and number not in self._cluster):
                continue
            self._before[number] = before
            signal.signal(number, self._handle)

    def remove(self) -> None:
        """Restore the previous handlers."""
        for number, before in self._before.items():
            signal.signal(number, before)

    def in_child(self) -> None:
        """In a forked process: ignore signals if the parent waits, and let them end the process otherwise."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN if self.waits else signal.SIG_DFL)

    def _handle(self, number: int, frame: Any) -> None:
        if number in self._cluster:
            self.cluster = self.cluster or number
        now = time.monotonic()
        if self.received:
            if number == signal.SIGINT and now - self._at > SECOND_AFTER_SECONDS:
                raise Interrupted(number)
            return
        self.received, self._at = number, now
        if not self.waits:
            raise Interrupted(number)
        with contextlib.suppress(OSError):  # print may be in the middle of a line
            os.write(2, f"\n{signal.Signals(number).name}: the run ends in order\n".encode())


_watch: Watch | None = None


@contextlib.contextmanager
def watched(cluster: Sequence[str] = (), *, waits: bool = False) -> Iterator[Watch]:
    """Raise `Interrupted` in the main thread on a signal that asks to end; an inner block uses the outer one's watch.

    Args:
        cluster: Names of the signals by which a cluster announces that it will stop and requeue the job.
        waits: Only record signals, until `waiting` ends or `received` is called.
    """
    global _watch
    if _watch is not None or threading.current_thread() is not threading.main_thread():
        yield _watch or Watch()
        return
    _watch = Watch(cluster, waits=waits)
    _watch.install()
    try:
        yield _watch
    finally:
        _watch.remove()
        _watch = None


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Delay signals until `received` is called or this block ends.

    Raises:
        Interrupted: At the end of the block, if there was a signal.
    """
    watch = _watch
    if watch is None or watch.waits:
        yield
        return
    watch.waits = True
    try:
        yield
    finally:
        watch.waits = False
    if watch.received:
        raise Interrupted(watch.received)


def received() -> int:
    """The signal that asked to end; 0 if there was none."""
    return _watch.received if _watch else 0


def ignore_in_worker() -> None:
    """Ignore, in a worker, the signals that end a command: the main process needs its workers to end cleanly.

    SIGTERM, by which the main process ends its workers, is obeyed from that process only. Terminals, `timeout`, SLURM
    and systemd send their signals to all processes of a group.
    """
    for number in _numbers((*ENDING, "SIGUSR2")) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True, name="sigterm").start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # as torch's workers do: another exit code would count as a failure


def _numbers(names: Sequence[str]) -> set[int]:
    return {int(getattr(signal, name)) for name in names if hasattr(signal, name)}


def _forked() -> None:
    if _watch is not None:
        _watch.in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
