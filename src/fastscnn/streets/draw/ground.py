"""The ground of the street scenes: road, markings, sidewalks, verges."""

import math
from itertools import pairwise
from random import Random

import numpy as np
import numpy.typing as npt

from fastscnn.streets.draw.billboard import CIRCLE
from fastscnn.streets.draw.canvas import LABEL, NEAREST, Canvas, Point
from fastscnn.streets.draw.color import Color, mixed, scaled
from fastscnn.streets.draw.street import FAR, Road, Side

UP: Point = (0.0, 1.0, 0.0)
ASPHALT: tuple[Color, ...] = ((96, 97, 100), (112, 111, 110), (84, 86, 92), (124, 120, 114))
PAVING: tuple[Color, ...] = ((160, 154, 146), (142, 140, 140), (176, 164, 148), (150, 132, 122))
GRASS: tuple[Color, ...] = ((104, 122, 62), (88, 116, 56), (132, 130, 76), (138, 116, 80))
WHITE: Color = (222, 220, 212)
YELLOW: Color = (216, 176, 60)
STEEL: Color = (170, 168, 164)
GROOVE: Color = (56, 54, 54)


def draw_ground(canvas: Canvas, road: Road, sides: tuple[Side, Side], rng: Random) -> None:
    """Paint the road, its markings, the bands beside it and the ground of the plots."""
    asphalt, paving, grass = rng.choice(ASPHALT), rng.choice(PAVING), rng.choice(GRASS)
    tones = {"road": asphalt, "sidewalk": paving, "terrain": grass, "parking": mixed(asphalt, paving, 0.35)}
    horizon, width, height = canvas.camera.row(FAR), canvas.width, canvas.height
    everywhere = [(0, horizon), (width, horizon), (width, height), (0, height)]
    canvas.fill(everywhere, canvas.light.shade(grass, UP, 60), LABEL["terrain"])
    for side in sides:
        sign, outside = side.sign, side.sign * 60
        for plot in side.plots:
            under = {"building": "sidewalk", "street": "road"}.get(plot.kind, "terrain")
            _draw_strip(canvas, sign * side.boundary, outside, plot.start, plot.end, tones[under], under)
        for band in side.bands:
            inner, outer = sign * band.inner, sign * band.outer
            _draw_strip(canvas, inner, outer, NEAREST, FAR, tones[band.label], band.label)
        _draw_stones(canvas, side, paving)
        for plot in side.plots:
            if plot.kind == "street":
                inner = sign * side.bands[0].inner
                _draw_strip(canvas, inner, outside, plot.start + 0.8, plot.end - 0.8, asphalt, "road")
    _draw_strip(canvas, road.left, road.right, NEAREST, FAR, asphalt, "road")
    _draw_patches(canvas, road, asphalt, rng)
    if rng.random() < 0.9:
        _draw_lines(canvas, road, rng)
    if road.rails is not None:
        _draw_rails(canvas, road.rails)
    if road.crossing:
        _draw_crossing(canvas, road)


def _draw_stones(canvas: Canvas, side: Side, paving: Color) -> None:
    """The kerb and the joints between the slabs of the sidewalk."""
    walk = side.sidewalk
    joints = np.arange(2.0, 28.0, 1.0)
    joint = mixed(paving, (40, 40, 40), 0.35)
    _draw_quads(canvas, side.sign * walk.inner, side.sign * walk.outer, joints, joints + 0.05, joint, "sidewalk")
    kerb = side.sign * next(band.inner for band in side.bands if band.label != "parking")
    stone = mixed(paving, (235, 235, 230), 0.45)
    _draw_strip(canvas, kerb, kerb + side.sign * 0.16, NEAREST, 70, stone, "sidewalk")


def _draw_patches(canvas: Canvas, road: Road, asphalt: Color, rng: Random) -> None:
    """Repairs of the road and a manhole cover."""
    for _ in range(rng.randrange(5)):
        x, z = rng.uniform(road.left, road.right - 1), rng.uniform(3, 30)
        end = min(x + rng.uniform(0.8, 2.5), road.right)
        _draw_strip(canvas, x, end, z, z + rng.uniform(1, 6), scaled(asphalt, rng.uniform(0.82, 1.1)), "road")
    if rng.random() < 0.6:
        x, z = rng.uniform(road.left + 0.6, road.right - 0.6), rng.uniform(6, 18)
        canvas.face([(x + 0.4 * c, 0.0, z + 0.4 * s) for c, s in CIRCLE], (66, 62, 60), UP, LABEL["road"])


def _draw_lines(canvas: Canvas, road: Road, rng: Random) -> None:
    tint = WHITE if rng.random() < 0.85 else YELLOW
    dashes = np.arange(-6.0, 90.0, rng.choice((6.0, 9.0, 12.0))) + rng.uniform(0, 6)
    dashes = dashes[dashes > 1.5]
    for number, x in enumerate(road.lines, 1):
        if number == road.oncoming and rng.random() < 0.4:
            _draw_strip(canvas, x - 0.08, x + 0.08, 1.5, 90, tint, "road")
        else:
            _draw_quads(canvas, x - 0.07, x + 0.07, dashes, dashes + 3, tint, "road")
    if rng.random() < 0.5:
        for x in (road.left + 0.3, road.right - 0.3):
            _draw_strip(canvas, x - 0.06, x + 0.06, 1.5, 90, WHITE, "road")


def _draw_rails(canvas: Canvas, middle: float) -> None:
    for offset, tone in ((-0.9, STEEL), (-0.75, GROOVE), (0.68, GROOVE), (0.83, STEEL)):
        _draw_strip(canvas, middle + offset, middle + offset + 0.07, 1.5, 100, tone, "road")


def _draw_crossing(canvas: Canvas, road: Road) -> None:
    z = road.crossing
    for x in np.arange(road.left + 0.4, road.right - 0.5, 1.0):
        _draw_strip(canvas, float(x), float(x) + 0.5, z, z + 3.5, WHITE, "road")
    _draw_strip(canvas, (road.left + road.right) / 2, road.right - 0.2, z - 1.6, z - 1.2, WHITE, "road")


def _draw_strip(canvas: Canvas, x0: float, x1: float, start: float, end: float, color: Color, label: str) -> None:
    """Paint the ground between two lines along the road and two distances, metres."""
    count = max(1, round(2 * math.log(end / start)))
    cuts = [start * (end / start) ** (i / count) for i in range(count + 1)]
    for near, far in pairwise(cuts):
        middle = math.sqrt(near * far)
        edges = [(x0, near), (x0, middle), (x0, far), (x1, far), (x1, middle), (x1, near)]
        outline = canvas.camera.project([(x, 0.0, z) for x, z in edges])
        canvas.fill(outline, canvas.light.shade(color, UP, middle), LABEL[label])


def _draw_quads(
    canvas: Canvas,
    x0: float,
    x1: float,
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    color: Color,
    label: str,
) -> None:
    """Paint many pieces of one strip at once."""
    quads = np.zeros((len(start), 4, 3))
    quads[:, :2, 0], quads[:, 2:, 0] = x0, x1
    quads[:, 0, 2] = quads[:, 3, 2] = start
    quads[:, 1, 2] = quads[:, 2, 2] = end
    for near, far in ((0.0, 15.0), (15.0, 40.0), (40.0, FAR)):
        canvas.faces(quads[(start >= near) & (start < far)], color, UP, LABEL[label])
