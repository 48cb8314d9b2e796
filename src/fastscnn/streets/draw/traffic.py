"""What moves on the road: trams, buses, trucks, cars, riders, people at a crossing."""

import math
from collections.abc import Callable
from functools import partial
from random import Random

from fastscnn.streets.draw.cars import CARS, draw_car
from fastscnn.streets.draw.cycles import draw_bicycle, draw_motorcycle
from fastscnn.streets.draw.large_vehicles import draw_bus, draw_tram, draw_truck
from fastscnn.streets.draw.people import draw_person
from fastscnn.streets.draw.scene_object import Painter, Thing, distance, upright, vehicle
from fastscnn.streets.draw.street import Road

RIDERS: tuple[tuple[float, Painter], ...] = (
    (0.85, partial(draw_bicycle, ridden=True)),
    (0.5, partial(draw_bicycle, ridden=True)),
    (0.85, partial(draw_motorcycle, ridden=True)),
    (0.5, partial(draw_motorcycle, ridden=True)),
)
"""Chance of each rider in a scene."""


class Lane:
    """A lane and what is taken of it."""

    def __init__(self, right: float, oncoming: bool) -> None:
        self.right = right
        self.heading = math.pi if oncoming else 0.0
        self._taken: list[tuple[float, float]] = []

    def take(self, length: float, nearest: float, farthest: float, rng: Random) -> float | None:
        """Find a distance at which a length of the lane is free, and take it; None where there is none."""
        for _ in range(5):
            start = distance(rng, nearest, farthest)
            if all(start > end + 1.5 or start + length < begin - 1.5 for begin, end in self._taken):
                self._taken.append((start, start + length))
                return start
        return None


def plan_traffic(road: Road, rng: Random) -> list[Thing]:
    """Draw what moves on the road: the large vehicles first, then cars where there is room, then the others."""
    lanes = [Lane(right, number < road.oncoming) for number, right in enumerate(road.lanes)]
    return [
        *_large_vehicles(road, lanes, rng),
        *_cars(road, lanes, rng),
        *_riders(road, rng),
        *_crossing_people(road, rng),
    ]


def _large_vehicles(road: Road, lanes: list[Lane], rng: Random) -> list[Thing]:
    things = []
    if road.rails is not None:
        rails = road.rails
        lane = lanes[road.lanes.index(rails)]
        length = rng.uniform(18, 30)
        ahead = lane.take(length, 8, 20, rng)
        if ahead is not None:
            paint = partial(draw_tram, length=length)
            things.append(vehicle(paint, "train", (length, 2.45, 3.3), rails, ahead, lane.heading, rng))
    if rng.random() < 0.42:
        things += _on_some_lane(draw_bus, "bus", rng.uniform(9, 13), 3.1, lanes, rng)
    if rng.random() < 0.48:
        things += _on_some_lane(draw_truck, "truck", rng.uniform(6.5, 10.5), 3.6, lanes, rng)
    return things


def _on_some_lane(
    draw: Callable[..., None], label: str, length: float, height: float, lanes: list[Lane], rng: Random
) -> list[Thing]:
    for lane in rng.sample(lanes, len(lanes)):
        ahead = lane.take(length, 7, 20, rng)
        if ahead is not None:
            paint = partial(draw, length=length)
            return [vehicle(paint, label, (length, 2.5, height), lane.right, ahead, lane.heading, rng)]
    return []


def _cars(road: Road, lanes: list[Lane], rng: Random) -> list[Thing]:
    things = []
    for _ in range(rng.choice((1, 2, 3, 4, 6))):
        lane, body = rng.choice(lanes), rng.choice(CARS)
        ahead = lane.take(body.length, 7, 65, rng)
        if ahead is not None:
            right, heading = lane.right + rng.uniform(-0.3, 0.3), lane.heading + rng.gauss(0, 0.04)
            size = (body.length, body.width, body.height)
            things.append(vehicle(partial(draw_car, body=body), "car", size, right, ahead, heading, rng))
    if rng.random() < 0.2:
        body, sign = rng.choice(CARS), rng.choice((-1, 1))
        right, ahead = rng.uniform(road.left, road.right) - 2 * sign, rng.uniform(28, 50)
        size = (body.length, body.width, body.height)
        things.append(vehicle(partial(draw_car, body=body), "car", size, right, ahead, sign * math.pi / 2, rng))
    return things


def _riders(road: Road, rng: Random) -> list[Thing]:
    left, right = road.left + 0.7, road.right - 0.7
    things = []
    for chance, draw in RIDERS:
        if rng.random() < chance:
            place = rng.choice((left, right, rng.uniform(left, right)))
            things.append(upright(draw, place, distance(rng, 6, 16), 0.45, 1.5, rng))
    return things


def _crossing_people(road: Road, rng: Random) -> list[Thing]:
    if not road.crossing or rng.random() < 0.3:
        return []
    places = ((rng.uniform(road.left, road.right), rng.uniform(0.5, 3)) for _ in range(rng.randint(1, 4)))
    return [upright(draw_person, x, road.crossing + step, 0.3, 1.7, rng) for x, step in places]
