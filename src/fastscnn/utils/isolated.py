"""Calls that may end their process, made in a child process: other software that computes for the first time.

A spawned child imports what the function needs and nothing else, so that a function is best kept in a module with few
imports. As with all that spawns, a script that leads here needs `if __name__ == "__main__":`.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

from fastscnn.utils.errors import Crash

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 30.0
"""Seconds in which a child whose pipe is closed, or that is done, ends by itself."""


def run(function: Callable[..., Any], *arguments: Any, served: Sequence[Any] | None = None) -> Any:
    """Call a function in a child process of its own.

    Args:
        function: A function that the child can import by its name.
        arguments: What it is called with; pickled.
        served: A sequence that is too large to be sent at once. It stays here, and is the last argument of the call as
            a sequence that asks for each item when it is needed.

    Returns:
        What it returns, pickled.

    Raises:
        Crash: The child ended before it answered.
        Exception: What the function raised; the child's own traceback is its cause.
    """
    with Hosted(function, *arguments, served=served, keep=False) as child:
        return child.made


class Hosted:
    """A function that another one makes, in a child process: called as if it were here.

    Args:
        make: A function that the child can import by its name.
        arguments: What it is called with; what it returns stays in the child and is called there.
        served: As `run` has it.
        keep: Whether what it returns stays in the child; otherwise it is sent here, as `made`.

    Raises:
        Crash: The child ended before it answered, here or in a later call.
        Exception: What was raised in the child.
    """

    def __init__(
        self, make: Callable[..., Any], *arguments: Any, served: Sequence[Any] | None = None, keep: bool = True
    ) -> None:
        self._served = served
        self._pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
        try:
            self._process.start()
            theirs.close()
            length = None if served is None else len(served)
            self.made = self._ask(_Task(make, arguments, length, keep))
        except BaseException:
            self.close()
            raise

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call what was made."""
        return self._ask((arguments, options))

    def __enter__(self) -> "Hosted":
        """End the child with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; harmless where it has ended."""
        self._pipe.close()
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()

    def _ask(self, question: Any) -> Any:
        data = ForkingPickler.dumps(question)  # apart from sending: what cannot be pickled is no crash
        try:
            self._pipe.send_bytes(data)
            while True:
                kind, value = self._pipe.recv()
                if kind == "item":
                    assert self._served is not None
                    self._pipe.send(self._served[value])
                    continue
                if kind == "error":
                    error, told = value
                    raise error from _InChild(told)
                return value
        except (EOFError, ConnectionError):
            raise self._crash() from None

    def _crash(self) -> Crash:
        self._process.join(PATIENCE)
        code = self._process.exitcode
        self.close()
        how = f"exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        return Crash(f"A child process ended by {how}.", how)


class _Task(NamedTuple):
    """What a child begins with."""

    make: Callable[..., Any]
    arguments: tuple[Any, ...]
    length: int | None
    keep: bool


class _InChild(Exception):
    """The traceback of an error in the child; its cause here."""

    def __init__(self, told: str) -> None:
        super().__init__(told)
        self.told = told

    def __str__(self) -> str:
        return f"\n{self.told}"


class _Asked(Sequence[Any]):
    """A sequence whose items lie in the parent process."""

    def __init__(self, pipe: "Connection[Any, Any]", length: int) -> None:
        self._pipe = pipe
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        place = range(self._length)[index]
        self._pipe.send(("item", place))
        return self._pipe.recv()

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self._length))


def _serve(pipe: "Connection[Any, Any]") -> None:
    """The child: make, then answer calls until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent ends this one
    _no_core_file()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    made: Any = None
    try:
        while True:
            question = pipe.recv()
            try:
                if isinstance(question, _Task):
                    asked = [] if question.length is None else [_Asked(pipe, question.length)]
                    made = question.make(*question.arguments, *asked)
                    answer = None if question.keep else made
                else:
                    arguments, options = question
                    answer = made(*arguments, **options)
                data = ForkingPickler.dumps(("done", answer))
            except Exception as error:
                data = ForkingPickler.dumps(("error", (_portable(error), traceback.format_exc())))
            pipe.send_bytes(data)
    except (EOFError, ConnectionError):
        return


def _portable(error: Exception) -> Exception:
    """The error, or where it cannot be sent, its words."""
    error.__cause__ = error.__context__ = None
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return error
    except Exception:  # whatever keeps a class from being pickled
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _no_core_file() -> None:
    """A crash here is expected, and must not leave gigabytes in the user's folder."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
