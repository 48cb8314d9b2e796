"""Signals that ask a command to end: it ends in order, at once or where nothing is lost."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
"""Signals that end a command in order, by name: not every system has all of them."""
SECOND_AFTER_SECONDS = 1.0
"""A Ctrl-C this long after a first signal ends the command at once; sooner, it may be the same: `timeout` sends two."""


class Interrupted(BaseException):
    """A signal asked the command to end.

    Attributes:
        signum: The signal.
        together: All processes of a distributed run end by it.
    """

    def __init__(self, signum: int, place: str = "", *, together: bool = False) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}{place}")
        self.signum = signum
        self.together = together

    @property
    def code(self) -> int:
        """The exit code that it stands for."""
        return 128 + self.signum


class Watch:
    """What was received while the handlers are in place.

    A signal that was inherited as ignored (`nohup`) stays ignored. A handler that somebody else installed stays too,
    except for a signal of the cluster, such as submitit's: whoever acts on that one calls `handler`.

    Attributes:
        received: The first signal; 0 before.
        cluster: The first of the cluster's signals; 0 before.
        waits: Whether a signal is only remembered, until somebody asks.
    """

    def __init__(self, cluster: Sequence[str] = (), *, waits: bool = False) -> None:
        self.received = self.cluster = 0
        self.waits = waits
        self._cluster = _numbers(cluster)
        self._at = 0.0
        self._before: dict[int, Any] = {}

    @property
    def handler(self) -> Any:
        """What somebody else installed for the cluster's signal that came; None where nobody did."""
        before = self._before.get(self.cluster)
        return before if callable(before) else None

    def install(self) -> None:
        """Put the handlers in place."""
        for number in sorted(_numbers(ENDING) | self._cluster):
            before = signal.getsignal(number)
            others = callable(before) and before is not signal.default_int_handler
            if before in (signal.SIG_IGN, None) or (others and number not in self._cluster):
                continue
            self._before[number] = before
            signal.signal(number, self._handle)

    def remove(self) -> None:
        """Put the handlers of before back."""
        for number, before in self._before.items():
            signal.signal(number, before)

    def in_child(self) -> None:
        """Leave the signals of a forked process to its parent where that waits, and else have them end it."""
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
    """Raise `Interrupted` in the main thread where a signal asks to end; within another such block it is that one's.

    Args:
        cluster: Names of the signals by which a cluster asks to save and to come back.
        waits: Only remember it, until `waiting` ends or somebody asks `received`.
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
    """Have a signal wait for somebody who asks `received`, or for the end of this block.

    Raises:
        Interrupted: At the end of the block, where nobody has acted on the signal.
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
    """The signal that asks to end; 0 where none does."""
    return _watch.received if _watch else 0


def ignore_in_worker() -> None:
    """Leave the signals that end a command to the process that started this one: it needs its workers to end in order.

    SIGTERM, by which it ends them, counts from nobody else. A terminal, `timeout`, SLURM and systemd send theirs to
    every process of a group.
    """
    for number in _numbers((*ENDING, "SIGUSR2")) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True, name="sigterm").start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # as torch's workers do: an exit code would count as a failure of theirs


def _numbers(names: Sequence[str]) -> set[int]:
    return {int(getattr(signal, name)) for name in names if hasattr(signal, name)}


def _forked() -> None:
    if _watch is not None:
        _watch.in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
