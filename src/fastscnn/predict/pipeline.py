"""Reading, computing and writing different items at the same time, with a fixed number of them in memory."""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from fastscnn.utils.text import number

Item = TypeVar("Item")
QUEUE_SIZE = 4
"""Items that may wait to be computed, and as many that may wait to be written."""
THREADS = 2
"""Threads that read, and as many that write."""


class Busy:
    """How long the stages of `overlapped` are at work.

    Attributes:
        seconds: The time of each stage, added up over its threads.
    """

    def __init__(self) -> None:
        self.seconds = {"reading": 0.0, "network": 0.0, "writing": 0.0}
        self._lock = threading.Lock()

    def timed(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work, whose time is counted."""

        def working(*given: Any) -> Any:
            started = time.perf_counter()
            try:
                return work(*given)
            finally:
                taken = time.perf_counter() - started
                with self._lock:
                    self.seconds[stage] += taken

        return working

    def summary(self, count: int, seconds: float) -> str:
        """`9.4 images/s by the network alone; busy: reading 31%, network 95%, writing 12%`.

        Args:
            count: Number of images.
            seconds: How long all took together, of which the shares are; a stage whose threads all worked from the
                first to the last second has 100%.
        """
        most = {"reading": THREADS, "network": 1, "writing": THREADS}
        shares = [f"{stage} {self.seconds[stage] / (seconds * most[stage]):.0%}" for stage in most]
        alone = number(count / max(self.seconds["network"], 1e-9))
        return f"{alone} images/s by the network alone; busy: {', '.join(shares)}"


def overlapped(
    items: Iterable[Item],
    read: Callable[[Item], Any],
    compute: Callable[[Item, Any], Any],
    write: Callable[[Item, Any], Any],
    *,
    failures: type[Exception] | tuple[type[Exception], ...] = OSError,
) -> Iterator[tuple[Item, Exception | None]]:
    """Read, compute and write items; the stages of neighbouring items overlap.

    Args:
        items: The items, in the order in which they are computed.
        read: Reads the input of an item; called in other threads.
        compute: Computes the output from an item and its input; called in this thread.
        write: Writes the output of an item; called in other threads.
        failures: Errors that concern one item alone: the others go on.

    Yields:
        Each item once it is done, in order, with its error or None.
    """
    waiting: deque[tuple[Item, Future[Any]]] = deque()
    leaving: deque[tuple[Item, Future[Any] | Exception]] = deque()
    rest = iter(items)
    with ThreadPoolExecutor(THREADS) as readers, ThreadPoolExecutor(THREADS) as writers:
        try:
            for item in islice(rest, QUEUE_SIZE):
                waiting.append((item, readers.submit(read, item)))
            while waiting:
                item, reading = waiting.popleft()
                for following in islice(rest, 1):
                    waiting.append((following, readers.submit(read, following)))
                try:
                    computed = compute(item, reading.result())
                    leaving.append((item, writers.submit(write, item, computed)))
                except failures as error:
                    leaving.append((item, error))
                while len(leaving) > QUEUE_SIZE:
                    yield _outcome(*leaving.popleft(), failures)
            while leaving:
                yield _outcome(*leaving.popleft(), failures)
        finally:
            for _, unread in waiting:
                unread.cancel()


def prefetched(items: Iterable[Item], size: int) -> Generator[Item, None, None]:
    """Make the items in another thread, up to `size` of them in advance; its error is raised at its place."""
    made: queue.Queue[Any] = queue.Queue(size)
    stopped = threading.Event()

    def make() -> None:
        last: Any = _Last(None)
        try:
            for item in items:
                made.put(item)
                if stopped.is_set():
                    return
        except Exception as error:
            last = _Last(error)
        made.put(last)

    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    try:
        while not isinstance(item := made.get(), _Last):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        while maker.is_alive():
            with contextlib.suppress(queue.Empty):
                made.get(timeout=0.01)
        maker.join()


class _Last:
    """The end of the items, or the error that ended them."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


def _outcome(item: Item, leaving: Any, failures: Any) -> tuple[Item, Exception | None]:
    if isinstance(leaving, Exception):
        return item, leaving
    try:
        leaving.result()
    except failures as error:
        failed: Exception = error
        return item, failed
    return item, None
