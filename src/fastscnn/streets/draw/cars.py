"""Cars of the street scenes."""

from dataclasses import dataclass
from random import Random

from fastscnn.streets.draw.box import DARK, ENDS, SIDES, Box, Pose
from fastscnn.streets.draw.color import Color, mixed, scaled, varied

GLASS: Color = (52, 62, 74)
PAINT: tuple[Color, ...] = (
    (225, 226, 228),
    (205, 207, 210),
    (150, 154, 160),
    (98, 102, 110),
    (40, 42, 48),
    (24, 25, 30),
    (150, 26, 30),
    (190, 44, 36),
    (28, 58, 128),
    (52, 104, 168),
    (36, 82, 62),
    (196, 168, 60),
    (118, 84, 58),
    (188, 178, 156),
)


@dataclass(frozen=True)
class Body:
    """Proportions of a car, metres.

    Attributes:
        length: From bumper to bumper.
        width: Without mirrors.
        height: Of the roof.
        belt: Height of the lower edge of the windows.
        cabin: Start and end of the cabin as a share of the length, from the back.
        slopes: How far the rear window and the windscreen lean, metres.
    """

    length: float
    width: float
    height: float
    belt: float
    cabin: tuple[float, float]
    slopes: tuple[float, float]


CARS: tuple[Body, ...] = (
    Body(4.5, 1.80, 1.45, 0.92, (0.08, 0.72), (0.75, 0.85)),
    Body(4.1, 1.75, 1.50, 0.95, (0.00, 0.74), (0.35, 0.80)),
    Body(4.7, 1.82, 1.50, 0.95, (0.00, 0.72), (0.40, 0.85)),
    Body(4.6, 1.90, 1.72, 1.08, (0.00, 0.74), (0.30, 0.65)),
    Body(3.6, 1.65, 1.50, 0.95, (0.00, 0.80), (0.25, 0.75)),
    Body(5.0, 1.95, 2.05, 1.15, (0.00, 0.84), (0.10, 0.65)),
)


def draw_car(pose: Pose, rng: Random, body: Body) -> None:
    """Paint a car."""
    color = varied(rng.choice(PAINT), rng)
    bumper = DARK if rng.random() < 0.5 else scaled(color, 0.7)
    glass = varied(GLASS, rng, 0.35)
    length, width, belt = body.length, body.width, body.belt
    lower = Box(pose, (0.0, length), width, (0.20, belt), (0.06, 0.14, 0.05))
    lower.tyres(-0.26, 0.1)
    lower.paint(color)
    for side in SIDES:
        lower.panel(side, (0.0, 1.0), (0.0, 0.14), DARK)
        if pose.close:
            lower.panel(side, (0.0, 1.0), (0.84, 0.90), mixed(color, (255, 255, 255), 0.18))
            for share in (0.36, 0.58):
                lower.panel(side, (share - 0.004, share + 0.004), (0.14, 1.0), scaled(color, 0.6))
    lower.wheels((0.19 * length, 0.81 * length), 0.33)
    for face in ENDS:
        lower.panel(face, (0.0, 1.0), (0.0, 0.28), bumper)
        lower.lamps(face, 0.56, 0.82)
        lower.panel(face, (0.36, 0.64), (0.30, 0.46), (226, 226, 214))
    lower.panel("front", (0.27, 0.73), (0.54, 0.76), DARK)
    start, end = body.cabin[0] * length, body.cabin[1] * length
    if pose.close:
        _draw_mirrors(pose, body, end - 0.75, scaled(color, 0.75))
    cabin = Box(pose, (start, end), width - 0.08, (belt, body.height), (*body.slopes, 0.18))
    cabin.paint(color)
    for side in SIDES:
        cabin.windows(side, 2 if length < 4.3 else 3, (0.10, 0.84), 0.025, glass)
    shine = mixed(glass, pose.canvas.light.haze, 0.3)
    for face, edge, up in (("back", 0.08, (0.10, 0.88)), ("front", 0.05, (0.04, 0.92))):
        cabin.panel(face, (edge, 1 - edge), up, glass)
        if pose.close:
            cabin.panel(face, (edge, 1 - edge), (0.62, up[1]), shine)


def _draw_mirrors(pose: Pose, body: Body, along: float, color: Color) -> None:
    inner, outer = 0.48 * body.width, 0.5 * body.width + 0.17
    low, high = body.belt + 0.02, body.belt + 0.19
    for side in (-1.0, 1.0):
        corners = ((inner, low), (outer, low), (outer, high), (inner, high))
        pose.paint([(along, side * across, up) for across, up in corners], color)
