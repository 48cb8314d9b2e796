"""Timing of several ways to the same answer, side by side."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Contender:
    """One way from a frame to an answer.

    Attributes:
        key: What sets it apart: model, runtime, precision and the like; plain values.
        run: Does it once, on a frame that lies ready.
        seconds: What each measured call took.
    """

    key: Mapping[str, Any]
    run: Callable[[], Any]
    seconds: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The key with the median, the spread and the number of the measured calls."""
        ordered = sorted(self.seconds)
        return {
            **self.key,
            "ms": statistics.median(ordered) * 1e3,
            "ms_min": ordered[0] * 1e3,
            "ms_max": ordered[-1] * 1e3,
            "ms_quartiles": [ordered[len(ordered) // 4] * 1e3, ordered[len(ordered) * 3 // 4] * 1e3],
            "fps": 1 / statistics.median(ordered),
            "frames": len(ordered),
        }


def interleave(
    contenders: Sequence[Contender], *, frames: int, burn_in: int, rounds: int, seconds: float = float("inf")
) -> None:
    """Time contenders in turn, a few frames each, round after round, so that a slow minute meets all of them.

    Args:
        contenders: Their `seconds` are filled.
        frames: Frames of each that are measured, over all rounds.
        burn_in: Frames of each that are not, before the first round; a turn begins with one more, unless one alone
            takes a tenth of `seconds`.
        rounds: Turns of each.
        seconds: A contender for which `frames` would take longer than this gets as many as fit, but one a round where
            one takes less than that, and two in any case.
    """
    plans = [_plan(contender, frames, burn_in, rounds, seconds) for contender in contenders]
    for number in range(rounds):
        order = range(len(contenders)) if number % 2 == 0 else reversed(range(len(contenders)))
        for place in order:
            turns, warms = plans[place]
            if warms and turns[number]:
                contenders[place].run()
            for _ in range(turns[number]):
                started = time.perf_counter()
                contenders[place].run()
                contenders[place].seconds.append(time.perf_counter() - started)


def _plan(contender: Contender, frames: int, burn_in: int, rounds: int, seconds: float) -> tuple[list[int], bool]:
    """Burn a contender in; returns its frames in each round, and whether a turn begins with one more."""
    started = time.perf_counter()
    done = 0
    while done == 0 or (done < burn_in and time.perf_counter() - started < seconds):
        contender.run()
        done += 1
    each = (time.perf_counter() - started) / done
    least = rounds if each < seconds else 2
    count = min(frames, max(least, int(min(frames, seconds / each))))
    return [count // rounds + (number < count % rounds) for number in range(rounds)], each < seconds / 10
