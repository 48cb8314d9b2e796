"""Something that stands or drives on a street: where it is, how it is painted, what shadow it casts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from fastscnn.streets.draw.box import Pose
from fastscnn.streets.draw.canvas import LABEL, Canvas

Painter = Callable[[Canvas, float, float, Random], None]
"""Paints a thing at a place on the ground: metres to the right, metres ahead."""
VehiclePainter = Callable[[Pose, Random], None]


@dataclass(frozen=True)
class Thing:
    """Something to paint.

    Attributes:
        ahead: Its place in the order of painting, metres: what is farther comes first.
        draw: Paints it.
        footprint: Corners of its place on the ground (right, ahead), metres; empty where it casts no shadow.
        height: Its height for the shadow, metres.
    """

    ahead: float
    draw: Callable[[Canvas], None]
    footprint: list[tuple[float, float]]
    height: float


def upright(paint: Painter, right: float, ahead: float, radius: float, height: float, rng: Random) -> Thing:
    """A thing that faces the camera."""
    seed = rng.getrandbits(64)
    corners = ((-1.0, -0.5), (1.0, -0.5), (1.0, 0.5), (-1.0, 0.5))
    footprint = [(right + radius * u, ahead + radius * v) for u, v in corners]
    return Thing(ahead, lambda canvas: paint(canvas, right, ahead, Random(seed)), footprint, height)


def vehicle(
    paint: VehiclePainter,
    label: str,
    size: tuple[float, float, float],
    right: float,
    ahead: float,
    heading: float,
    rng: Random,
) -> Thing:
    """A vehicle of a size (length, width, height) whose nearest end is at a distance."""
    length, width, height = size
    seed = rng.getrandbits(64)
    sin, cos = math.sin(heading), math.cos(heading)
    back = ahead + length if cos < -0.5 else ahead
    corners = ((0.0, -width / 2), (0.0, width / 2), (length, width / 2), (length, -width / 2))
    footprint = [(right + a * sin + b * cos, back + a * cos - b * sin) for a, b in corners]

    def draw(canvas: Canvas) -> None:
        paint(Pose(canvas, right, back, heading, LABEL[label]), Random(seed))

    return Thing(ahead, draw, footprint, height)


def distance(rng: Random, nearest: float, farthest: float) -> float:
    """A distance in metres; in the picture the near ones are as frequent as the far ones."""
    return math.exp(rng.uniform(math.log(nearest), math.log(farthest)))
