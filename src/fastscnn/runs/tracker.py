"""A wrapper of a Lightning logger that keeps its failures from stopping or slowing the run."""

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from fastscnn.runs.counted import Counted
from fastscnn.utils.errors import RequestError

Call = Callable[[Logger], Any]

OPEN_SECONDS = 10.0
"""How long a run waits for its tracker to open; after that, it continues and the tracker may open later."""
ANSWER_SECONDS = 5.0
"""How long the end of a run waits for a tracker that does not answer."""
CLOSE_SECONDS = 10.0
"""How long the end of a run waits for a tracker that answers, and sends what is left."""
STUCK_SECONDS = 60.0
"""A call that takes longer is given up: the run does not wait for it, but the calls after it accumulate."""


class Tracker(Counted):
    """A Lightning logger whose calls are carried out one after the other by a thread of its own.

    The run hands them over and never waits. At the first error, or where the logger does not answer, it is dropped for
    the rest of the run, and one sentence says so; `close` says what was not sent. A logger that was dropped for the
    error of a call stays open until the run ends, so that it learns how the run ended, not how the call did.

    Args:
        title: What people call it, such as `W&B`.
        kind: The logger's class: what it can do besides logging metrics, such as `log_image`, can be called here too.
        open: Gives the logger within a block, which is left in the way the run ends. Called in the thread.
        abandon: Frees whatever the logger holds where a call of it hangs, or its own end fails.
        advice: What a person can do about what was not sent.
        ping: A call that is answered at once by a logger that works.
    """

    def __init__(
        self,
        title: str,
        kind: type[Logger],
        open: Callable[[], AbstractContextManager[Logger]],
        *,
        abandon: Callable[[], None] = lambda: None,
        advice: Callable[[], str] = lambda: "metrics.csv holds it all.",
        ping: Call | None = None,
    ) -> None:
        super().__init__()
        self.title = title
        self.kind = kind
        self.step: int | None = None
        """The last step whose metrics arrived."""
        self.reason: str | None = None
        """Why it was dropped, if it was."""
        self._block = open
        self._abandon = abandon
        self._advice = advice
        self._ping = ping
        self._logger: Logger | None = None
        self._refused: RequestError | None = None
        self._calls: queue.SimpleQueue[tuple[Call, int | None] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._all_done = False
        self._made = 0
        self._busy_since: float | None = time.monotonic()
        self._lock = threading.Lock()
        self._abandoned = False
        self._opened, self._answered = threading.Event(), threading.Event()
        self._ended, self._done = threading.Event(), threading.Event()

    def open(self) -> None:
        """Open the logger; where that takes longer than `OPEN_SECONDS`, it goes on in the background.

        Raises:
            RequestError: The logger's settings are wrong.
        """
        threading.Thread(target=self._work, daemon=True, name=f"tracker-{self.title}").start()
        if self._opened.wait(OPEN_SECONDS):
            if self._refused:
                raise self._refused
        else:
            text = f"{self.title}: not ready after {OPEN_SECONDS:g} seconds: the run goes on, and it follows."
            print(text, file=sys.stderr)

    def close(self, error: BaseException | None = None, seconds: float | None = None) -> None:
        """Send what is left, close the logger, and say what was not sent. Never raises.

        Args:
            error: What ended the run, if it failed.
            seconds: How long to wait for a logger that answers, at most; `CLOSE_SECONDS` if not given.
        """
        seconds = CLOSE_SECONDS if seconds is None else seconds
        if self._refused:
            return
        self._error = error
        self._ended.set()
        if self.reason is None:
            if self._ping:
                self._calls.put((self._ping, None))
            self._calls.put((self._answer, None))
            self._calls.put(None)
            deadline = time.monotonic() + ANSWER_SECONDS + seconds
            patience = ANSWER_SECONDS if self._opened.is_set() else seconds
            if not self._answers(patience, deadline):
                self._drop(f"no answer for {patience:g} seconds", say=False)
                self._free()
            elif not self._done.wait(min(seconds, max(0.0, deadline - time.monotonic()))):
                self._drop(f"not done after {seconds:g} seconds", say=False)
                self._free()
        elif not self._done.wait(seconds):
            self._free()
        if self.reason is not None:
            after = "what was logged" if self.step is None else f"what was logged after step {self.step}"
            what = "the last of what was logged" if self._all_done else after
            print(f"{self.title}: {what} did not arrive ({self.reason}). {self._advice()}", file=sys.stderr)

    @contextmanager
    def running(self, seconds: float | None = None) -> Iterator["Tracker"]:
        """Open it, and close it as this block ends; see `open` and `close`."""
        try:
            self.open()
            yield self
        except BaseException as error:
            self.close(error, seconds)
            raise
        self.close(None, seconds)

    @property
    def name(self) -> str:
        """Its title."""
        return self.title

    @property
    def version(self) -> str:
        """Empty: a run's folder identifies it, not the logger's version."""
        return ""

    @property
    def experiment(self) -> Any:
        """The experiment of the wrapped logger; None while the logger is not open."""
        return getattr(self._logger, "experiment", None)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Pass metrics on to the logger."""
        copied, step = self.counted(metrics, step)
        self._hand_over(lambda logger: logger.log_metrics(copied, step), step)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Pass hyperparameters on to the logger."""
        self._hand_over(lambda logger: logger.log_hyperparams(*args, **kwargs))

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Pass a checkpoint callback on to the logger."""
        self._hand_over(lambda logger: logger.after_save_checkpoint(checkpoint_callback))

    @rank_zero_only
    def save(self) -> None:
        """Let the logger save."""
        self._hand_over(lambda logger: logger.save())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Let the logger end a stage of the run."""
        self._hand_over(lambda logger: logger.finalize(status))

    def __getattr__(self, name: str) -> Any:
        """Any other method of the logger, such as `log_image`; the call is passed on and returns nothing."""
        if name.startswith("_") or not callable(getattr(self.__dict__.get("kind"), name, None)):
            raise AttributeError(f"{type(self).__name__} has no {name}")

        def call(*args: Any, **kwargs: Any) -> None:
            self._hand_over(lambda logger: getattr(logger, name)(*args, **kwargs))

        return call

    def report(self, call: Call, step: int | None = None) -> None:
        """Let a function do with the logger what its class has a way of its own for; see `reporting`."""
        self._hand_over(call, step)

    def _answers(self, patience: float, deadline: float) -> bool:
        """Whether what is left is done: it may take until the deadline, as long as one call after the other is."""
        made = -1
        while made != self._made and time.monotonic() < deadline:
            made = self._made
            if self._answered.wait(min(patience, max(0.0, deadline - time.monotonic()))):
                return True
        return False

    def _answer(self, logger: Logger) -> None:
        self._all_done = True
        self._answered.set()

    def _hand_over(self, call: Call, step: int | None = None) -> None:
        since = self._busy_since
        if self.reason is None and since is not None and time.monotonic() - since > STUCK_SECONDS:
            self._drop(f"no answer for {STUCK_SECONDS:g} seconds")
            self._free()
        if self.reason is not None:
            return
        self._calls.put((call, step))

    def _work(self) -> None:
        """The thread's work: open the logger, make the calls, close the logger as the run ends."""
        try:
            with self._block() as logger:
                self._logger = logger
                self._busy_since = None
                self._opened.set()
                self._make_calls(logger)
                self._answered.set()
                self._ended.wait()
                self._busy_since = time.monotonic()
                if self._error is not None:
                    raise _Ended from self._error
        except _Ended:
            pass
        except RequestError as error:
            self._refused = error
            self._drop(str(error), say=self._opened.is_set())
            self._free()
        except BaseException as error:
            self._drop(_sentence(error), say=not self._all_done)
            self._free()
        finally:
            self._busy_since = None
            self._opened.set()
            self._answered.set()
            self._done.set()

    def _make_calls(self, logger: Logger) -> None:
        """Make the calls until there are no more, or one fails."""
        while (item := self._calls.get()) is not None:
            call, step = item
            self._busy_since = time.monotonic()
            try:
                call(logger)
            except BaseException as error:
                self._drop(_sentence(error))
                return
            finally:
                self._busy_since = None
            self.step = self.step if step is None else step
            self._made += 1

    def _drop(self, reason: str, *, say: bool = True) -> None:
        """Make no more calls."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
        self._calls.put(None)  # in case its thread ever returns
        if say:
            print(f"{self.title}: {reason}: the run goes on without it.", file=sys.stderr)

    def _free(self) -> None:
        """Free what it holds, once."""
        with self._lock:
            if self._abandoned:
                return
            self._abandoned = True
        freeing = threading.Thread(target=self._abandon_quietly, daemon=True, name=f"tracker-{self.title}-abandoned")
        freeing.start()
        freeing.join(ANSWER_SECONDS)

    def _abandon_quietly(self) -> None:
        with contextlib.suppress(BaseException):
            self._abandon()


def _sentence(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Ended(Exception):
    """Ends the logger's block with the failure of the run."""
