"""Bicycles, motorcycles and their riders in the street scenes."""

from itertools import pairwise
from random import Random

from fastscnn.streets.draw.billboard import CIRCLE, Billboard
from fastscnn.streets.draw.canvas import LABEL, Canvas
from fastscnn.streets.draw.color import Color, scaled
from fastscnn.streets.draw.people import CLOTHES, HAIR, SKIN, TROUSERS, draw_head

BRIGHT: tuple[Color, ...] = ((222, 226, 60), (240, 130, 40), (226, 60, 60), (60, 160, 210), (230, 230, 226))
METAL: tuple[Color, ...] = (
    (30, 32, 36),
    (150, 30, 34),
    (36, 72, 140),
    (206, 206, 204),
    (40, 110, 90),
    (214, 148, 40),
    (90, 92, 98),
)
TYRE: Color = (26, 26, 28)


def draw_bicycle(canvas: Canvas, right: float, forward: float, rng: Random, *, ridden: bool) -> None:
    """Paint a bicycle, with its rider or parked."""
    if rng.random() < 0.3:
        _bicycle_end(canvas, right, forward, rng, ridden=ridden)
    else:
        _bicycle_side(canvas, right, forward, rng, ridden=ridden)


def draw_motorcycle(canvas: Canvas, right: float, forward: float, rng: Random, *, ridden: bool) -> None:
    """Paint a motorcycle or scooter, with its rider or parked."""
    if rng.random() < 0.45:
        _motorcycle_end(canvas, right, forward, rng, ridden=ridden)
    else:
        _motorcycle_side(canvas, right, forward, rng, ridden=ridden)


def _bicycle_side(canvas: Canvas, right: float, forward: float, rng: Random, *, ridden: bool) -> None:
    label = LABEL["bicycle"]
    bike = Billboard(canvas, right, forward, mirror=rng.random() < 0.5, squeeze=rng.uniform(0.55, 1.0))
    frame = rng.choice(METAL)
    for hub in (-0.54, 0.54):
        bike.tint((hub, 0.35), 0.34, METAL[3], 0.3, label)
        for (c0, s0), (c1, s1) in pairwise((*CIRCLE[::2], CIRCLE[0])):
            start, end = (hub + 0.33 * c0, 0.35 + 0.33 * s0), (hub + 0.33 * c1, 0.35 + 0.33 * s1)
            bike.limb(start, end, 0.07, TYRE, label)
        for du, dv in ((0.28, 0.0), (0.2, 0.2), (0.0, 0.28), (-0.2, 0.2)):
            bike.limb((hub - du, 0.35 - dv), (hub + du, 0.35 + dv), 0.02, (186, 188, 188), label)
        bike.disc((hub, 0.35), (0.06, 0.06), TYRE, label)
    bars = (
        ((-0.54, 0.35), (-0.08, 0.32)),
        ((-0.54, 0.35), (-0.2, 0.82)),
        ((-0.08, 0.32), (-0.23, 0.95)),
        ((-0.08, 0.32), (0.36, 0.78)),
        ((-0.2, 0.80), (0.36, 0.82)),
        ((0.54, 0.35), (0.34, 1.0)),
    )
    for start, end in bars:
        bike.limb(start, end, 0.07, frame, label)
    bike.limb((-0.36, 0.98), (-0.1, 0.98), 0.09, TYRE, label)
    bike.limb((0.26, 1.02), (0.46, 1.06), 0.07, TYRE, label)
    if rng.random() < 0.3:
        bike.fill([(-0.78, 0.72), (-0.40, 0.72), (-0.42, 0.98), (-0.76, 0.98)], rng.choice(CLOTHES), label)
    if ridden:
        _rider_side(bike, rng, hip=(-0.2, 1.02), hand=(0.38, 1.08), foot=(0.02, 0.26), helmet=rng.random() < 0.6)


