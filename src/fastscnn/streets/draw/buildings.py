"""Buildings of the street scenes."""

import math
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from fastscnn.streets.draw.canvas import LABEL, Canvas, Point
from fastscnn.streets.draw.color import Color, mixed, scaled

PLASTER: tuple[Color, ...] = (
    (214, 198, 170),
    (200, 184, 160),
    (190, 160, 128),
    (222, 214, 200),
    (182, 176, 168),
    (196, 146, 112),
    (168, 88, 70),
    (150, 104, 86),
    (156, 166, 172),
    (206, 176, 116),
    (140, 140, 142),
    (178, 186, 170),
)
ROOF: tuple[Color, ...] = ((128, 66, 52), (96, 60, 52), (74, 76, 82), (92, 90, 88))
AWNING: tuple[Color, ...] = ((160, 40, 38), (40, 88, 64), (38, 64, 112), (200, 160, 60), (120, 84, 60))
PANE: Color = (66, 76, 88)
TOWARDS: Point = (0.0, 0.0, -1.0)

Coordinates = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Facade:
    """A wall with windows, in a plane along the street or across it.

    Attributes:
        plane: "street" (its span is ahead) or "end" (its span is to the right).
        at: Where the plane is: to the right, or ahead.
        span: From where to where it goes.
        base: Height of the ground floor, metres.
        storey: Height of each floor above, metres.
        floors: Number of floors above.
        color: Colour of the wall.
        trim: Colour of frames and ledges.
    """

    plane: str
    at: float
    span: tuple[float, float]
    base: float
    storey: float
    floors: int
    color: Color
    trim: Color

    @property
    def normal(self) -> Point:
        """The direction it faces."""
        if self.plane == "end":
            return TOWARDS
        return (-1.0 if self.at > 0 else 1.0, 0.0, 0.0)

    def paint(self, canvas: Canvas, rects: tuple[Coordinates, ...], color: Color) -> None:
        """Paint upright rectangles of it: from, to, lower and upper edge, each [N]."""
        points = upright(self.plane, self.at, *rects)
        canvas.faces(points, color, self.normal, LABEL["building"])


def draw_building(
    canvas: Canvas, sign: int, x: float, start: float, end: float, rng: Random, *, floors: int, shop: bool
) -> None:
    """Paint a building: the end that faces the camera, the roof, the facade along the street."""
    label = LABEL["building"]
    storey = rng.uniform(2.9, 3.6)
    base = rng.uniform(3.4, 4.4) if shop else rng.uniform(0.6, 1.2)
    height = base + floors * storey + 0.5
    color = scaled(rng.choice(PLASTER), rng.uniform(0.85, 1.1))
    trim = mixed(color, (246, 244, 238), 0.55) if rng.random() < 0.6 else scaled(color, 0.75)
    depth, lift = rng.uniform(8, 12), rng.uniform(0.8, 4.0)
    near, far = sign * x, sign * (x + depth)
    gable: list[Point] = [(near, 0, start), (far, 0, start), (far, height, start), (near, height, start)]
    if lift > 2:
        ridge, top = sign * (x + min(depth / 2, 1.3 * lift)), height + lift
        slope = [(near, height, start), (near, height, end), (ridge, top, end), (ridge, top, start)]
        canvas.face(slope, rng.choice(ROOF), (-0.7 * sign, 0.7, 0.0), label)
        gable.insert(3, (ridge, top, start))
    canvas.face(gable, color, TOWARDS, label)
    if start > 2 and rng.random() < 0.6:
        across = Facade("end", start, (min(near, far), max(near, far)), base, storey, floors, color, trim)
        _draw_windows(canvas, across, start, rng)
    street = Facade("street", near, (start, end), base, storey, floors, color, trim)
    for z0, z1 in pieces(start, end):
        wall = [(near, 0.0, z0), (near, 0.0, z1), (near, height, z1), (near, height, z0)]
        canvas.face(wall, color, street.normal, label)
    _draw_windows(canvas, street, start, rng)
    if shop:
        _draw_shop(canvas, street, sign, rng)
    eaves = near - 0.3 * sign
    low, high = height - 0.35, height + 0.1
    cornice = [(eaves, low, start), (eaves, low, end), (eaves, high, end), (eaves, high, start)]
    canvas.face(cornice, trim, street.normal, label)


