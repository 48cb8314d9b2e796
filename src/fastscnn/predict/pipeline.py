"""Reading ahead, computing and writing behind at the same time, with a fixed number of items under way."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")
AHEAD = 4
"""Items that are read ahead, and as many that are written behind; all that memory holds."""


def overlapped(
    items: Iterable[Item],
    read: Callable[[Item], Any],
    compute: Callable[[Item, Any], Any],
    write: Callable[[Item, Any], Any],
    *,
    failures: type[Exception] | tuple[type[Exception], ...] = OSError,
) -> Iterator[tuple[Item, Exception | None]]:
    """Carry items through three stages; those of neighbours overlap.

    Args:
        items: In this order they are computed.
        read: An item to what is computed on; in other threads.
        compute: The item and what was read, to what is written; in this thread.
        write: The item and what was computed; in other threads.
        failures: Errors that concern one item alone: the others go on.

    Yields:
        Each item once it is done, in order, and the error where it failed.
    """
    waiting: deque[tuple[Item, Future[Any]]] = deque()
    leaving: deque[tuple[Item, Future[Any] | Exception]] = deque()
    rest = iter(items)
    with ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(2) as writers:
        try:
            for item in islice(rest, AHEAD):
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
                while len(leaving) > AHEAD:
                    yield _outcome(*leaving.popleft(), failures)
            while leaving:
                yield _outcome(*leaving.popleft(), failures)
        finally:
            for _, unread in waiting:
                unread.cancel()


def ahead(items: Iterable[Item], size: int) -> Generator[Item, None, None]:
    """The same items, made by another thread that is up to `size` of them ahead; its error is raised at its place."""
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
