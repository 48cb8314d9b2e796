"""How far a long piece of work is: bars on a terminal, and a line at least every 30 seconds everywhere else."""

import math
import os
import sys
import threading
import time
from typing import Any

from fastscnn.utils.bars import Bars
from fastscnn.utils.errors import RequestError

VARIABLE = "FASTSCNN_PROGRESS_SECONDS"
"""Environment variable with the seconds between two lines."""
EVERY = 20.0
"""Seconds between two lines: fewer than the 30 that are promised, so that a busy machine keeps the promise."""
SOON = 1.0
"""Work that is done within as many seconds is not shown."""
REFRESH = 0.25
"""Seconds between two looks at the bars of a terminal."""
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables with a process' place in a distributed run, as Lightning reads them."""


class Progress:
    """A piece of work that may take long, shown from the beginning of a `with` block to its end.

    On a terminal it is a bar, which goes away at the end. Elsewhere a line is printed at least every 30 seconds, also
    while a single step takes longer than that, because a thread of its own prints it. Work within other work has a
    block within a block: lines are those of the innermost, and bars stand below each other. All goes to stdout, and
    only from the first process of a distributed run. One thread opens and closes the blocks of a process.

    Args:
        what: The work, such as `decoding` or `validation of epoch 3`.
        total: How many units there are; None where that is not known, or where nothing is counted.
        unit: What is counted, in the singular, such as `frame`.
        bar: Whether there is a bar on a terminal.
        summary: Whether a line at the end says how long it took, where that was longer than the time between lines.

    Attributes:
        done: Units that are done.
        doing: What is going on between two units, such as `waiting for the first batch`; a line has it where no unit
            was done since the last one.
        facts: What else there is to show, such as `loss 0.312` and `4.1 images/s`, which then stands for the rate.

    Raises:
        RequestError: `FASTSCNN_PROGRESS_SECONDS` is no number of seconds; when the block begins.
    """

    def __init__(
        self, what: str, total: int | None = None, unit: str = "", *, bar: bool = True, summary: bool = False
    ) -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self.bar = bar
        self.done = 0
        self.facts: tuple[str, ...] = ()
        self._summary = summary
        self.started = time.monotonic()
        self._doing, self._doing_since = "", self.started
        self._before = 0  # units that were done when the block began
        self._first: tuple[int, float] | None = None  # units and time when the first of them was done
        self._shown = 0  # units that were done at the last line

    def __enter__(self) -> "Progress":
        self.start()
        return self

    def __exit__(self, error: object, *rest: object) -> None:
        shown = self in _display.blocks
        self.stop()
        if shown and self._summary and error is None and self.done and self.seconds >= _display.every:
            say(self.result())

    def start(self) -> None:
        """Begin the block, where no `with` statement can."""
        self.started = self._doing_since = time.monotonic()
        if first_process():
            _display.open(self)

    def stop(self) -> None:
        """End the block, and all within it that are still open; does nothing where it has ended."""
        _display.close(self)

    def begin(self, done: int, total: int | None) -> None:
        """Set how far the work is before it goes on: units that were done earlier say nothing about its speed."""
        self.done, self.total, self._first = done, total, None
        self._before = self._shown = done
        self.started = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count units that are done now."""
        self.reach(self.done + count)

    def reach(self, done: int, total: int | None = None) -> None:
        """Set how many units are done now, and where it is known only now, of how many."""
        if done == self.done and total is None:
            return
        self.done = done
        self.total = self.total if total is None else total
        if self._first is None and done:
            self._first = done, time.monotonic()

    @property
    def doing(self) -> str:
        """What is going on between two units; empty where there is nothing to say."""
        return self._doing

    @doing.setter
    def doing(self, text: str) -> None:
        self._doing, self._doing_since = text, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the block began."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Units a second, from the first on, which may have waited for much else; 0 where none is done."""
        now = time.monotonic()
        if self._first is not None and now - self._first[1] > SOON and self.done > self._first[0]:
            return (self.done - self._first[0]) / (now - self._first[1])
        return (self.done - self._before) / max(now - self.started, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take; None where that cannot be known."""
        if self.total is None or not self.rate:
            return None
        return max(self.total - self.done, 0) / self.rate

    def line(self) -> str:
        """One line with all that is known now."""
        parts = [part for part in (self.counted, *self.facts) if part]
        if self.rate and not any(fact.endswith("/s") for fact in self.facts):
            parts.append(self._rate_text)
        if self.left is not None:
            parts.append(f"{duration(self.left)} left")
        text = f"{self.what}: {', '.join(parts)}" if parts else f"{self.what} ({duration(self.seconds)})"
        if self.doing and self.done == self._shown:
            text += f"; {self.doing} ({duration(time.monotonic() - self._doing_since)})"
        self._shown = self.done
        return text

    def result(self) -> str:
        """One line for the end: `decoding: 400 frames in 45 s, 8.9 frames/s`."""
        done, seconds = self.done - self._before, self.seconds
        rate = f"{number(done / max(seconds, 1e-9))} {self.unit}s/s"
        return f"{self.what}: {_plural(done, self.unit)} in {duration(seconds)}, {rate}"

    @property
    def counted(self) -> str:
        """`frame 120 of 500`, or `120 frames` where it is not known of how many."""
        if self.total is not None:
            return f"{self.unit} {self.done:,} of {self.total:,}"
        return _plural(self.done, self.unit) if self.done else ""

    @property
    def _rate_text(self) -> str:
        return f"{number(self.rate)} {self.unit}s/s"


class _Display:
    """The open blocks of this process, outermost first, and the thread that shows them."""

    def __init__(self) -> None:
        self.blocks: list[Progress] = []
        self.every = EVERY
        self.lock = threading.RLock()  # whoever holds it writes; no process forks meanwhile
        self._changed = threading.Condition(self.lock)
        self._thread: threading.Thread | None = None
        self._bars: Bars | None = None
        self._printed = time.monotonic()
        self._stream: Any = None  # stdout as it was when the outermost block began: others may redirect it meanwhile
        self._terminal = False

    def open(self, block: Progress) -> None:
        """Show a block from now on."""
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

    def close(self, block: Progress) -> None:
        """Show a block no longer, nor what is within it."""
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
        """Print a whole line at once."""
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
        """In a child process after a fork, which has no thread: what the parent shows is not the child's."""
        self.blocks.clear()
        self._bars = None
        self._changed = threading.Condition(self.lock)
        self.lock.release()

    def _watch(self) -> None:
        with self._changed:
            while self.blocks:
                try:
                    pause = self._show_bars() if self._terminal else self._print_line()
                except (OSError, ValueError):  # a full disk, or a reader that has enough: no reason to end the work
                    pause = self.every
                self._changed.wait(pause)

    def _print_line(self) -> float:
        """Print a line where it is time; returns the seconds until then."""
        due = max(self._printed + self.every, self.blocks[0].started + SOON)
        if (pause := due - time.monotonic()) > 0:
            return pause
        self.say(self.blocks[-1].line())
        return self.every

    def _show_bars(self) -> float | None:
        """Bring the bars up to date; returns the seconds until the next time, None where there is nothing to show."""
        shown = [block for block in self.blocks if block.bar]
        if not shown:
            return None
        if not self._bars and shown[0].seconds < SOON:
            return REFRESH
        self._bars = self._bars or Bars(self._stream)
        self._bars.show([(block, block.what, block.done, block.total, *_beside_a_bar(block)) for block in shown])
        return REFRESH


_display = _Display()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_display.lock.acquire, after_in_parent=_display.lock.release, after_in_child=_display.forget
    )


