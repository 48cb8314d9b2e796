"""Errors of the processes that read data, as the process that trains is to see them: with their own class and text."""

import re
import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

_CAUGHT = re.compile(r"Caught (\w+) in .*\.\nOriginal ")
_WHY = {
    signal.SIGKILL: "which is what a system without free memory does: set data.num_workers or data.batch_size lower",
    signal.SIGBUS: "which a full /dev/shm or a file that became shorter while it was read causes: make room, or set "
    "data.num_workers=0",
}


class Loader(DataLoader[dict[str, Any]]):
    """A DataLoader whose iteration raises what went wrong in a worker process, not what torch wraps it in.

    Raises:
        RuntimeError: While it is iterated, a worker process was ended from outside; names the signal. An error that a
            worker raised has its own class where that takes a text alone, and its own text in any case.
    """

    def __iter__(self) -> Any:
        return _Watched(super().__iter__())


class _Watched:
    """The iterator of a DataLoader."""

    def __init__(self, iterator: Iterator[dict[str, Any]]) -> None:
        self.iterator = iterator

    def __iter__(self) -> "_Watched":
        return self

    def __len__(self) -> int:
        return len(self.iterator)  # type: ignore[arg-type]

    def __next__(self) -> dict[str, Any]:
        try:
            return next(self.iterator)
        except StopIteration:
            raise
        except Exception as error:
            if (own := raised_by_worker(error) or self._ended()) is None:
                raise
            raise own from error

    def _ended(self) -> RuntimeError | None:
        """The error of a worker that is gone; torch says it in many ways, such as a connection that was reset."""
        for worker in getattr(self.iterator, "_workers", ()):
            worker.join(0.5)
            if worker.exitcode:
                return RuntimeError(f"a process that reads data (pid {worker.pid}) {_end(worker.exitcode)}")
        return None


def raised_by_worker(error: Exception) -> Exception | None:
    """The error that a worker process raised, from what torch makes of it; None where it is none of a worker."""
    text = str(error)
    if not (caught := _CAUGHT.match(text)):
        return None
    name = caught[1]
    last = list(re.finditer(rf"^(?:\w+\.)*{name}(?:: |$)", text, re.MULTILINE))
    message = text[last[-1].end() :].strip() if last else ""
    if type(error).__name__ != name:  # one that takes more than a text
        return RuntimeError(f"{name}: {message}" if message else name)
    return type(error)(message) if message else type(error)()


def _end(exitcode: int) -> str:
    """How a process ended, from what `multiprocessing` says of it: the signal's number is negative."""
    if exitcode > 0:
        return f"ended with code {exitcode}"
    try:
        number = signal.Signals(-exitcode)
    except ValueError:
        return f"was ended by signal {-exitcode}"
    return f"was ended by {number.name}" + (f", {_WHY[number]}" if number in _WHY else "")