def _draw_windows(canvas: Canvas, facade: Facade, nearest: float, rng: Random) -> None:
    """Paint windows with frames, ledges between the floors and, on some, balconies."""
    low, high = facade.span
    pitch, storey = rng.uniform(1.9, 3.4), facade.storey
    columns = max(1, int((high - low - 0.8) / pitch))
    width, tall = pitch * rng.uniform(0.42, 0.68), storey * rng.uniform(0.5, 0.68)
    left = (low + high - columns * pitch) / 2 + (np.arange(columns) + 0.5) * pitch - width / 2
    bottom = facade.base + np.arange(facade.floors) * storey + (storey - tall) * 0.5
    u, v = (grid.ravel() for grid in np.meshgrid(left, bottom))
    pixel = 1 / canvas.pixels_per_metre(nearest)
    if pixel < 0.08:
        facade.paint(canvas, (u - 0.12, u + width + 0.12, v - 0.18, v + tall + 0.12), facade.trim)
    facade.paint(canvas, (u, u + width, v, v + tall), PANE)
    if pixel < 0.1:
        some = np.array([rng.random() < 0.15 for _ in u])
        glow: Color = (200, 178, 120) if max(canvas.light.direct) < 0.3 else (120, 136, 150)
        facade.paint(canvas, (u[some], u[some] + width, v[some], v[some] + tall), glow)
    if pixel < 0.03:
        middle, bar = u + width / 2, v + 0.68 * tall
        facade.paint(canvas, (middle - 0.04, middle + 0.04, v, v + tall), facade.trim)
        facade.paint(canvas, (u, u + width, bar - 0.03, bar + 0.03), facade.trim)
    if facade.plane == "street" and pixel < 0.1:
        ledge = facade.base + np.arange(facade.floors) * storey - 0.1
        edges = np.full(len(ledge), low), np.full(len(ledge), high)
        facade.paint(canvas, (*edges, ledge, ledge + 0.14), scaled(facade.color, 0.82))
        if rng.random() < 0.3:
            u, v = (grid.ravel() for grid in np.meshgrid(left, bottom[1 :: rng.choice((1, 2))]))
            facade.paint(canvas, (u - 0.3, u + width + 0.3, v - 0.3, v + 0.65), (70, 72, 76))


def _draw_shop(canvas: Canvas, facade: Facade, sign: int, rng: Random) -> None:
    """Paint shop windows, the board above them and, on some, awnings."""
    label = LABEL["building"]
    start, end = facade.span
    x, base = facade.at, facade.base
    pitch = rng.uniform(3.0, 4.6)
    count = max(1, int((end - start) / pitch))
    left = (start + end - count * pitch) / 2 + np.arange(count) * pitch
    tone = rng.choice(AWNING)
    low = np.full(count, 0.45)
    facade.paint(canvas, (left + 0.25, left + pitch - 0.25, low, low + base - 1.55), (58, 60, 64))
    some = slice(None, None, rng.choice((1, 2)))
    inner = (left + 0.5, left + pitch - 1.1, low + 0.25, low + base - 1.95)
    facade.paint(canvas, (inner[0][some], inner[1][some], inner[2][some], inner[3][some]), (168, 150, 116))
    board = np.array([base - 0.95])
    facade.paint(canvas, (left[:1], left[-1:] + pitch, board, board + 0.65), tone)
    if rng.random() < 0.5:
        out = x - sign * 1.1
        for z in left[:: rng.choice((1, 2))]:
            z0, z1 = float(z) + 0.15, float(z) + pitch - 0.15
            top, edge = base - 0.7, base - 1.25
            cloth = [(x, top, z0), (x, top, z1), (out, edge, z1), (out, edge, z0)]
            canvas.face(cloth, tone, (-0.3 * sign, 0.9, 0.0), label)
            canvas.face([(x, top, z0), (out, edge, z0), (x, edge, z0)], tone, TOWARDS, label)


def pieces(start: float, end: float) -> list[tuple[float, float]]:
    """Cut a long stretch of the street into pieces, so that its colour can fade with distance."""
    middle = math.sqrt(start * end)
    return [(start, middle), (middle, end)] if end > 2 * start else [(start, end)]


def upright(
    plane: str, at: float, u0: Coordinates, u1: Coordinates, v0: Coordinates, v1: Coordinates
) -> npt.NDArray[np.float64]:
    """Corners of upright rectangles along the street (u is forward) or across it (u is to the right); [N, 4, 3]."""
    quads = np.empty((len(u0), 4, 3))
    u, other = (2, 0) if plane == "street" else (0, 2)
    quads[..., other] = at
    quads[:, 0, u] = quads[:, 3, u] = u0
    quads[:, 1, u] = quads[:, 2, u] = u1
    quads[:, 0, 1] = quads[:, 1, 1] = v0
    quads[:, 2, 1] = quads[:, 3, 1] = v1
    return quads
