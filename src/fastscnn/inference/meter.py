"""How far a prediction is: a bar in a terminal, a line now and then elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SAY_EVERY = 10.0
"""Seconds between two lines where there is no terminal for a bar."""


class Meter:
    """A bar with frames a second and time left; a line now and then where the output is no terminal.

    Args:
        total: How many there are; None where that is not known.
        what: What they are, such as `images`.
    """

    def __init__(self, total: int | None, what: str) -> None:
        console = Console(stderr=True)
        self.total, self.what = total, what
        self.done, self.started, self.said = 0, time.perf_counter(), time.perf_counter()
        self.quiet = not console.is_terminal
        self.bar = Progress(
            TextColumn(what, markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} a second, left"),
            TimeRemainingColumn(),
            console=console,
            disable=self.quiet or total == 0,
            transient=True,
        )
        self.task = self.bar.add_task(what, total=total, rate="-")

    def __enter__(self) -> "Meter":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
        if self.done and error[0] is None:
            print(f"{self.done} {self.what}, {self._rate()} a second.")

    def advance(self) -> None:
        """One more is done."""
        self.done += 1
        self.bar.update(self.task, completed=self.done, rate=self._rate())
        if self.quiet and time.perf_counter() - self.said > SAY_EVERY:
            self.said = time.perf_counter()
            of = f" of {self.total}" if self.total else ""
            print(f"{self.done}{of} {self.what}, {self._rate()} a second", file=sys.stderr)

    def _rate(self) -> str:
        return f"{self.done / max(time.perf_counter() - self.started, 1e-9):.1f}"
