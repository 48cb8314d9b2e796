"""What the programs on a GPU leave open: the results are the same, and what is quicker differs from GPU to GPU."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

AFTER, EARLY, LATE = 0, 1, 2
"""When a launch may begin, on a GPU and with a Triton that know of it: after the one before it has ended; early, when
all blocks of that one have begun, so that as many launches wait in a row as there is place for; late, when that one has
what it waited for itself, so that one launch waits."""
LARGE = 1 << 21
"""Pixels of all frames together from which launches begin early (results/gpu_sizes.json, on an H200: early 352 us and
after 360 at 1024x2048, and 216 and 193 at 512x1024)."""


class Choice(NamedTuple):
    """One of the ways to compute the same.

    Attributes:
        overlaps: `AFTER`, `EARLY` or `LATE`.
        walks: Whether blocks of a depthwise convolution walk down the rows.
        label_tile: Rows and columns of a label program's tile, and its warps: none of its values leaves the registers.
    """

    overlaps: int = AFTER
    walks: bool = False
    label_tile: tuple[int, int, int] = (8, 64, 4)


_chosen: ContextVar[Choice | None] = ContextVar("choice", default=None)


def usual(pixels: int) -> Choice:
    """For frames of so many pixels together, on a GPU on which nothing was measured.

    Depthwise convolutions are not walked before that was measured anywhere.
    """
    return Choice(EARLY if pixels >= LARGE else AFTER)


def current() -> Choice:
    """What launches are made by."""
    return _chosen.get() or Choice()


@contextlib.contextmanager
def chosen(choice: Choice) -> Iterator[None]:
    """While this is entered, launches are made by this choice."""
    token = _chosen.set(choice)
    try:
        yield
    finally:
        _chosen.reset(token)
