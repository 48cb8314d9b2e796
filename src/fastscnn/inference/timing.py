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
        burn_in: Frames of each that are not, before the first round; each turn begins with one more.
        rounds: Turns of each.
        seconds: A contender for which `frames` would take longer than this gets as many as fit, at least one a round.
    """
    turns = {}
    for contender in contenders:
        started = time.perf_counter()
        done = 0
        while done == 0 or (done < burn_in and time.perf_counter() - started < seconds):
            contender.run()
            done += 1
        each = (time.perf_counter() - started) / done
        turns[id(contender)] = max(1, min(-(-frames // rounds), int(seconds / each / rounds)))
    for number in range(rounds):
        ordered = contenders if number % 2 == 0 else contenders[::-1]
        for contender in ordered:
            contender.run()
            for _ in range(turns[id(contender)]):
                started = time.perf_counter()
                contender.run()
                contender.seconds.append(time.perf_counter() - started)
