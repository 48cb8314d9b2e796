"""Progress of a long piece of work: bars on a terminal, and a line at least every 30 seconds everywhere else."""

import time

from fastscnn.utils.progress_display import SOON, display, first_process, say
from fastscnn.utils.text import duration, number, plural

__all__ = ["Progress", "say"]


class Progress:
    """A piece of work that may take long; its progress is displayed until the end of a `with` block.

    On a terminal it is a bar, which disappears at the end. Elsewhere a thread prints a line at least every 30 seconds,
    even if a single step takes longer. Blocks may be nested: each has a bar, and lines are those of the innermost.
    Everything goes to stdout, and only from the first process of a distributed run. Only one thread of a process may
    open and close blocks.

    Args:
        what: The work, such as `decoding` or `validation of epoch 3`.
        total: Number of units; None if it is unknown, or if nothing is counted.
        unit: What is counted, in the singular, such as `frame`.
        bar: Whether to display a bar on a terminal.
        summary: Whether to print at the end how long it took, if it took longer than the time between two lines.

    Attributes:
        done: Number of units that are done.
        doing: What happens between two units, such as `waiting for the first batch`; printed if no unit was done since
            the last line.
        facts: Other values to display, such as `loss 0.312`; one that ends with `/s` replaces the rate.

    Raises:
        RequestError: When the block begins: `FASTSCNN_PROGRESS_SECONDS` is not a number of seconds.
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
        self._printed = 0  # units that were done when the last line was printed

    def __enter__(self) -> "Progress":
        self.start()
        return self

    def __exit__(self, error: object, *rest: object) -> None:
        displayed = self in display.blocks
        self.stop()
        if displayed and self._summary and error is None and self.done and self.seconds >= display.every:
            say(self.result())

    def start(self) -> None:
        """Begin the block, where a `with` statement is impossible."""
        self.started = self._doing_since = time.monotonic()
        if first_process():
            display.open(self)

    def stop(self) -> None:
        """End the block and those inside it; does nothing if it has ended."""
        display.close(self)

    def begin(self, done: int, total: int | None) -> None:
        """Set the units that were done earlier: they do not count for the rate."""
        self.done, self.total, self._first = done, total, None
        self._before = self._printed = done
        self.started = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Add units that are done."""
        self.reach(self.done + count)

    def reach(self, done: int, total: int | None = None) -> None:
        """Set how many units are done and, if it is known only now, the total."""
        if done == self.done and total is None:
            return
        self.done = done
        self.total = self.total if total is None else total
        if self._first is None and done:
            self._first = done, time.monotonic()

    @property
    def doing(self) -> str:
        """What happens between two units; may be empty."""
        return self._doing

    @doing.setter
    def doing(self, text: str) -> None:
        self._doing, self._doing_since = text, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the block began."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Units per second after the first one, which may include a start-up; 0 if none is done."""
        now = time.monotonic()
        if self._first is not None and now - self._first[1] > SOON and self.done > self._first[0]:
            return (self.done - self._first[0]) / (now - self._first[1])
        return (self.done - self._before) / max(now - self.started, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take; None if unknown."""
        if self.total is None or not self.rate:
            return None
        return max(self.total - self.done, 0) / self.rate

    def line(self) -> str:
        """The state of the work in one line."""
        parts = [part for part in (self.counted, *self.facts) if part]
        if self.rate and not any(fact.endswith("/s") for fact in self.facts):
            parts.append(self.rate_text)
        if self.left is not None:
            parts.append(f"{duration(self.left)} left")
        text = f"{self.what}: {', '.join(parts)}" if parts else f"{self.what} ({duration(self.seconds)})"
        if self.doing and self.done == self._printed:
            text += f"; {self.doing} ({duration(time.monotonic() - self._doing_since)})"
        self._printed = self.done
        return text

    def result(self) -> str:
        """One line for the end: `decoding: 400 frames in 45 s, 8.9 frames/s`."""
        done, seconds = self.done - self._before, self.seconds
        rate = f"{number(done / max(seconds, 1e-9))} {self.unit}s/s"
        return f"{self.what}: {plural(done, self.unit)} in {duration(seconds)}, {rate}"

    @property
    def counted(self) -> str:
        """`frame 120 of 500`, or `120 frames` if the total is unknown."""
        if self.total is not None:
            return f"{self.unit} {self.done:,} of {self.total:,}"
        return plural(self.done, self.unit) if self.done else ""

    @property
    def rate_text(self) -> str:
        """The rate with its unit: `8.9 frames/s`."""
        return f"{number(self.rate)} {self.unit}s/s"
