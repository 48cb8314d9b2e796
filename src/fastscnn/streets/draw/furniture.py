"""Poles, traffic lights, traffic signs and the clutter of the street scenes."""

import math
from random import Random

from fastscnn.streets.draw.billboard import Billboard
from fastscnn.streets.draw.canvas import LABEL, Canvas
from fastscnn.streets.draw.color import Color, scaled

STEEL: tuple[Color, ...] = ((112, 116, 118), (146, 148, 148), (72, 78, 76), (58, 62, 62), (168, 166, 160))
CLUTTER: tuple[Color, ...] = (
    (70, 84, 72),
    (92, 92, 96),
    (146, 110, 70),
    (58, 70, 96),
    (180, 150, 60),
    (120, 60, 52),
)
RED, WHITE, BLUE, YELLOW, BLACK = (196, 34, 38), (236, 236, 232), (30, 84, 160), (232, 190, 40), (28, 28, 30)
LAMPS: tuple[tuple[float, Color, Color], ...] = (
    (0.32, (255, 60, 44), (74, 26, 24)),
    (0.0, (255, 190, 40), (78, 62, 24)),
    (-0.32, (70, 240, 130), (20, 66, 40)),
)


def draw_lamp_post(canvas: Canvas, right: float, forward: float, rng: Random) -> None:
    """Paint a street lamp with an arm over the road."""
    label = LABEL["pole"]
    post = Billboard(canvas, right, forward, mirror=right > 0)
    color, height, width = rng.choice(STEEL), rng.uniform(5.5, 9.0), rng.uniform(0.17, 0.28)
    post.limb((0.0, 0.0), (0.0, height), width, color, label)
    post.limb((0.0, 0.0), (0.0, 0.9), 1.6 * width, color, label)
    arm = rng.uniform(0.8, 2.2)
    post.limb((0.0, height - 0.1), (arm, height + 0.2), 0.7 * width, color, label)
    post.fill(
        [
            (arm - 0.2, height + 0.1),
            (arm + 0.6, height + 0.15),
            (arm + 0.6, height + 0.3),
            (arm - 0.2, height + 0.32),
        ],
        color,
        label,
    )


def draw_pole(canvas: Canvas, right: float, forward: float, rng: Random) -> None:
    """Paint a bare pole or a row of bollards."""
    label, color = LABEL["pole"], rng.choice(STEEL)
    if rng.random() < 0.35:
        for step in range(3):
            post = Billboard(canvas, right, forward + 1.6 * (2 - step))
            post.limb((0.0, 0.0), (0.0, 1.0), 0.2, color, label)
            post.limb((0.0, 0.78), (0.0, 0.9), 0.2, WHITE if sum(color) < 300 else RED, label)
    else:
        post = Billboard(canvas, right, forward)
        post.limb((0.0, 0.0), (0.0, rng.uniform(5, 10)), rng.uniform(0.2, 0.32), color, label)


def draw_traffic_light(canvas: Canvas, right: float, forward: float, rng: Random) -> None:
    """Paint a pole with traffic lights at eye height, and often more on an arm over the road."""
    post = Billboard(canvas, right, forward, mirror=right > 0)
    color, phase = rng.choice(STEEL), rng.randrange(3)
    height = rng.uniform(3.4, 4.2)
    arm = rng.uniform(2.5, 5.0) if rng.random() < 0.5 else 0.0
    top = max(height, 5.9) if arm else height
    post.limb((0.0, 0.0), (0.0, top), 0.2, color, LABEL["pole"])
    if arm:
        post.limb((0.0, top - 0.15), (arm, top - 0.1), 0.16, color, LABEL["pole"])
        _light_head(post, arm, top - 0.35, phase, rng)
        if arm > 3.6:
            _light_head(post, arm / 2, top - 0.35, phase, rng)
    _light_head(post, 0.0, height - 0.75, phase, rng)


