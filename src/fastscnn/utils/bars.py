"""Progress bars on a terminal, one below the other; other output is printed above them."""

import sys
from collections.abc import Hashable, Sequence
from typing import Any


class Bars:
    """Bars on a stream that is a terminal; they disappear when they are stopped.

    Output would break them: stdout and stderr are redirected through them, and restored unless somebody else has
    replaced them in the meantime.
    """

    def __init__(self, stream: Any) -> None:
        from rich.console import Console
        from rich.file_proxy import FileProxy
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.console = Console(file=stream, force_terminal=True)
        self._live = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=self.console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._tasks: dict[Hashable, Any] = {}
        self._replaced: dict[str, tuple[Any, Any]] = {}
        self._live.start()
        for name in ("stdout", "stderr"):
            own: Any = getattr(sys, name)
            if own is not None and own.isatty() and not isinstance(own, FileProxy):
                proxy = FileProxy(self.console, own)
                self._replaced[name] = (own, proxy)
                setattr(sys, name, proxy)

    def show(self, bars: Sequence[tuple[Hashable, str, int, int | None, str, str]]) -> None:
        """Display these bars: key, title, units done, total, text after the bar, time left."""
        for key in [key for key in self._tasks if key not in {bar[0] for bar in bars}]:
            self._live.remove_task(self._tasks.pop(key))
        for key, what, done, total, text, left in bars:
            if key not in self._tasks:
                self._tasks[key] = self._live.add_task(what, total=total, text=text, left=left)
            self._live.update(self._tasks[key], description=what, completed=done, total=total, text=text, left=left)
        self._live.refresh()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Remove the bars."""
        for name, (stream, proxy) in self._replaced.items():
            if getattr(sys, name) is proxy:
                setattr(sys, name, stream)
        self._live.stop()
