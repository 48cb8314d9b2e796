"""An object that stands or drives on a street: where it is, how it is painted, what shadow it casts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from fastscnn.streets.draw.box import Pose
from fastscnn.streets.draw.canvas import LABEL, Canvas

Painter = Callable[[Canvas, float, float, Random], None]
"""Paints an object at a place on the ground: metres to the right, metres forward."""
VehiclePainter = Callable[[Pose, Random], None]


@dataclass(frozen=True)
class SceneObject:
    """An object of the scene.

    Attributes:
        forward: Its distance, metres; objects are painted from far to near.
        draw: Paints it.
        footprint: Corners of its place on the ground (right, forward), metres; empty where it casts no shadow.
        height: Its height for the shadow, metres.
    """

    forward: float
    draw: Callable[[Canvas], None]
    footprint: list[tuple[float, float]]
    height: float


def upright(paint: Painter, right: float, forward: float, radius: float, height: float, rng: Random) -> SceneObject:
    """An object that faces the camera."""
    seed = rng.getrandbits(64)
    corners = ((-1.0, -0.5), (1.0, -0.5), (1.0, 0.5), (-1.0, 0.5))
    footprint = [(right + radius * u, forward + radius * v) for u, v in corners]
    return SceneObject(forward, lambda canvas: paint(canvas, right, forward, Random(seed)), footprint, height)


def vehicle(
    paint: VehiclePainter,
    label: str,
    size: tuple[float, float, float],
    right: float,
    forward: float,
    heading: float,
    rng: Random,
) -> SceneObject:
    """A vehicle of a size (length, width, height) whose nearest end is at a distance."""
    length, width, height = size
    seed = rng.getrandbits(64)
    sin, cos = math.sin(heading), math.cos(heading)
    back = forward + length if cos < -0.5 else forward
    corners = ((0.0, -width / 2), (0.0, width / 2), (length, width / 2), (length, -width / 2))
    footprint = [(right + a * sin + b * cos, back + a * cos - b * sin) for a, b in corners]

    def draw(canvas: Canvas) -> None:
        paint(Pose(canvas, right, back, heading, LABEL[label]), Random(seed))

    return SceneObject(forward, draw, footprint, height)


def distance(rng: Random, nearest: float, farthest: float) -> float:
    """Draw a distance in metres, evenly on a logarithmic scale: near objects look as frequent as far ones."""
    return math.exp(rng.uniform(math.log(nearest), math.log(farthest)))