def _motorcycle_side(canvas: Canvas, right: float, forward: float, rng: Random, *, ridden: bool) -> None:
    label = LABEL["motorcycle"]
    bike = Billboard(canvas, right, forward, mirror=rng.random() < 0.5, squeeze=rng.uniform(0.6, 1.0))
    body, engine = rng.choice(METAL), (72, 74, 78)
    scooter = rng.random() < 0.35
    radius = 0.27 if scooter else 0.34
    hubs = (-0.66, 0.70)
    for hub in hubs:
        bike.disc((hub, radius), (radius, radius), TYRE, label)
        bike.disc((hub, radius), (0.5 * radius, 0.5 * radius), (140, 140, 142), label)
    if scooter:
        bike.fill(
            [(-0.95, 0.45), (-0.1, 0.32), (0.35, 0.28), (0.48, 0.95), (0.60, 0.95), (0.5, 0.2), (-0.6, 0.2)],
            body,
            label,
        )
        bike.fill([(-0.95, 0.42), (-0.2, 0.30), (-0.12, 0.72), (-0.92, 0.78)], body, label)
    else:
        bike.fill([(-0.35, 0.25), (0.30, 0.25), (0.38, 0.62), (-0.35, 0.62)], engine, label)
        bike.limb((-0.75, 0.34), (0.05, 0.30), 0.12, (176, 176, 178), label)
        bike.fill(
            [
                (-0.85, 0.78),
                (-0.30, 0.62),
                (0.38, 0.55),
                (0.62, 0.80),
                (0.42, 0.98),
                (0.0, 0.96),
                (-0.2, 0.80),
            ],
            body,
            label,
        )
        bike.limb((0.70, radius), (0.50, 0.95), 0.09, (160, 160, 162), label)
    bike.fill([(-0.90, 0.76), (-0.05, 0.74), (-0.05, 0.86), (-0.90, 0.90)], (30, 30, 32), label)
    bike.fill([(0.48, 0.86), (0.66, 0.82), (0.60, 1.22), (0.44, 1.08)], scaled(body, 0.8), label)
    bike.limb((0.36, 1.06), (0.54, 1.06), 0.07, TYRE, label)
    bike.disc((0.66, 0.86), (0.08, 0.09), (246, 240, 200), label)
    bike.disc((-0.92, 0.80), (0.05, 0.06), (200, 36, 36), label)
    if ridden:
        _rider_side(bike, rng, hip=(-0.28, 0.94), hand=(0.44, 1.08), foot=(0.10, 0.36), helmet=True, full_face=True)


def _rider_side(
    bike: Billboard,
    rng: Random,
    *,
    hip: tuple[float, float],
    hand: tuple[float, float],
    foot: tuple[float, float],
    helmet: bool,
    full_face: bool = False,
) -> None:
    label = LABEL["rider"]
    jacket = rng.choice(BRIGHT if rng.random() < 0.75 else CLOTHES)
    trousers, skin = rng.choice(TROUSERS), rng.choice(SKIN)
    shoulder = (hip[0] + rng.uniform(0.22, 0.36), hip[1] + 0.52)
    knee = (foot[0] + 0.22, (hip[1] + foot[1]) / 2 + 0.12)
    bike.limb(hip, knee, 0.20, trousers, label)
    bike.limb(knee, foot, 0.15, trousers, label)
    bike.limb((foot[0] - 0.06, foot[1] - 0.03), (foot[0] + 0.17, foot[1] - 0.03), 0.10, (36, 32, 30), label)
    du, dv = 0.16, 0.05
    bike.fill(
        [
            (hip[0] - du, hip[1] + dv),
            (hip[0] + du, hip[1] - dv),
            (shoulder[0] + du, shoulder[1] - 0.06),
            (shoulder[0] + 0.06, shoulder[1] + 0.08),
            (shoulder[0] - 0.12, shoulder[1] + 0.04),
        ],
        jacket,
        label,
    )
    elbow = ((shoulder[0] + hand[0]) / 2 + 0.02, (shoulder[1] + hand[1]) / 2 - 0.10)
    bike.limb(shoulder, elbow, 0.13, scaled(jacket, 0.8), label)
    bike.limb(elbow, hand, 0.11, scaled(jacket, 0.8), label)
    if rng.random() < 0.25:
        bike.limb(
            (hip[0] - 0.16, hip[1] + 0.18),
            (shoulder[0] - 0.2, shoulder[1] - 0.02),
            0.2,
            rng.choice(CLOTHES),
            label,
        )
    _helmeted(bike, shoulder[0] + 0.08, shoulder[1] + 0.2, rng, skin, helmet=helmet, full_face=full_face)


def _bicycle_end(canvas: Canvas, right: float, forward: float, rng: Random, *, ridden: bool) -> None:
    label = LABEL["bicycle"]
    bike = Billboard(canvas, right, forward)
    bike.disc((0.0, 0.36), (0.07, 0.36), TYRE, label)
    bike.limb((0.0, 0.5), (0.0, 1.0), 0.10, rng.choice(METAL), label)
    bike.limb((-0.32, 1.04), (0.32, 1.04), 0.08, TYRE, label)
    bike.limb((-0.16, 0.30), (0.16, 0.26), 0.07, TYRE, label)
    bike.limb((-0.10, 0.98), (0.10, 0.98), 0.12, (50, 44, 40), label)
    if rng.random() < 0.4:
        bike.fill([(-0.24, 0.55), (0.24, 0.55), (0.22, 0.86), (-0.22, 0.86)], rng.choice(CLOTHES), label)
    bike.disc((0.0, 0.76), (0.05, 0.05), (200, 36, 36), label)
    if ridden:
        _rider_end(bike, rng, seat=0.95, knees=0.16, helmet=rng.random() < 0.6)


