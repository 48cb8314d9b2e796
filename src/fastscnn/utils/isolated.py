"""Calls of other software that may crash, made in a child process.

A spawned child imports the module of the function: keep that module's imports few. As always with spawned processes, a
script that uses this needs `if __name__ == "__main__":`.
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
from fastscnn.utils.output import outlive_reader

SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 30.0
"""Seconds that a child has to end after its pipe is closed."""


def run(function: Callable[..., Any], *arguments: Any, served: Sequence[Any] | None = None) -> Any:
    """Call a function in a new child process.

    Args:
        function: A function that the child can import by its name.
        arguments: Its arguments, which are pickled.
        served: A sequence that is too large to be sent at once. It stays in this process; the function gets, as its
            last argument, a sequence that requests each item when it is used.

    Returns:
        The return value, which is pickled.

    Raises:
        Crash: The child ended before the function returned.
        Exception: What the function raised; the child's own traceback is its cause.
    """
    with Hosted(function, *arguments, served=served, stays=False) as child:
        return child.made


class Hosted:
    """A function that lives in a child process and is called from here.

    Args:
        make: Creates the function; the child imports it by its name.
        arguments: The arguments of `make`, which are pickled.
        served: As in `run`.
        stays: Whether the result of `make` stays in the child; otherwise it is sent here, as `made`.

    Raises:
        Crash: The child ended before a call returned, now or later.
        Exception: What was raised in the child.
    """

    def __init__(
        self, make: Callable[..., Any], *arguments: Any, served: Sequence[Any] | None = None, stays: bool = True
    ) -> None:
        self._served = served
        self._pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
        try:
            self._process.start()
            theirs.close()
            length = None if served is None else len(served)
            self.made = self._ask(_Task(make, arguments, length, stays))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int | None:
        """Process id of the child."""
        return self._process.pid

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function in the child."""
        return self._ask((arguments, options))

    def __enter__(self) -> "Hosted":
        """End the child with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; does nothing if it has ended."""
        self._pipe.close()
        if self.pid is not None:
            self._process.kill()
            self._process.join()

    def _ask(self, question: Any) -> Any:
        data = ForkingPickler.dumps(question)  # before sending: arguments that cannot be pickled are not a crash
        try:
            self._pipe.send_bytes(data)
            while True:
                kind, value = self._pipe.recv()
                if kind == "item":
                    assert self._served is not None
                    self._pipe.send(self._served[value])
                    continue
                if kind == "error":
                    error, text = value
                    raise error from InChild(text)
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
    """The first message to a child."""

    make: Callable[..., Any]
    arguments: tuple[Any, ...]
    length: int | None
    stays: bool


class InChild(Exception):
    """The traceback of an error in the child, as the cause of the error here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class _Requested(Sequence[Any]):
    """A sequence whose items are requested from the parent process."""

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
    """The main function of the child: create the function, then answer calls until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent ends this one
    outlive_reader()
    _no_core_file()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    made: Any = None
    try:
        while True:
            question = pipe.recv()
            try:
                if isinstance(question, _Task):
                    asked = [] if question.length is None else [_Requested(pipe, question.length)]
                    made = question.make(*question.arguments, *asked)
                    answer = None if question.stays else made
                else:
                    arguments, options = question
                    answer = made(*arguments, **options)
                data = ForkingPickler.dumps(("done", answer))
            except Exception as error:
                data = ForkingPickler.dumps(("error", (portable(error), traceback.format_exc())))
            pipe.send_bytes(data)
    except (EOFError, ConnectionError):
        return


def portable(error: Exception) -> Exception:
    """The error itself or, if it cannot be pickled, a `RuntimeError` with its text."""
    error.__cause__ = error.__context__ = None
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return error
    except Exception:  # many errors can prevent pickling
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _no_core_file() -> None:
    """Disable core files: a crash is expected here, and must not fill the user's folder."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
