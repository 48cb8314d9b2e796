"""Boxes in space: the vehicles of the street scenes are made of them."""

import math

from fastscnn.streets.draw.billboard import CIRCLE
from fastscnn.streets.draw.canvas import Canvas, Point
from fastscnn.streets.draw.color import Color

DARK: Color = (34, 35, 38)
TYRE: Color = (28, 28, 30)
HUB: Color = (150, 150, 152)
SIDES = ("left", "right")
ENDS = ("back", "front")
FACES: dict[str, tuple[int, int, int, int]] = {
    "top": (4, 5, 6, 7),
    "back": (0, 1, 5, 4),
    "right": (1, 2, 6, 5),
    "front": (2, 3, 7, 6),
    "left": (3, 0, 4, 7),
}
"""Corners of each face, counterclockwise seen from outside; a box has four below and, above them, four on top."""


class Pose:
    """A vehicle in the scene: the middle of its back stands at (right, forward), in metres; it has one label.

    Attributes:
        sin, cos: Of its heading: 0 drives away from the camera, pi towards it.
        sunlight: Share of the sunlight that reaches it.
        close: Whether it is near enough for its small parts to be seen.
    """

    def __init__(self, canvas: Canvas, right: float, forward: float, heading: float, label: int) -> None:
        self.canvas, self.label = canvas, label
        self.right, self.forward = right, forward
        self.sin, self.cos = math.sin(heading), math.cos(heading)
        self.sunlight = canvas.sunlight(right, max(forward - 1, 2))
        self.close = canvas.pixels_per_metre(forward) > 30

    def world(self, along: float, across: float, up: float) -> Point:
        """A point of the vehicle (from its back to its front, to its right, up) in the scene."""
        return (
            self.right + along * self.sin + across * self.cos,
            up,
            self.forward + along * self.cos - across * self.sin,
        )

    def paint(self, points: list[Point], color: Color) -> None:
        """Paint a polygon of the vehicle without shading it; its corners are (along, across, up)."""
        corners = [self.world(*point) for point in points]
        self.canvas.face(corners, color, (0.0, 0.0, -1.0), self.label, self.sunlight)


class Box:
    """A box of a vehicle, narrower at its top by `lean` (back, front, sides)."""

    def __init__(
        self,
        pose: Pose,
        along: tuple[float, float],
        width: float,
        up: tuple[float, float],
        lean: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        back, front, half = along[0], along[1], width / 2
        ring = ((back, -half), (back, half), (front, half), (front, -half))
        top_back, top_front, top_half = back + lean[0], front - lean[1], half - lean[2]
        top_ring = ((top_back, -top_half), (top_back, top_half), (top_front, top_half), (top_front, -top_half))
        corners = [pose.world(a, b, up[0]) for a, b in ring] + [pose.world(a, b, up[1]) for a, b in top_ring]
        seen = pose.canvas.camera.project(corners)
        sin, cos = pose.sin, pose.cos
        self.pose, self.half = pose, half
        self.faces = {
            name: [corners[i] for i in face] for name, face in FACES.items() if _is_turned_here([seen[i] for i in face])
        }
        self.normals: dict[str, Point] = {
            "top": (0.0, 1.0, 0.0),
            "back": (-sin, 0.2, -cos),
            "right": (cos, 0.2, -sin),
            "front": (sin, 0.2, cos),
            "left": (-cos, 0.2, sin),
        }

    def paint(self, color: Color) -> None:
        """Paint every visible face."""
        pose = self.pose
        for name, corners in self.faces.items():
            pose.canvas.face(corners, color, self.normals[name], pose.label, pose.sunlight)

    def panel(self, face: str, across: tuple[float, float], up: tuple[float, float], color: Color) -> None:
        """Paint a part of a face, in shares of its width (seen from outside) and height, if it is visible."""
        corners = self.faces.get(face)
        if corners is None:
            return
        (left, right), (low, high) = across, up
        points = [_between(corners, u, v) for u, v in ((left, low), (right, low), (right, high), (left, high))]
        self.pose.canvas.face(points, color, self.normals[face], self.pose.label, self.pose.sunlight)

    def windows(self, face: str, count: int, up: tuple[float, float], gap: float, color: Color) -> None:
        """Paint a row of windows over the whole width of a face."""
        for i in range(count if face in self.faces else 0):
            self.panel(face, (i / count + gap, (i + 1) / count - gap), up, color)

    def lamps(self, face: str, low: float, high: float) -> None:
        """Paint the two lamps of an end, red at the back."""
        for left in (0.03, 0.80):
            self.panel(face, (left, left + 0.17), (low, high), (204, 38, 36) if face == "back" else (250, 246, 222))

    def tyres(self, low: float, high: float) -> None:
        """Paint the tyres that are visible under an end, and the dark gap between them."""
        for face in ENDS:
            self.panel(face, (0.2, 0.8), (0.4 * low, high), DARK)
            for left in (0.04, 0.80):
                self.panel(face, (left, left + 0.16), (low, high), TYRE)

    def wheels(self, places: tuple[float, ...], radius: float) -> None:
        """Paint the wheels of the visible sides, at distances from the vehicle's back."""
        pose = self.pose
        rings = ((1.0, TYRE), (0.6, HUB), (0.2, DARK)) if pose.close else ((1.0, TYRE), (0.5, HUB))
        circle = CIRCLE if pose.close else CIRCLE[::2]
        for side, across in (("left", -self.half), ("right", self.half)):
            if side in self.faces:
                for along in places:
                    for share, color in rings:
                        reach = share * radius
                        rim = [pose.world(along + reach * c, across, radius + reach * s) for c, s in circle]
                        pose.canvas.face(rim, color, self.normals[side], pose.label, pose.sunlight)


def _is_turned_here(outline: list[tuple[float, float]]) -> bool:
    """Whether a face in canvas pixels, its corners counterclockwise seen from outside, faces the camera."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = outline
    return (x2 - x0) * (y3 - y1) - (y2 - y0) * (x3 - x1) < -0.5


def _between(corners: list[Point], u: float, v: float) -> Point:
    """The point at shares (u, v) of a face."""
    bl, br, tr, tl = corners
    a, b, c, d = (1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v
    return (
        a * bl[0] + b * br[0] + c * tr[0] + d * tl[0],
        a * bl[1] + b * br[1] + c * tr[1] + d * tl[1],
        a * bl[2] + b * br[2] + c * tr[2] + d * tl[2],
    )