def say(text: str) -> None:
    """Print a line that stands on its own between lines of progress, and above the bars of a terminal."""
    _display.say(text)


def seconds_between_lines() -> float:
    """As `FASTSCNN_PROGRESS_SECONDS` has it; 20 where it is not set.

    Raises:
        RequestError: It is no number above 0.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return EVERY
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise RequestError(f"{VARIABLE}={text} is no number of seconds above 0: set one, or unset it for {EVERY:g}.")
    return seconds


def first_process() -> bool:
    """Whether this is the first process of a distributed run, or the only one."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "0") == "0"


def on_terminal() -> bool:
    """Whether stdout is a terminal that can move its cursor."""
    isatty: Any = getattr(sys.stdout, "isatty", None)
    return isatty is not None and bool(isatty()) and os.environ.get("TERM", "") not in ("dumb", "unknown")


def duration(seconds: float) -> str:
    """`92 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def number(value: float) -> str:
    """With one place after the point, but for hundreds and more, which have none."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _plural(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'s' * (count != 1)}"


def _beside_a_bar(block: Progress) -> tuple[str, str]:
    """What stands after a bar, and the time left."""
    count = f"{block.done:,}/{block.total:,}" if block.total is not None else f"{block.done:,}" if block.done else ""
    facts = block.facts or ((block._rate_text,) if block.rate else ())
    left = "" if block.left is None else f"{duration(block.left)} left"
    return " · ".join(part for part in (count, *facts) if part), left
