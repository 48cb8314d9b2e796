"""Errors of the processes that read data: the training process raises them as they are, with all that they carry."""

import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset, get_worker_info

from fastscnn.data.datasets.frame_dataset import Key
from fastscnn.utils.isolated import InChild, portable

_WHY = {
    signal.SIGKILL: "which is what a system without free memory does: set data.num_workers or data.batch_size lower",
    signal.SIGBUS: "which a full /dev/shm or a file that became shorter while it was read causes: make room, or set "
    "data.num_workers=0",
}


@dataclass
class Failure:
    """What a worker process sends instead of a batch: torch itself would send the text of the error only."""

    error: Exception
    traceback: str


class Batches(Dataset[dict[str, Any]]):
    """A data set as a DataLoader reads it, a batch at a time; in a worker process an error becomes a `Failure`.

    Args:
        dataset: The samples.
        make: Makes a batch of the samples of some keys.
    """

    def __init__(self, dataset: Any, make: Callable[[Sequence[Key]], dict[str, Any]]) -> None:
        self.dataset = dataset
        self.make = make

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        sample: dict[str, Any] = self.dataset[key]
        return sample

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Any] | Failure:
        try:
            return self.make(keys)
        except Exception as error:
            if get_worker_info() is None:
                raise
            return Failure(portable(error), traceback.format_exc())


class Loader(DataLoader[dict[str, Any]]):
    """A DataLoader of `Batches` that raises the error of a worker process as it is, and then ends all of them.

    Raises:
        RuntimeError: While it is iterated: a worker process was ended from outside (names the signal), or an error
            cannot be pickled (has its name and text).
    """

    def __init__(
        self, dataset: Dataset[dict[str, Any]], make: Callable[[Sequence[Key]], dict[str, Any]], **options: Any
    ) -> None:
        super().__init__(Batches(dataset, make), collate_fn=_unchanged, **options)

    def __iter__(self) -> Any:
        return WatchedIterator(super().__iter__(), self._end_workers)

    def _end_workers(self, iterator: Any) -> None:
        """End them now: the collector that finds an iterator in a traceback's cycle waits 5 seconds for each."""
        self._iterator = None
        getattr(iterator, "_shutdown_workers", lambda: None)()


class WatchedIterator:
    """The iterator of a DataLoader, whose errors are those of the worker processes.

    Args:
        iterator: torch's.
        failed: Called with it before an error is raised.
    """

    def __init__(self, iterator: Iterator[dict[str, Any] | Failure], failed: Callable[[Any], None]) -> None:
        self.iterator = iterator
        self._failed = failed

    def __iter__(self) -> "WatchedIterator":
        return self

    def __len__(self) -> int:
        return len(self.iterator)  # type: ignore[arg-type]

    def __next__(self) -> dict[str, Any]:
        try:
            batch = next(self.iterator)
        except StopIteration:
            raise
        except Exception as error:
            end = self._ended()
            self._failed(self.iterator)
            if end is None:
                raise
            raise end from error
        if isinstance(batch, Failure):
            self._failed(self.iterator)
            raise batch.error from InChild(batch.traceback)
        return batch

    def _ended(self) -> RuntimeError | None:
        """The error of a worker that is gone; torch reports it in many ways, such as a connection that was reset."""
        for worker in getattr(self.iterator, "_workers", ()):
            worker.join(0.5)
            if worker.exitcode:
                return RuntimeError(f"a process that reads data (pid {worker.pid}) {_end(worker.exitcode)}")
        return None


def _unchanged(batch: Any) -> Any:
    return batch


def _end(exitcode: int) -> str:
    """How a process ended, from its exit code in `multiprocessing`, which is negative for a signal."""
    if exitcode > 0:
        return f"ended with code {exitcode}"
    try:
        number = signal.Signals(-exitcode)
    except ValueError:
        return f"was ended by signal {-exitcode}"
    return f"was ended by {number.name}" + (f", {_WHY[number]}" if number in _WHY else "")