def _light_head(post: Billboard, u: float, v: float, phase: int, rng: Random) -> None:
    label = LABEL["traffic light"]
    housing: Color = rng.choice(((34, 36, 38), (34, 36, 38), (48, 60, 50), (196, 160, 40)))
    half, tall = 0.27, 0.58
    if rng.random() < 0.4:
        post.fill([(u - 0.4, v - 0.75), (u + 0.4, v - 0.75), (u + 0.4, v + 0.75), (u - 0.4, v + 0.75)], WHITE, label)
        post.fill(
            [(u - 0.36, v - 0.71), (u + 0.36, v - 0.71), (u + 0.36, v + 0.71), (u - 0.36, v + 0.71)],
            BLACK,
            label,
        )
    post.fill(
        [(u - half, v - tall), (u + half, v - tall), (u + half, v + tall), (u - half, v + tall)],
        housing,
        label,
    )
    for i, (up, on, off) in enumerate(LAMPS):
        bright = i == phase
        if bright:
            _glow(post, (u, v + up), 0.17, on, label)
        else:
            post.disc((u, v + up), (0.14, 0.14), off, label)


def _glow(post: Billboard, center: tuple[float, float], radius: float, color: Color, label: int) -> None:
    """Paint a lamp that is on: its colour does not depend on the light of the scene."""
    x, y = post.x + post.across * center[0], post.y - post.scale * center[1]
    radius *= post.scale
    turn = [(x + radius * math.cos(t / 6 * math.pi), y + radius * math.sin(t / 6 * math.pi)) for t in range(12)]
    post.canvas.fill(turn, color, label)


def draw_sign(canvas: Canvas, right: float, forward: float, rng: Random) -> None:
    """Paint a pole with one or two traffic signs."""
    post = Billboard(canvas, right, forward)
    height = rng.uniform(2.5, 3.1)
    if rng.random() < 0.2:
        _board(post, rng)
        return
    post.limb((0.0, 0.0), (0.0, height + 0.35), 0.13, rng.choice(STEEL), LABEL["pole"])
    _plate(post, height, rng)
    if rng.random() < 0.45:
        _plate(post, height - 0.9, rng)


def _plate(post: Billboard, v: float, rng: Random) -> None:
    label = LABEL["traffic sign"]
    r = rng.uniform(0.38, 0.52)
    kind = rng.randrange(7)
    if kind == 0:
        post.disc((0, v), (r, r), RED, label)
        post.disc((0, v), (0.72 * r, 0.72 * r), WHITE, label)
        post.limb((-0.2 * r, v - 0.35 * r), (-0.2 * r, v + 0.35 * r), 0.22 * r, BLACK, label)
        post.disc((0.25 * r, v), (0.2 * r, 0.36 * r), BLACK, label)
    elif kind == 1:
        post.disc((0, v), (r, r), RED, label)
        post.limb((-0.7 * r, v), (0.7 * r, v), 0.34 * r, WHITE, label)
    elif kind == 2:
        post.disc((0, v), (r, r), RED, label)
        post.disc((0, v), (0.78 * r, 0.78 * r), BLUE, label)
        post.limb((-0.6 * r, v + 0.6 * r), (0.6 * r, v - 0.6 * r), 0.2 * r, RED, label)
    elif kind == 3:
        up = rng.choice((1, -1))
        for share, color in ((1.15, RED), (0.75, WHITE)):
            post.fill(
                [
                    (-share * r, v - 0.6 * up * share * r),
                    (share * r, v - 0.6 * up * share * r),
                    (0, v + 1.1 * up * share * r),
                ],
                color,
                label,
            )
        post.limb((0, v - 0.25 * r), (0, v + 0.3 * r), 0.2 * r, BLACK, label)
    elif kind == 4:
        post.fill([(-r, v - r), (r, v - r), (r, v + r), (-r, v + r)], BLUE, label)
        post.fill(
            [
                (-0.45 * r, v - 0.6 * r),
                (-0.15 * r, v - 0.6 * r),
                (-0.15 * r, v + 0.6 * r),
                (-0.45 * r, v + 0.6 * r),
            ],
            WHITE,
            label,
        )
        post.disc((0.05 * r, v + 0.28 * r), (0.4 * r, 0.34 * r), WHITE, label)
    elif kind == 5:
        for share, color in ((1.15, WHITE), (0.85, YELLOW)):
            post.fill([(-share * r, v), (0, v - share * r), (share * r, v), (0, v + share * r)], color, label)
    else:
        cut = 0.42 * r
        post.fill(
            [
                (-r, v - cut),
                (-cut, v - r),
                (cut, v - r),
                (r, v - cut),
                (r, v + cut),
                (cut, v + r),
                (-cut, v + r),
                (-r, v + cut),
            ],
            RED,
            label,
        )
        post.limb((-0.7 * r, v), (0.7 * r, v), 0.36 * r, WHITE, label)


