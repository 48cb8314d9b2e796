"""What a person sees while frames are decoded."""

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINES_EVERY = 30.0
"""Seconds between lines where the output is no terminal."""
Item = TypeVar("Item")


def shown(done: Iterable[Item], frames: Sized) -> Iterator[Item]:
    """Pass on what is done while showing how many of the frames that is, how many a second, and the time left.

    A bar that goes away on a terminal; elsewhere a line now and then. A line at the end, but for what is done soon.
    """
    console, total = Console(), len(frames)
    bar = Progress(
        TextColumn("decoding"),
        BarColumn(),
        TextColumn(f"{{task.completed:,.0f}}/{total:,} frames · {{task.fields[rate]:.0f}} frames/s"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    started = told = time.monotonic()
    with bar:
        task = bar.add_task("decoding", total=total, rate=0.0)
        for count, item in enumerate(done, 1):
            now = time.monotonic()
            rate = count / max(now - started, 1e-3)
            bar.update(task, completed=count, rate=rate)
            if not console.is_terminal and now - told >= LINES_EVERY:
                told = now
                left = (total - count) / rate
                print(f"decoded {count:,} of {total:,} frames, {rate:.0f} frames/s, {left:.0f} s left", flush=True)
            yield item
    if (seconds := time.monotonic() - started) >= LINES_EVERY:
        print(f"decoded {total:,} frames in {seconds:.0f} s, {total / seconds:.0f} frames/s", flush=True)
