"""Reading, computing and writing different items at the same time, with a fixed number of them in memory."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")
QUEUE_SIZE = 4
"""Items that may wait to be computed, and as many that may wait to be written."""


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
    with ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(2) as writers:
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
