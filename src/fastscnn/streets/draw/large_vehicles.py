"""Trucks, buses and trams of the street scenes."""

from random import Random

from fastscnn.streets.draw.box import DARK, ENDS, HUB, SIDES, Box, Pose
from fastscnn.streets.draw.cars import GLASS, PAINT
from fastscnn.streets.draw.color import Color, mixed, scaled, varied

LIVERY: tuple[Color, ...] = (
    (206, 40, 36),
    (224, 178, 36),
    (232, 232, 228),
    (38, 98, 170),
    (46, 132, 88),
    (224, 120, 40),
    (118, 40, 96),
)
BUS_LIVERY: tuple[Color, ...] = (*LIVERY[:2] * 4, *LIVERY)
TRAM_LIVERY: tuple[Color, ...] = (*LIVERY[3:5] * 4, *LIVERY)
"""Most buses are red or yellow and most trams blue or green; a few have the colour of another kind."""
TARPAULIN: tuple[Color, ...] = (
    (228, 228, 222),
    (196, 198, 196),
    (44, 84, 146),
    (170, 40, 40),
    (60, 110, 76),
    (214, 186, 90),
    (120, 124, 128),
)
DISPLAY: Color = (22, 20, 20)
LETTERS: Color = (255, 178, 40)


def draw_truck(pose: Pose, rng: Random, length: float) -> None:
    """Paint a truck: a cab and a cargo box of another colour."""
    cab_color, cargo_color = varied(rng.choice(PAINT), rng), varied(rng.choice(TARPAULIN), rng)
    stripe = varied(rng.choice(LIVERY), rng) if rng.random() < 0.5 else None
    cab_start = length - 2.0
    chassis = Box(pose, (0.0, length - 0.3), 2.3, (0.45, 1.0))
    chassis.tyres(-0.8, 0.1)
    chassis.paint(DARK)
    chassis.wheels((1.0, 2.1, length - 1.3), 0.5)
    chassis.lamps("back", 0.35, 0.7)
    cargo = Box(pose, (0.0, cab_start - 0.35), 2.5, (1.0, rng.uniform(3.2, 4.0)))
    cab = Box(pose, (cab_start, length), 2.4, (0.5, rng.uniform(2.6, 3.1)), (0.0, 0.35, 0.06))
    if pose.cos < 0:
        _draw_cargo(cargo, cargo_color, stripe)
        _draw_cab(cab, cab_color)
    else:
        _draw_cab(cab, cab_color)
        _draw_cargo(cargo, cargo_color, stripe)


def _draw_cargo(cargo: Box, color: Color, stripe: Color | None) -> None:
    rib = scaled(color, 0.8)
    cargo.paint(color)
    for side in SIDES:
        if cargo.pose.close:
            for i in range(1, 9):
                cargo.panel(side, (i / 9 - 0.006, i / 9 + 0.006), (0.0, 1.0), rib)
        if stripe:
            cargo.panel(side, (0.12, 0.88), (0.45, 0.7), stripe)
        cargo.panel(side, (0.0, 1.0), (0.0, 0.05), DARK)
    for left in (0.03, 0.51):
        cargo.panel("back", (left, left + 0.46), (0.03, 0.97), scaled(color, 0.9))
        cargo.panel("back", (left + 0.21, left + 0.235), (0.03, 0.97), HUB)


def _draw_cab(cab: Box, color: Color) -> None:
    cab.paint(color)
    cab.panel("front", (0.07, 0.93), (0.48, 0.86), GLASS)
    cab.panel("front", (0.07, 0.93), (0.70, 0.86), mixed(GLASS, cab.pose.canvas.light.haze, 0.3))
    cab.panel("front", (0.12, 0.88), (0.16, 0.38), DARK)
    cab.panel("right", (0.3, 0.8), (0.5, 0.85), GLASS)
    cab.panel("left", (0.2, 0.7), (0.5, 0.85), GLASS)
    cab.lamps("front", 0.02, 0.13)


