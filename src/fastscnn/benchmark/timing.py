"""Timing of several variants of one computation, side by side."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Variant:
    """A network in one backend, with one output, that can be timed.

    Attributes:
        key: What distinguishes it: model, backend, precision and the like; plain values.
        run: Computes the output once.
        seconds: The time of each measured call.
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
    variants: Sequence[Variant], *, frames: int, warm_up: int, rounds: int, seconds: float = float("inf")
) -> None:
    """Time variants in turn, a few frames each, round after round, so that a slow minute affects all of them.

    Args:
        variants: Their `seconds` are filled.
        frames: Measured frames of each, over all rounds.
        warm_up: Frames of each before the first round, which are not measured. A turn begins with one more, unless one
            frame takes a tenth of `seconds`.
        rounds: Turns of each.
        seconds: A variant whose `frames` would take longer gets as many as fit, but at least one a round if a frame
            takes less than that, and two in any case.
    """
    plans = [_plan(variant, frames, warm_up, rounds, seconds) for variant in variants]
    for number in range(rounds):
        order = range(len(variants)) if number % 2 == 0 else reversed(range(len(variants)))
        for place in order:
            turns, warms = plans[place]
            if warms and turns[number]:
                variants[place].run()
            for _ in range(turns[number]):
                started = time.perf_counter()
                variants[place].run()
                variants[place].seconds.append(time.perf_counter() - started)


def _plan(variant: Variant, frames: int, warm_up: int, rounds: int, seconds: float) -> tuple[list[int], bool]:
    """Warm a variant up; returns its frames in each round, and whether a turn begins with one more."""
    started = time.perf_counter()
    done = 0
    while done == 0 or (done < warm_up and time.perf_counter() - started < seconds):
        variant.run()
        done += 1
    each = (time.perf_counter() - started) / done
    least = rounds if each < seconds else 2
    count = min(frames, max(least, int(min(frames, seconds / each))))
    return [count // rounds + (number < count % rounds) for number in range(rounds)], each < seconds / 10
