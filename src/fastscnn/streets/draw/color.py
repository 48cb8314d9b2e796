"""Colours: brighter, darker, mixed and varied."""

from random import Random

Color = tuple[float, float, float]
"""RGB, 0 to 255."""


def scaled(color: Color, factor: float) -> Color:
    """A brighter or darker colour."""
    return (color[0] * factor, color[1] * factor, color[2] * factor)


def mixed(a: Color, b: Color, share: float) -> Color:
    """A colour between two; `share` is that of the second."""
    keep = 1 - share
    return (a[0] * keep + b[0] * share, a[1] * keep + b[1] * share, a[2] * keep + b[2] * share)


def varied(color: Color, rng: Random, amount: float = 0.15) -> Color:
    """A colour near the given one."""
    factor = 1 + rng.uniform(-amount, amount)
    return (
        color[0] * factor + rng.uniform(-10, 10),
        color[1] * factor + rng.uniform(-10, 10),
        color[2] * factor + rng.uniform(-10, 10),
    )