def draw_bus(pose: Pose, rng: Random, length: float) -> None:
    """Paint a city bus: a long box with a band of windows, doors and a lit destination."""
    color = varied(rng.choice(BUS_LIVERY), rng)
    trim = varied(rng.choice((*LIVERY[2:4], DARK)), rng)
    glass = varied(GLASS, rng, 0.4)
    body = Box(pose, (0.0, length), 2.55, (0.32, rng.uniform(2.95, 3.25)), (0.05, 0.12, 0.06))
    body.tyres(-0.1, 0.02)
    body.paint(color)
    for side in SIDES:
        body.panel(side, (0.0, 1.0), (0.0, 0.18), trim)
        body.panel(side, (0.015, 0.985), (0.44, 0.86), DARK)
        body.windows(side, max(4, round(length / 1.6)), (0.47, 0.83), 0.008, glass)
    for left in (0.07, 0.52):
        body.panel("right", (left, left + 0.11), (0.04, 0.84), scaled(GLASS, 0.75))
        body.panel("right", (left + 0.052, left + 0.058), (0.04, 0.84), color)
    body.wheels((0.24 * length, 0.8 * length), 0.48)
    body.panel("front", (0.05, 0.95), (0.30, 0.82), glass)
    body.panel("front", (0.05, 0.95), (0.62, 0.82), mixed(glass, pose.canvas.light.haze, 0.3))
    body.panel("front", (0.15, 0.85), (0.85, 0.96), DISPLAY)
    body.panel("front", (0.22, 0.70), (0.88, 0.93), LETTERS)
    body.panel("back", (0.10, 0.90), (0.52, 0.84), glass)
    body.panel("back", (0.12, 0.88), (0.14, 0.42), scaled(color, 0.7))
    body.panel("back", (0.32, 0.68), (0.86, 0.96), DISPLAY)
    body.panel("back", (0.38, 0.58), (0.88, 0.94), LETTERS)
    for face in ENDS:
        body.panel(face, (0.0, 1.0), (0.0, 0.07), DARK)
        body.lamps(face, 0.10, 0.28 if face == "back" else 0.19)


def draw_tram(pose: Pose, rng: Random, length: float) -> None:
    """Paint a tram (Cityscapes: train): joined sections, leaning ends, a dark band of windows, a pantograph."""
    color = varied(rng.choice(TRAM_LIVERY), rng)
    base = rng.choice(((232, 232, 228), (208, 212, 214), color))
    sections = max(2, round(length / 8))
    section, last = length / sections, sections - 1
    for i in range(sections) if pose.cos < 0 else range(last, -1, -1):
        start, end = i * section, (i + 1) * section
        if i > 0:
            Box(pose, (start - 0.2, start + 0.2), 2.1, (0.4, 3.1)).paint(DARK)
            start += 0.25
        lean = (0.9 if i == 0 else 0.0, 0.9 if i == last else 0.0, 0.12)
        box = Box(pose, (start, end), 2.45, (0.18, 3.3), lean)
        box.paint(base)
        for side in SIDES:
            box.panel(side, (0.0, 1.0), (0.0, 0.10), DARK)
            box.panel(side, (0.0, 1.0), (0.12, 0.36), color)
            box.panel(side, (0.02, 0.98), (0.44, 0.82), scaled(GLASS, 0.62))
            box.windows(side, 5, (0.48, 0.78), 0.03, GLASS)
            box.panel(side, (0.42, 0.58), (0.08, 0.80), scaled(color, 0.75))
        if i == 0:
            _draw_tram_end(box, "back", color)
        if i == last:
            _draw_tram_end(box, "front", color)
    middle = length / 2
    for along in (middle - 0.7, middle + 0.7):
        pose.paint([(along, 0.0, 3.3), (along, 0.1, 3.3), (middle, 0.1, 4.3), (middle, 0.0, 4.3)], DARK)
    pose.paint([(middle, -0.7, 4.28), (middle, 0.7, 4.28), (middle, 0.7, 4.42), (middle, -0.7, 4.42)], DARK)


def _draw_tram_end(box: Box, face: str, color: Color) -> None:
    box.panel(face, (0.0, 1.0), (0.0, 0.36), color)
    box.panel(face, (0.08, 0.92), (0.38, 0.86), scaled(GLASS, 0.7))
    box.panel(face, (0.08, 0.92), (0.66, 0.86), mixed(GLASS, box.pose.canvas.light.haze, 0.25))
    box.panel(face, (0.2, 0.8), (0.88, 0.97), DISPLAY)
    box.panel(face, (0.4, 0.6), (0.90, 0.95), LETTERS)
    box.lamps(face, 0.22, 0.30)
    box.panel(face, (0.3, 0.7), (0.02, 0.12), DARK)
