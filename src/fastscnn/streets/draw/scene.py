"""One street scene: its objects, painted from far to near."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from fastscnn.streets.draw.canvas import LABEL, SUPERSAMPLING, Camera, Canvas
from fastscnn.streets.draw.ground import draw_ground
from fastscnn.streets.draw.postprocess import develop
from fastscnn.streets.draw.roadside import plan_roadside
from fastscnn.streets.draw.sky import draw_sky, draw_skyline
from fastscnn.streets.draw.street import plan_street
from fastscnn.streets.draw.traffic import plan_traffic
from fastscnn.streets.draw.weather import Weather, plan_weather


@dataclass(frozen=True)
class Scene:
    """A drawn frame.

    Attributes:
        image: RGB, uint8 [H, W, 3].
        label_ids: Cityscapes label ids (not train ids), uint8 [H, W].
    """

    image: npt.NDArray[np.uint8]
    label_ids: npt.NDArray[np.uint8]


def draw_street(entropy: Sequence[int], size: tuple[int, int]) -> Scene:
    """Draw a random street; the same numbers and size give the same pixels.

    Args:
        entropy: Non-negative integers, as numpy's SeedSequence takes them.
        size: Height and width in pixels.
    """
    seed = np.random.SeedSequence(entropy).generate_state(4, np.uint32)
    rng = Random(int.from_bytes(seed.tobytes(), "little"))
    weather = plan_weather(rng)
    canvas = _blank(size, weather, rng)
    road, sides = plan_street(rng)
    draw_sky(canvas, weather, rng)
    draw_skyline(canvas, rng)
    draw_ground(canvas, road, sides, rng)
    objects = [*plan_roadside(sides[0], rng), *plan_roadside(sides[1], rng), *plan_traffic(road, rng)]
    for item in objects:
        if item.footprint:
            canvas.cast(item.footprint, item.height)
    canvas.darken_shadows()
    for item in sorted(objects, key=lambda item: -item.forward):
        item.draw(canvas)
    _draw_own_car(canvas, rng)
    _draw_border(canvas, rng)
    return Scene(*develop(canvas, weather.tone, rng))


def _blank(size: tuple[int, int], weather: Weather, rng: Random) -> Canvas:
    height, width = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
    camera = Camera(
        focal=rng.uniform(1.9, 2.5) * height,
        center=width * rng.uniform(0.38, 0.62),
        horizon=height * rng.uniform(0.36, 0.48),
        height=rng.uniform(1.25, 2.0),
        bend=rng.choice((-1, 1)) * rng.uniform(0.0, 0.006) if rng.random() < 0.6 else 0.0,
    )
    return Canvas(camera, weather.light, np.zeros((height, width, 4), np.uint8))


def _draw_own_car(canvas: Canvas, rng: Random) -> None:
    """Paint the bonnet of the car that carries the camera."""
    if rng.random() < 0.25:
        return
    label, height, width = LABEL["ego vehicle"], canvas.height, canvas.width
    rise, middle = rng.uniform(0.03, 0.10) * height, rng.uniform(0.46, 0.54)
    tone = rng.choice(((34, 36, 40), (88, 92, 98), (160, 164, 168), (36, 52, 86), (70, 26, 28)))
    for share, shade in ((1.0, 0.75), (0.86, 1.0), (0.5, 0.88)):
        top = [
            (
                width * (i / 16),
                height - share * rise * max(0.0, 1 - (1.9 * (i / 16 - middle)) ** 4) + 0.002 * height,
            )
            for i in range(17)
        ]
        color = canvas.light.shade((tone[0] * shade, tone[1] * shade, tone[2] * shade), (0.0, 0.9, -0.3), 1.0)
        canvas.fill([*top, (width, height + 2), (0, height + 2)], color, label)


def _draw_border(canvas: Canvas, rng: Random) -> None:
    """Paint the rim that the rectification of a stereo camera leaves."""
    height, width = canvas.height, canvas.width
    if rng.random() < 0.5:
        rim = rng.uniform(0.004, 0.012) * width
        for left in (0.0, width - rim):
            canvas.fill(
                [(left, 0), (left + rim, 0), (left + rim, height), (left, height)],
                (0, 0, 0),
                LABEL["out of roi"],
            )
        canvas.fill(
            [(0, height - rim), (width, height - rim), (width, height), (0, height)],
            (0, 0, 0),
            LABEL["out of roi"],
        )
    if rng.random() < 0.5:
        slip = rng.uniform(0.006, 0.02) * width * rng.choice((-1, 1))
        corner = 0.0 if slip > 0 else width
        canvas.fill(
            [(corner, 0), (corner + slip, 0), (corner + math.copysign(1, slip), height), (corner, height)],
            (8, 8, 8),
            LABEL["rectification border"],
        )
