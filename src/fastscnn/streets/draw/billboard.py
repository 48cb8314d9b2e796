"""Flat figures that stand on the ground and face the camera."""

import math
from collections.abc import Iterable

from fastscnn.streets.draw.canvas import Canvas
from fastscnn.streets.draw.color import Color

CIRCLE = [(math.cos(2 * math.pi * i / 20), math.sin(2 * math.pi * i / 20)) for i in range(20)]
"""Corners of a unit circle."""


class Billboard:
    """A flat figure that stands on the ground and faces the camera.

    Its own coordinates are metres: to the right of its foot (`mirror` turns them over, `squeeze` shortens them) and up.
    """

    def __init__(
        self, canvas: Canvas, right: float, forward: float, *, mirror: bool = False, squeeze: float = 1.0
    ) -> None:
        self.canvas = canvas
        self.forward = forward
        self.scale = canvas.pixels_per_metre(forward)
        self.across = self.scale * (-squeeze if mirror else squeeze)
        ((self.x, self.y),) = canvas.camera.project([(right, 0.0, forward)])
        self.sunlight = canvas.sunlight(right, forward)

    def shade(self, color: Color) -> Color:
        """Colour of the figure's surface."""
        return self.canvas.light.shade(color, (0.0, 0.3, -0.95), self.forward, self.sunlight)

    def fill(self, points: Iterable[tuple[float, float]], color: Color, label: int) -> None:
        """Paint a polygon."""
        x, y, across, scale = self.x, self.y, self.across, self.scale
        self.canvas.fill([(x + across * u, y - scale * v) for u, v in points], self.shade(color), label)

    def tint(self, center: tuple[float, float], radius: float, color: Color, share: float, label: int) -> None:
        """Tint a disc and label it; what lies behind it stays visible."""
        u, v = self.x + self.across * center[0], self.y - self.scale * center[1]
        outline = [(u + radius * self.across * c, v + radius * self.scale * s) for c, s in CIRCLE]
        self.canvas.tint(outline, self.shade(color), share, label)

    def limb(
        self, start: tuple[float, float], end: tuple[float, float], width: float, color: Color, label: int
    ) -> None:
        """Paint a bar from one point to another, unless it is too thin to be seen."""
        if width * self.scale < 0.5:
            return
        du, dv = end[0] - start[0], end[1] - start[1]
        length = math.hypot(du, dv) or 1.0
        nu, nv = -dv / length * width / 2, du / length * width / 2
        self.fill(
            [
                (start[0] + nu, start[1] + nv),
                (end[0] + nu, end[1] + nv),
                (end[0] - nu, end[1] - nv),
                (start[0] - nu, start[1] - nv),
            ],
            color,
            label,
        )

    def disc(self, center: tuple[float, float], radius: tuple[float, float], color: Color, label: int) -> None:
        """Paint an ellipse, unless it is too small to be seen."""
        if max(radius) * self.scale < 0.7:
            return
        u, v = center
        self.fill([(u + radius[0] * c, v + radius[1] * s) for c, s in CIRCLE], color, label)
