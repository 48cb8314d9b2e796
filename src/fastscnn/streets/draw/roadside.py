"""What stands beside the road: plots, trees, poles, signs, parked vehicles, people."""

import math
from functools import partial
from random import Random

from fastscnn.streets.draw.canvas import Canvas
from fastscnn.streets.draw.cars import CARS, draw_car
from fastscnn.streets.draw.cycles import draw_bicycle, draw_motorcycle
from fastscnn.streets.draw.furniture import (
    draw_clutter,
    draw_lamp_post,
    draw_pole,
    draw_sign,
    draw_traffic_light,
)
from fastscnn.streets.draw.people import draw_person
from fastscnn.streets.draw.plants import draw_bush, draw_tree
from fastscnn.streets.draw.plots import draw_plot
from fastscnn.streets.draw.scene_object import Painter, SceneObject, distance, upright, vehicle
from fastscnn.streets.draw.street import Plot, Side

POSTS: tuple[tuple[float, Painter], ...] = (
    (0.5, draw_pole),
    (0.3, draw_pole),
    (0.7, draw_sign),
    (0.5, draw_sign),
    (0.3, draw_sign),
)
"""Chance of each post on a side of the street."""
RACKS: tuple[tuple[float, int, Painter], ...] = (
    (0.5, 5, partial(draw_bicycle, ridden=False)),
    (0.36, 3, partial(draw_motorcycle, ridden=False)),
)
"""Chance and greatest number of the two-wheelers parked on a side of the street."""


def plan_roadside(side: Side, rng: Random) -> list[SceneObject]:
    """Draw what stands on one side of the street."""
    return [
        *(_plot(side, plot, rng) for plot in side.plots if plot.kind != "street"),
        *_trees(side, rng),
        *_posts(side, rng),
        *_clutter(side, rng),
        *_parked_cars(side, rng),
        *_walkers(side, rng),
    ]


def _plot(side: Side, plot: Plot, rng: Random) -> SceneObject:
    seed, sign, boundary = rng.getrandbits(64), side.sign, side.boundary
    near, far = sign * boundary, sign * (boundary + 9)
    height = {"building": 14.0, "wall": 2.2, "park": 0.0}.get(plot.kind, 1.0)
    footprint = [(near, plot.start), (far, plot.start), (far, plot.end), (near, plot.end)] if height else []

    def draw(canvas: Canvas) -> None:
        draw_plot(canvas, plot, sign, boundary, Random(seed))

    return SceneObject(plot.end, draw, footprint, height)


def _trees(side: Side, rng: Random) -> list[SceneObject]:
    """A row of trees on the verge or along the kerb."""
    if rng.random() < 0.55:
        return []
    verge = side.verge
    x = (verge.inner + verge.outer) / 2 if verge else side.sidewalk.inner + 0.6
    step, forward, height = rng.uniform(7, 16), rng.uniform(5, 14), rng.uniform(5, 10)
    objects = []
    while forward < 90:
        if rng.random() < 0.85:
            paint = partial(draw_tree, height=height * rng.uniform(0.85, 1.15))
            objects.append(upright(paint, side.sign * x, forward, 1.2, height, rng))
        elif verge:
            objects.append(upright(draw_bush, side.sign * x, forward, 0.8, 1.0, rng))
        forward += step
    return objects


def _posts(side: Side, rng: Random) -> list[SceneObject]:
    """Street lamps, poles, signs and traffic lights along the kerb."""
    kerb = side.sign * (side.sidewalk.inner + 0.4)
    objects = []
    if rng.random() < 0.75:
        step, forward = rng.uniform(14, 26), rng.uniform(7, 20)
        while forward < 90:
            objects.append(upright(draw_lamp_post, kerb, forward, 0.12, 6.0, rng))
            forward += step
    for chance, draw in POSTS:
        if rng.random() < chance:
            objects.append(upright(draw, kerb + rng.uniform(-0.1, 0.3), distance(rng, 7.5, 40), 0.12, 2.5, rng))
    if rng.random() < 0.65:
        forward = distance(rng, 9, 26)
        for i in range(rng.choice((1, 2, 2))):
            objects.append(upright(draw_traffic_light, kerb, forward + 11 * i, 0.15, 3.5, rng))
    return objects


def _clutter(side: Side, rng: Random) -> list[SceneObject]:
    """Bins, dogs and prams; parked bicycles and motorcycles."""
    inner, outer = side.sidewalk.inner + 0.6, side.sidewalk.outer - 0.4
    objects = []
    for _ in range(rng.randrange(3)):
        x = side.sign * rng.uniform(inner, outer)
        objects.append(upright(draw_clutter, x, distance(rng, 7, 30), 0.4, 1.0, rng))
    for chance, most, draw in RACKS:
        if rng.random() < chance:
            x, forward = side.sign * rng.uniform(inner, outer), distance(rng, 6, 20)
            for _ in range(rng.randint(1, most)):
                objects.append(upright(draw, x, forward, 0.45, 1.0, rng))
                forward += rng.uniform(0.7, 1.6)
    return objects


def _parked_cars(side: Side, rng: Random) -> list[SceneObject]:
    if side.parked is None:
        return []
    objects, forward, density = [], rng.uniform(3.5, 9), rng.uniform(0.5, 0.95)
    while forward < 55:
        body = rng.choice(CARS)
        if rng.random() < density:
            heading = 0.0 if side.sign > 0 or rng.random() < 0.3 else math.pi
            size = (body.length, body.width, body.height)
            objects.append(vehicle(partial(draw_car, body=body), "car", size, side.parked, forward, heading, rng))
        forward += body.length + rng.uniform(0.8, 2.2)
    return objects


def _walkers(side: Side, rng: Random) -> list[SceneObject]:
    """People on the sidewalk, alone and in groups."""
    objects = []
    for _ in range(rng.choice((1, 2, 3, 4, 5))):
        x = side.sign * rng.uniform(side.sidewalk.inner + 0.4, side.sidewalk.outer - 0.3)
        forward = distance(rng, 6, 24)
        for i in range(rng.choice((1, 1, 2, 2, 3))):
            objects.append(upright(draw_person, x + 0.6 * i, forward + rng.uniform(-0.4, 0.4), 0.3, 1.7, rng))
    return objects
