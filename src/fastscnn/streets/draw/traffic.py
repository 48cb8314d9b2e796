"""What moves on the road: trams, buses, trucks, cars, riders, people at a crossing."""

import math
from collections.abc import Callable
from functools import partial
from random import Random

from fastscnn.streets.draw.cars import CARS, draw_car
from fastscnn.streets.draw.cycles import draw_bicycle, draw_motorcycle
from fastscnn.streets.draw.large_vehicles import draw_bus, draw_tram, draw_truck
from fastscnn.streets.draw.people import draw_person
from fastscnn.streets.draw.scene_object import Painter, SceneObject, distance, upright, vehicle
from fastscnn.streets.draw.street import Road

RIDERS: tuple[tuple[float, Painter], ...] = (
    (0.85, partial(draw_bicycle, ridden=True)),
    (0.5, partial(draw_bicycle, ridden=True)),
    (0.85, partial(draw_motorcycle, ridden=True)),
    (0.5, partial(draw_motorcycle, ridden=True)),
)
"""Chance of each rider in a scene."""


class Lane:
    """A lane, and which parts of it are occupied."""

    def __init__(self, right: float, oncoming: bool) -> None:
        self.right = right
        self.heading = math.pi if oncoming else 0.0
        self._occupied: list[tuple[float, float]] = []

    def occupy(self, length: float, nearest: float, farthest: float, rng: Random) -> float | None:
        """Occupy a free stretch of the lane; returns its distance, or None if five tries found none."""
        for _ in range(5):
            start = distance(rng, nearest, farthest)
            if all(start > end + 1.5 or start + length < begin - 1.5 for begin, end in self._occupied):
                self._occupied.append((start, start + length))
                return start
        return None


def plan_traffic(road: Road, rng: Random) -> list[SceneObject]:
    """Draw what moves on the road: the large vehicles first, then cars where there is room, then the others."""
    lanes = [Lane(right, number < road.oncoming) for number, right in enumerate(road.lanes)]
    return [
        *_large_vehicles(road, lanes, rng),
        *_cars(road, lanes, rng),
        *_riders(road, rng),
        *_crossing_people(road, rng),
    ]


def _large_vehicles(road: Road, lanes: list[Lane], rng: Random) -> list[SceneObject]:
    objects = []
    if road.rails is not None:
        rails = road.rails
        lane = lanes[road.lanes.index(rails)]
        length = rng.uniform(18, 30)
        forward = lane.occupy(length, 8, 20, rng)
        if forward is not None:
            paint = partial(draw_tram, length=length)
            objects.append(vehicle(paint, "train", (length, 2.45, 3.3), rails, forward, lane.heading, rng))
    if rng.random() < 0.42:
        objects += _on_some_lane(draw_bus, "bus", rng.uniform(9, 13), 3.1, lanes, rng)
    if rng.random() < 0.48:
        objects += _on_some_lane(draw_truck, "truck", rng.uniform(6.5, 10.5), 3.6, lanes, rng)
    return objects


def _on_some_lane(
    draw: Callable[..., None], label: str, length: float, height: float, lanes: list[Lane], rng: Random
) -> list[SceneObject]:
    for lane in rng.sample(lanes, len(lanes)):
        forward = lane.occupy(length, 7, 20, rng)
        if forward is not None:
            paint = partial(draw, length=length)
            return [vehicle(paint, label, (length, 2.5, height), lane.right, forward, lane.heading, rng)]
    return []


def _cars(road: Road, lanes: list[Lane], rng: Random) -> list[SceneObject]:
    objects = []
    for _ in range(rng.choice((1, 2, 3, 4, 6))):
        lane, body = rng.choice(lanes), rng.choice(CARS)
        forward = lane.occupy(body.length, 7, 65, rng)
        if forward is not None:
            right, heading = lane.right + rng.uniform(-0.3, 0.3), lane.heading + rng.gauss(0, 0.04)
            size = (body.length, body.width, body.height)
            objects.append(vehicle(partial(draw_car, body=body), "car", size, right, forward, heading, rng))
    if rng.random() < 0.2:
        body, sign = rng.choice(CARS), rng.choice((-1, 1))
        right, forward = rng.uniform(road.left, road.right) - 2 * sign, rng.uniform(28, 50)
        size = (body.length, body.width, body.height)
        objects.append(vehicle(partial(draw_car, body=body), "car", size, right, forward, sign * math.pi / 2, rng))
    return objects


def _riders(road: Road, rng: Random) -> list[SceneObject]:
    left, right = road.left + 0.7, road.right - 0.7
    objects = []
    for chance, draw in RIDERS:
        if rng.random() < chance:
            place = rng.choice((left, right, rng.uniform(left, right)))
            objects.append(upright(draw, place, distance(rng, 6, 16), 0.45, 1.5, rng))
    return objects


def _crossing_people(road: Road, rng: Random) -> list[SceneObject]:
    if not road.crossing or rng.random() < 0.3:
        return []
    places = ((rng.uniform(road.left, road.right), rng.uniform(0.5, 3)) for _ in range(rng.randint(1, 4)))
    return [upright(draw_person, x, road.crossing + step, 0.3, 1.7, rng) for x, step in places]
