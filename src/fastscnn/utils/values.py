"""Checks of a setting's value, for the class that takes it: one sentence with key, value and what is allowed."""

import math
from collections.abc import Sequence
from typing import Any

from fastscnn.utils.errors import RequestError


def check_whole(
    key: str, value: Any, minimum: int = 0, maximum: int | None = None, *, words: Sequence[str | None] = ()
) -> None:
    """Check that a value is a whole number from `minimum` on, or one of some words (None is `null`).

    Raises:
        RequestError: It is not.
    """
    numbers = f"a whole number of {minimum} or more"
    if maximum is not None:
        numbers = f"a whole number from {minimum} to {maximum}"
    whole = isinstance(value, int) and not isinstance(value, bool)
    right = whole and value >= minimum and (maximum is None or value <= maximum)
    if not right and not _is_one_of(value, words):
        raise refused(key, value, " or ".join([*map(_word, words), numbers]))


def check_number(
    key: str,
    value: Any,
    *,
    minimum: float = 0,
    above: float = -math.inf,
    maximum: float = math.inf,
    below: float = math.inf,
    words: Sequence[str | None] = (),
) -> None:
    """Check that a value is a finite number within bounds, or one of some words (None is `null`).

    Args:
        key: The setting.
        value: Its value.
        minimum: The smallest number; 0 is the usual one.
        above: What the number must be above.
        maximum: The largest number.
        below: What the number must be below.
        words: What may stand in the place of a number.


    Raises:
        RequestError: It is not.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    right = number and minimum <= value <= maximum and above < value < below
    if not right and not _is_one_of(value, words):
        lower = f"above {above:g}" if math.isfinite(above) else f"from {minimum:g}"
        if math.isfinite(maximum):
            bounds = f"{lower}, up to {maximum:g}"
        elif math.isfinite(below):
            bounds = f"{lower}, below {below:g}"
        else:
            bounds = lower if math.isfinite(above) else f"of {minimum:g} or more"
        raise refused(key, value, " or ".join([*map(_word, words), f"a number {bounds}"]))


def check_choice(key: str, value: Any, options: Sequence[Any]) -> None:
    """Check that a value is one of some options (None is `null`).

    Raises:
        RequestError: It is not.
    """
    if not _is_one_of(value, options):
        raise refused(key, value, f"one of {', '.join(map(_word, options))}")


def check_switch(key: str, value: Any) -> None:
    """Check that a value is true or false.

    Raises:
        RequestError: It is not.
    """
    check_choice(key, value, (True, False))


def check_size(key: str, value: Any, *, words: Sequence[str] = ()) -> None:
    """Check that a value is a height and a width of 1 or more, or one of some words.

    Raises:
        RequestError: It is not.
    """
    sequence = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    right = sequence and all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in value)
    if not right and not _is_one_of(value, words):
        raise refused(key, value, " or ".join([*words, "two whole numbers of 1 or more, [H,W]"]))


def check_range(key: str, value: Any, *, maximum: float = math.inf) -> None:
    """Check that a value is two numbers above 0, the lower one first.

    Raises:
        RequestError: It is not.
    """
    sequence = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    numbers = sequence and all(isinstance(side, int | float) and not isinstance(side, bool) for side in value)
    if not numbers or not 0 < value[0] <= value[1] <= maximum or math.isinf(value[1]):
        end = f" <= {maximum:g}" if math.isfinite(maximum) else ""
        raise refused(key, value, f"two numbers with 0 < low <= high{end}")


def refused(key: str, value: Any, requirement: str) -> RequestError:
    """The error of a setting whose value is not what it must be."""
    shown = list(value) if isinstance(value, tuple) else value
    return RequestError(f"{key}={_word(shown)} is not allowed.", key=key, fix=f"Set {key} to {requirement}.")


def _is_one_of(value: Any, options: Sequence[Any]) -> bool:
    """Equal and of the same kind: 1 is not true."""
    return any(value == option and isinstance(value, bool) == isinstance(option, bool) for option in options)


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
