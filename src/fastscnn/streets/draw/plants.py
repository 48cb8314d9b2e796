"""Trees, bushes and hedges of the street scenes."""

from collections.abc import Sequence
from random import Random

from fastscnn.streets.draw.canvas import LABEL, Canvas, Point
from fastscnn.streets.draw.color import Color
from fastscnn.streets.draw.texture import Leaf, crowns

LEAVES: tuple[Color, ...] = (
    (76, 104, 48),
    (62, 92, 46),
    (94, 116, 50),
    (110, 122, 58),
    (54, 82, 52),
    (134, 118, 48),
)
BARK: Color = (84, 68, 54)


def draw_tree(canvas: Canvas, right: float, forward: float, rng: Random, *, height: float) -> None:
    """Paint a tree: trunk and crown."""
    pointed = rng.random() < 0.15
    sprites = crowns()[4:6] if pointed else crowns()[:4]
    scale = canvas.pixels_per_metre(forward)
    ((x, y),) = canvas.camera.project([(right, 0.0, forward)])
    trunk, top = (0.14 + 0.016 * height) * scale, y - 0.6 * height * scale
    bark = canvas.light.shade(BARK, (0.0, 0.2, -0.9), forward)
    outline = [(x - trunk, y), (x - 0.6 * trunk, top), (x + 0.6 * trunk, top), (x + trunk, y)]
    canvas.fill(outline, bark, LABEL["vegetation"])
    clear = height * (0.08 if pointed else rng.uniform(0.22, 0.36))
    half = height * (0.24 if pointed else rng.uniform(0.34, 0.5))
    _draw_leaves(canvas, sprites, (right, forward), half, (clear, height), rng.choice(LEAVES), rng)


def draw_bush(canvas: Canvas, right: float, forward: float, rng: Random) -> None:
    """Paint a bush."""
    half, height = rng.uniform(0.7, 1.6), rng.uniform(0.8, 1.9)
    _draw_leaves(canvas, crowns()[6:], (right, forward), half, (-0.1 * height, height), rng.choice(LEAVES), rng)


def draw_hedge(canvas: Canvas, right: float, start: float, end: float, rng: Random) -> None:
    """Paint a hedge along the street."""
    sign = 1.0 if right > 0 else -1.0
    height, color = rng.uniform(1.0, 2.2), rng.choice(LEAVES)
    low, high = 0.0, 0.85 * height
    wall: list[Point] = [(right, low, start), (right, low, end), (right, high, end), (right, high, start)]
    canvas.face(wall, color, (-0.8 * sign, 0.4, 0.0), LABEL["vegetation"])
    forward = end
    while forward > start:
        place = (right + 0.3 * sign, forward)
        _draw_leaves(canvas, crowns()[6:], place, 0.9 * height, (0.0, 1.15 * height), color, rng)
        forward -= max(1.4, 0.16 * forward)


def _draw_leaves(
    canvas: Canvas,
    sprites: Sequence[Leaf],
    place: tuple[float, float],
    half: float,
    up: tuple[float, float],
    color: Color,
    rng: Random,
) -> None:
    """Paint leaves at a place on the ground (right, forward); sizes in metres."""
    scale = canvas.pixels_per_metre(place[1])
    ((x, y),) = canvas.camera.project([(place[0], 0.0, place[1])])
    reach = half * scale * rng.choice((-1, 1))
    box = (x - reach, y - up[1] * scale, x + reach, y - up[0] * scale)
    tone = canvas.light.shade(color, (0.0, 0.5, -0.6), place[1])
    canvas.foliage(rng.choice(sprites), box, tone, LABEL["vegetation"])
