"""People on foot in the street scenes."""

from random import Random

from fastscnn.streets.draw.billboard import Billboard
from fastscnn.streets.draw.canvas import LABEL, Canvas
from fastscnn.streets.draw.color import Color, scaled

SKIN: tuple[Color, ...] = ((236, 194, 166), (214, 166, 134), (168, 118, 86), (116, 78, 56), (84, 56, 44))
HAIR: tuple[Color, ...] = (
    (34, 26, 22),
    (74, 50, 32),
    (122, 88, 50),
    (178, 146, 92),
    (150, 148, 144),
    (20, 20, 22),
)
CLOTHES: tuple[Color, ...] = (
    (38, 42, 56),
    (58, 66, 92),
    (86, 84, 82),
    (138, 40, 42),
    (186, 64, 50),
    (52, 92, 134),
    (70, 110, 84),
    (196, 178, 140),
    (222, 218, 210),
    (120, 92, 70),
    (162, 112, 140),
    (206, 162, 60),
    (28, 28, 30),
)
TROUSERS: tuple[Color, ...] = (
    (40, 44, 58),
    (56, 68, 98),
    (30, 30, 32),
    (92, 84, 72),
    (128, 118, 100),
    (70, 74, 78),
    (150, 146, 138),
)


def draw_person(canvas: Canvas, right: float, forward: float, rng: Random) -> None:
    """Paint a person on foot."""
    label = LABEL["person"]
    figure = Billboard(canvas, right, forward, mirror=rng.random() < 0.5)
    size = rng.uniform(0.92, 1.1) if rng.random() < 0.88 else rng.uniform(0.6, 0.75)
    figure.scale *= size
    figure.across *= size * rng.uniform(0.95, 1.2)
    coat, trousers = rng.choice(CLOTHES), rng.choice(TROUSERS)
    skin, hair = rng.choice(SKIN), rng.choice(HAIR)
    stride = rng.uniform(-0.24, 0.24)
    swing = -0.6 * stride
    skirt = rng.random() < 0.18
    legs = skin if skirt and rng.random() < 0.6 else trousers
    figure.limb((0.22, 1.38), (0.30 + swing, 0.82), 0.12, scaled(coat, 0.8), label)
    for foot, hip in ((-stride, 0.09), (stride, -0.09)):
        tone = scaled(legs, 0.8) if hip > 0 else legs
        figure.limb((hip, 0.92), (hip + foot, 0.08), 0.17, tone, label)
        figure.limb((hip + foot - 0.07, 0.05), (hip + foot + 0.13, 0.05), 0.10, (36, 32, 30), label)
    if skirt:
        figure.fill([(-0.15, 0.98), (0.15, 0.98), (0.25, 0.48), (-0.25, 0.48)], trousers, label)
    hem = 0.62 if rng.random() < 0.25 else 0.86
    figure.fill(
        [
            (-0.20, hem),
            (0.20, hem),
            (0.19, 1.10),
            (0.25, 1.40),
            (0.10, 1.48),
            (-0.10, 1.48),
            (-0.25, 1.40),
            (-0.19, 1.1),
        ],
        coat,
        label,
    )
    if rng.random() < 0.3:
        figure.fill([(-0.20, 1.0), (0.12, 1.0), (0.12, 1.42), (-0.20, 1.42)], rng.choice(CLOTHES), label)
    figure.limb((-0.22, 1.38), (-0.29 - swing, 0.82), 0.12, coat, label)
    figure.disc((-0.29 - swing, 0.79), (0.06, 0.07), skin, label)
    if rng.random() < 0.25:
        bag = -0.32 - swing
        figure.fill(
            [(bag - 0.14, 0.42), (bag + 0.14, 0.42), (bag + 0.11, 0.76), (bag - 0.11, 0.76)],
            rng.choice(CLOTHES),
            label,
        )
    draw_head(figure, 0.0, 1.62, skin, hair, label)


def draw_head(figure: Billboard, u: float, v: float, skin: Color, hair: Color, label: int) -> None:
    """Paint a head and its neck."""
    figure.limb((u, v - 0.2), (u, v - 0.08), 0.11, skin, label)
    figure.disc((u, v + 0.02), (0.125, 0.15), hair, label)
    figure.disc((u + 0.025, v - 0.02), (0.10, 0.125), skin, label)