def _motorcycle_end(canvas: Canvas, right: float, forward: float, rng: Random, *, ridden: bool) -> None:
    label = LABEL["motorcycle"]
    bike = Billboard(canvas, right, forward)
    body = rng.choice(METAL)
    front = rng.random() < 0.5
    bike.disc((0.0, 0.33), (0.12, 0.33), TYRE, label)
    bike.fill([(-0.22, 0.42), (0.22, 0.42), (0.26, 0.88), (0.14, 1.0), (-0.14, 1.0), (-0.26, 0.88)], body, label)
    bike.limb((-0.42, 1.06), (0.42, 1.06), 0.08, TYRE, label)
    for mirror in (-0.40, 0.40):
        bike.limb((mirror * 0.85, 1.06), (mirror, 1.24), 0.04, TYRE, label)
        bike.disc((mirror, 1.27), (0.09, 0.06), (60, 64, 70), label)
    bike.limb((0.18, 0.36), (0.3, 0.36), 0.14, (170, 170, 172), label)
    if ridden:
        _rider_end(bike, rng, seat=0.86, knees=0.30, helmet=True, full_face=True)
    if front:
        bike.fill([(-0.20, 0.62), (0.20, 0.62), (0.16, 1.24), (-0.16, 1.24)], scaled(body, 0.8), label)
        bike.disc((0.0, 0.92), (0.11, 0.10), (250, 246, 214), label)
    else:
        bike.fill([(-0.15, 0.5), (0.15, 0.5), (0.15, 0.64), (-0.15, 0.64)], (226, 226, 214), label)
        bike.limb((-0.14, 0.80), (0.14, 0.80), 0.09, (204, 36, 36), label)


def _rider_end(
    bike: Billboard, rng: Random, *, seat: float, knees: float, helmet: bool, full_face: bool = False
) -> None:
    label = LABEL["rider"]
    jacket = rng.choice(BRIGHT if rng.random() < 0.75 else CLOTHES)
    trousers, skin = rng.choice(TROUSERS), rng.choice(SKIN)
    for side, foot in ((-1, 0.24), (1, 0.36)):
        bike.limb((side * 0.11, seat + 0.02), (side * knees, seat - 0.34), 0.17, trousers, label)
        bike.limb((side * knees, seat - 0.30), (side * (knees - 0.04), foot), 0.13, trousers, label)
        bike.limb((side * knees, foot - 0.03), (side * (knees - 0.04), foot - 0.03), 0.12, (36, 32, 30), label)
        bike.limb((side * 0.24, seat + 0.50), (side * 0.40, seat + 0.28), 0.13, scaled(jacket, 0.8), label)
        bike.limb((side * 0.40, seat + 0.30), (side * 0.32, seat + 0.12), 0.12, scaled(jacket, 0.8), label)
    bike.fill(
        [
            (-0.19, seat - 0.05),
            (0.19, seat - 0.05),
            (0.26, seat + 0.50),
            (0.12, seat + 0.58),
            (-0.12, seat + 0.58),
            (-0.26, seat + 0.5),
        ],
        jacket,
        label,
    )
    if rng.random() < 0.3:
        bike.fill(
            [(-0.17, seat + 0.1), (0.17, seat + 0.1), (0.16, seat + 0.5), (-0.16, seat + 0.5)],
            rng.choice(CLOTHES),
            label,
        )
    _helmeted(bike, 0.0, seat + 0.72, rng, skin, helmet=helmet, full_face=full_face)


def _helmeted(
    figure: Billboard, u: float, v: float, rng: Random, skin: Color, *, helmet: bool, full_face: bool
) -> None:
    label = LABEL["rider"]
    if not helmet:
        draw_head(figure, u, v, skin, rng.choice(HAIR), label)
        return
    shell = rng.choice(BRIGHT + METAL)
    if full_face:
        figure.disc((u, v), (0.16, 0.17), shell, label)
        figure.fill(
            [(u - 0.04, v - 0.03), (u + 0.15, v - 0.03), (u + 0.14, v + 0.07), (u - 0.02, v + 0.07)],
            TYRE,
            label,
        )
    else:
        figure.disc((u, v - 0.02), (0.105, 0.14), skin, label)
        figure.fill(
            [(u - 0.14, v + 0.02), (u + 0.16, v + 0.02), (u + 0.09, v + 0.16), (u - 0.09, v + 0.16)],
            shell,
            label,
        )
