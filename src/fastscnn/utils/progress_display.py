"""The display of progress: which blocks of work are open, and the thread that shows them."""

import math
import os
import sys
import threading
import time
from typing import Any, Protocol

from fastscnn.utils.bars import Bars
from fastscnn.utils.errors import RequestError
from fastscnn.utils.text import duration

VARIABLE = "FASTSCNN_PROGRESS_SECONDS"
"""Environment variable with the seconds between two lines."""
EVERY = 20.0
"""Seconds between two lines: fewer than the 30 that are promised, so that the promise is kept on a busy machine."""
SOON = 1.0
"""Work that takes fewer seconds is not displayed."""
REFRESH = 0.25
"""Seconds between two updates of the bars."""
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables with the rank of a process in a distributed run, as Lightning reads them."""


class Block(Protocol):
    """What the display needs to know of a piece of work; `Progress` has it."""

    def __hash__(self) -> int: ...

    what: str
    done: int
    total: int | None
    bar: bool
    started: float
    facts: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Seconds since the block began."""

    @property
    def rate(self) -> float:
        """Units per second; 0 if none is done."""

    @property
    def rate_text(self) -> str:
        """The rate with its unit."""

    @property
    def left(self) -> float | None:
        """Seconds until the end; None if unknown."""

    def line(self) -> str:
        """The work in one line."""


class Display:
    """The open blocks of this process, outermost first, and the thread that displays them."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.every = EVERY
        self.lock = threading.RLock()  # held while something is written or a process forks
        self._changed = threading.Condition(self.lock)
        self._thread: threading.Thread | None = None
        self._bars: Bars | None = None
        self._printed = time.monotonic()
        self._stream: Any = None  # stdout when the outermost block began: it may be redirected later
        self._terminal = False

    def open(self, block: Block) -> None:
        """Begin to display a block."""
        with self._changed:
            if not self.blocks:
                self.every = seconds_between_lines()
                self._stream, self._terminal = sys.stdout, on_terminal()
                self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
                self.blocks.append(block)
                self._thread.start()
            else:
                self.blocks.append(block)
                self._changed.notify()

    def close(self, block: Block) -> None:
        """Stop displaying a block and those inside it."""
        with self._changed:
            if block not in self.blocks:
                return
            del self.blocks[self.blocks.index(block) :]
            if self._bars and not any(block.bar for block in self.blocks):
                self._bars.stop()
                self._bars = None
            thread = None if self.blocks else self._thread
            self._changed.notify()
        if thread:
            thread.join(timeout=5)  # it may be writing to a pipe that nobody reads

    def say(self, text: str) -> None:
        """Print a complete line."""
        with self.lock:
            self._printed = time.monotonic()
            if self._bars:
                self._bars.say(text)
                return
            stream = self._stream if self.blocks else sys.stdout
            encoding = getattr(stream, "encoding", None) or "utf-8"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            stream.flush()

    def forget(self) -> None:
        """Close all blocks in a forked process, which has no display thread."""
        self.blocks.clear()
        self._bars = None
        self._changed = threading.Condition(self.lock)
        self.lock.release()

    def _watch(self) -> None:
        with self._changed:
            while self.blocks:
                try:
                    pause = self._show_bars() if self._terminal else self._print_line()
                except (OSError, ValueError):  # a full disk, or a closed pipe: no reason to end the work
                    pause = self.every
                self._changed.wait(pause)

    def _print_line(self) -> float:
        """Print a line if it is due; returns the seconds until the next one."""
        due = max(self._printed + self.every, self.blocks[0].started + SOON)
        if (pause := due - time.monotonic()) > 0:
            return pause
        self.say(self.blocks[-1].line())
        return self.every

    def _show_bars(self) -> float | None:
        """Update the bars; returns the seconds until the next update, None if there are no bars."""
        with_bar = [block for block in self.blocks if block.bar]
        if not with_bar:
            return None
        if not self._bars and with_bar[0].seconds < SOON:
            return REFRESH
        self._bars = self._bars or Bars(self._stream)
        self._bars.show([(block, block.what, block.done, block.total, *_beside_a_bar(block)) for block in with_bar])
        return REFRESH


display = Display()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=display.lock.acquire, after_in_parent=display.lock.release, after_in_child=display.forget
    )


def say(text: str) -> None:
    """Print a line between lines of progress, or above the bars of a terminal."""
    display.say(text)


def seconds_between_lines() -> float:
    """The value of `FASTSCNN_PROGRESS_SECONDS`; 20 if it is not set.

    Raises:
        RequestError: It is not a number above 0.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return EVERY
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise RequestError(
            f"{VARIABLE}={text} is not a number of seconds above 0.",
            key=VARIABLE,
            fix=f"Set such a number, or unset it for {EVERY:g}.",
        )
    return seconds


def first_process() -> bool:
    """Whether this is the first process of a distributed run, or the only one."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "0") == "0"


def on_terminal() -> bool:
    """Whether stdout is a terminal that can move its cursor."""
    isatty: Any = getattr(sys.stdout, "isatty", None)
    return isatty is not None and bool(isatty()) and os.environ.get("TERM", "") not in ("dumb", "unknown")


def _beside_a_bar(block: Block) -> tuple[str, str]:
    """The text after a bar, and the time left."""
    count = f"{block.done:,}/{block.total:,}" if block.total is not None else f"{block.done:,}" if block.done else ""
    facts = block.facts or ((block.rate_text,) if block.rate else ())
    left = "" if block.left is None else f"{duration(block.left)} left"
    return " · ".join(part for part in (count, *facts) if part), left
