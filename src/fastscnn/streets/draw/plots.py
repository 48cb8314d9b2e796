"""What stands on a plot of land beside the street: buildings, gardens, yards, and the walls and fences before them."""

from random import Random

import numpy as np

from fastscnn.streets.draw.buildings import TOWARDS, draw_building, pieces, upright
from fastscnn.streets.draw.canvas import LABEL, Canvas, Point
from fastscnn.streets.draw.color import Color, scaled
from fastscnn.streets.draw.plants import draw_bush, draw_hedge, draw_tree
from fastscnn.streets.draw.street import FAR, Plot

STONE: tuple[Color, ...] = ((166, 158, 146), (142, 138, 132), (186, 178, 164), (152, 96, 78), (128, 122, 118))
WOOD: tuple[Color, ...] = ((120, 84, 56), (148, 112, 74), (92, 72, 56), (226, 224, 216), (70, 96, 80))
IRON: tuple[Color, ...] = ((38, 40, 42), (66, 72, 70), (110, 114, 116), (44, 66, 54))


def draw_plot(canvas: Canvas, plot: Plot, sign: int, boundary: float, rng: Random) -> None:
    """Paint what stands on a plot, from its back to its front."""
    start, end = plot.start, plot.end
    if plot.kind == "building":
        floors, shop = rng.randint(3, 6), rng.random() < 0.55
        draw_building(canvas, sign, boundary, start, end, rng, floors=floors, shop=shop)
    elif plot.kind == "house":
        back, floors = boundary + rng.uniform(4, 8), rng.randint(1, 2)
        draw_building(canvas, sign, back, start + 2, end - 2, rng, floors=floors, shop=False)
        _draw_trees(canvas, plot, sign, (boundary + 1, back), rng, count=rng.randint(1, 2))
        _draw_front(canvas, plot, sign, boundary, rng, rng.choice(("fence", "fence", "wall", "hedge")))
    elif plot.kind == "park":
        _draw_trees(canvas, plot, sign, (boundary + 4, boundary + 16), rng, count=3)
        _draw_trees(canvas, plot, sign, (boundary + 1.5, boundary + 5), rng, count=2)
        _draw_front(canvas, plot, sign, boundary, rng, rng.choice(("fence", "fence", "hedge", "none", "none", "wall")))
    else:
        if rng.random() < 0.4:
            floors = rng.randint(1, 3)
            draw_building(canvas, sign, boundary + 9, start + 2, end - 2, rng, floors=floors, shop=False)
        _draw_trees(canvas, plot, sign, (boundary + 1.5, boundary + 6), rng, count=rng.randint(1, 3))
        _draw_front(canvas, plot, sign, boundary, rng, plot.kind)


def _draw_trees(canvas: Canvas, plot: Plot, sign: int, span: tuple[float, float], rng: Random, *, count: int) -> None:
    places = ((rng.uniform(max(plot.start, 3.5), max(plot.end, 4)), rng.uniform(*span)) for _ in range(count))
    for forward, x in sorted(places, reverse=True):
        if rng.random() < 0.3:
            draw_bush(canvas, sign * x, forward, rng)
        else:
            draw_tree(canvas, sign * x, forward, rng, height=rng.uniform(5, 11))


def _draw_front(canvas: Canvas, plot: Plot, sign: int, x: float, rng: Random, kind: str) -> None:
    """Paint the edge of a plot towards the street."""
    if kind == "wall":
        _draw_wall(canvas, plot, sign * x, rng)
    elif kind == "fence":
        _draw_fence(canvas, plot, sign * x, rng)
    elif kind == "hedge":
        draw_hedge(canvas, sign * x, plot.start, plot.end, rng)


def _draw_wall(canvas: Canvas, plot: Plot, at: float, rng: Random) -> None:
    """Paint a wall: courses of stones with a coping."""
    label, sign = LABEL["wall"], 1.0 if at > 0 else -1.0
    height, color, course = rng.uniform(2.0, 3.4), rng.choice(STONE), rng.choice((0.22, 0.3, 0.45))
    normal, joint = (-sign, 0.0, 0.0), scaled(color, 0.76)
    _draw_band(canvas, plot, at, (0.0, height), color, normal, label)
    rows = np.arange(course, height, course)
    for z0, z1 in pieces(plot.start, plot.end):
        full = np.full(len(rows), z0), np.full(len(rows), z1)
        canvas.faces(upright("street", at, *full, rows - 0.025, rows + 0.025), joint, normal, label)
    stop = min(plot.end, canvas.camera.focal / 26)
    if plot.start < stop:
        u, v = (grid.ravel() for grid in np.meshgrid(np.arange(plot.start, stop, 2.6 * course), rows - course))
        u = u + np.where(np.round(v / course) % 2 > 0, 1.3 * course, 0)
        canvas.faces(upright("street", at, u, u + 0.05, v, v + course), joint, normal, label)
    slant = (-0.6 * sign, 0.8, 0.0)
    _draw_band(canvas, plot, at - 0.06 * sign, (height, height + 0.16), scaled(color, 1.12), slant, label)
    if plot.start > 2:
        outer, z = at + 0.35 * sign, plot.start
        canvas.face([(at, 0, z), (outer, 0, z), (outer, height, z), (at, height, z)], color, TOWARDS, label)


def _draw_fence(canvas: Canvas, plot: Plot, at: float, rng: Random) -> None:
    """Paint planks with dark gaps, or iron bars to see through; the label covers the gaps, as in Cityscapes."""
    label, sign = LABEL["fence"], 1.0 if at > 0 else -1.0
    normal, height, planks = (-sign, 0.0, 0.0), rng.uniform(1.6, 2.6), rng.random() < 0.75
    color = rng.choice(WOOD if planks else IRON)
    if planks:
        _draw_band(canvas, plot, at, (0.08, height), scaled(color, 0.42), normal, label)
    else:
        z0, z1 = plot.start, plot.end
        outline = canvas.camera.project([(at, 0.05, z0), (at, 0.05, z1), (at, height, z1), (at, height, z0)])
        canvas.tint(outline, canvas.light.shade(color, TOWARDS, z0), 0.35, label)
    pitch, width = (0.26, 0.16) if planks else (0.30, 0.10)
    bars = np.arange(plot.start, min(plot.end, canvas.camera.focal / 16), pitch)
    for near, far in ((0.0, 12.0), (12.0, 30.0), (30.0, FAR)):
        u = bars[(bars >= near) & (bars < far)]
        low = np.full(len(u), 0.05)
        canvas.faces(upright("street", at, u, u + width, low, low + height), color, normal, label)
    dim = scaled(color, 0.85)
    for rail in (0.22 * height, 0.84 * height):
        _draw_band(canvas, plot, at, (rail, rail + 0.09), dim, normal, label)
    posts = np.arange(plot.start, plot.end, 2.6)
    foot = np.zeros(len(posts))
    canvas.faces(upright("street", at, posts, posts + 0.16, foot, foot + height + 0.12), dim, normal, label)


def _draw_band(
    canvas: Canvas, plot: Plot, at: float, up: tuple[float, float], color: Color, normal: Point, label: int
) -> None:
    """Paint an upright band along a plot."""
    low, high = up
    for z0, z1 in pieces(plot.start, plot.end):
        canvas.face([(at, low, z0), (at, low, z1), (at, high, z1), (at, high, z0)], color, normal, label)