def _board(post: Billboard, rng: Random) -> None:
    """Paint a direction board on two posts."""
    label = LABEL["traffic sign"]
    half, low, high = rng.uniform(0.9, 1.5), 2.3, rng.uniform(3.4, 4.0)
    for u in (-0.7 * half, 0.7 * half):
        post.limb((u, 0.0), (u, high), 0.13, STEEL[1], LABEL["pole"])
    ground, ink = rng.choice(((BLUE, WHITE), (YELLOW, BLACK), (WHITE, BLACK), ((36, 112, 70), WHITE)))
    post.fill([(-half, low), (half, low), (half, high), (-half, high)], ink, label)
    edge = 0.05
    post.fill(
        [
            (-half + edge, low + edge),
            (half - edge, low + edge),
            (half - edge, high - edge),
            (-half + edge, high - edge),
        ],
        ground,
        label,
    )
    for i in range(3):
        v = low + (i + 0.6) * (high - low) / 3.3
        post.limb((-0.8 * half, v), (rng.uniform(0.0, 0.5) * half, v), 0.13, ink, label)
        post.limb((0.62 * half, v), (0.82 * half, v), 0.13, ink, label)


def draw_clutter(canvas: Canvas, right: float, forward: float, rng: Random) -> None:
    """Paint an object that belongs to no class: a bin, a cabinet, a pram, a dog, an advertising column."""
    item, color = Billboard(canvas, right, forward, mirror=rng.random() < 0.5), rng.choice(CLUTTER)
    kind = rng.randrange(5)
    dark = scaled(color, 0.7)
    if kind == 0:
        label = LABEL["static"]
        item.fill([(-0.26, 0.0), (0.26, 0.0), (0.32, 1.0), (-0.32, 1.0)], color, label)
        item.fill([(-0.36, 1.0), (0.36, 1.0), (0.28, 1.16), (-0.28, 1.16)], dark, label)
    elif kind == 1:
        label = LABEL["static"]
        item.fill([(-0.5, 0.0), (0.5, 0.0), (0.5, 1.5), (-0.5, 1.5)], color, label)
        item.fill([(-0.42, 0.5), (0.42, 0.5), (0.42, 1.4), (-0.42, 1.4)], dark, label)
    elif kind == 2:
        label = LABEL["dynamic"]
        item.fill([(-0.4, 0.5), (0.3, 0.4), (0.4, 0.85), (-0.1, 1.0), (-0.42, 0.9)], color, label)
        item.limb((0.35, 0.6), (0.62, 1.0), 0.07, BLACK, label)
        for u in (-0.3, 0.28):
            item.limb((u, 0.5), (u, 0.15), 0.06, BLACK, label)
            item.disc((u, 0.15), (0.15, 0.15), BLACK, label)
    elif kind == 3:
        label = LABEL["unlabeled"]
        item.fill([(-0.55, 0.0), (0.55, 0.0), (0.55, 2.5), (-0.55, 2.5)], dark, label)
        for left, low in ((-0.5, 0.5), (0.02, 0.7), (-0.45, 1.6), (0.08, 1.7)):
            poster = [(left, low), (left + 0.42, low), (left + 0.42, low + 0.8), (left, low + 0.8)]
            item.fill(poster, rng.choice((RED, WHITE, BLUE, YELLOW)), label)
        item.fill([(-0.66, 2.5), (0.66, 2.5), (0.5, 2.75), (0.0, 2.95), (-0.5, 2.75)], color, label)
    else:
        label = LABEL["dynamic"]
        for u in (-0.3, -0.2, 0.2, 0.3):
            item.limb((u, 0.0), (u, 0.4), 0.09, dark, label)
        item.fill([(-0.38, 0.32), (0.32, 0.32), (0.36, 0.6), (-0.38, 0.62)], color, label)
        item.disc((0.46, 0.7), (0.17, 0.14), color, label)
        item.limb((-0.36, 0.58), (-0.56, 0.78), 0.07, color, label)
