"""The canvas of a street scene: camera, light, and painting of colour and label together."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from cityscapesscripts.helpers.labels import labels

from fastscnn.streets.draw.color import Color
from fastscnn.streets.draw.texture import Leaf

SUPERSAMPLING = 2
NEAREST = 1.0
"""Metres: points that are nearer are moved to this distance before they are projected."""

Point = tuple[float, float, float]
"""Metres: to the right of the camera, above the ground, forward."""
Outline = Sequence[tuple[float, float]] | npt.NDArray[Any]
"""Corners in canvas pixels, x and y; or several such, [N, corners, 2]."""

LABEL: dict[str, int] = {label.name: label.id for label in labels}

_SUBPIXEL_BITS = 4
_SHADES = np.arange(256)[:, None] / 128


@dataclass(frozen=True)
class Camera:
    """A camera over flat ground that looks forward along a road that may bend.

    Attributes:
        focal: Focal length, canvas pixels.
        center: Column of the vanishing point, canvas pixels.
        horizon: Row of the horizon, canvas pixels.
        height: Height over the ground, metres.
        bend: Curvature of the road, 1/metres; positive to the right.
    """

    focal: float
    center: float
    horizon: float
    height: float
    bend: float

    def project(self, points: Iterable[Point]) -> list[tuple[float, float]]:
        """Map points to canvas pixels."""
        focal, center, horizon, height = self.focal, self.center, self.horizon, self.height
        sway = self.bend / 2
        outline = []
        for right, up, forward in points:
            forward = max(forward, NEAREST)
            scale = focal / forward
            outline.append((center + scale * right + focal * sway * forward, horizon + scale * (height - up)))
        return outline

    def project_all(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Map many points to canvas pixels; [..., 3] to [..., 2]."""
        forward = np.maximum(points[..., 2], NEAREST)
        scale = self.focal / forward
        outline = np.empty((*points.shape[:-1], 2))
        outline[..., 0] = self.center + scale * points[..., 0] + self.focal * self.bend / 2 * forward
        outline[..., 1] = self.horizon + scale * (self.height - points[..., 1])
        return outline

    def row(self, forward: float) -> float:
        """Row of the ground at a distance."""
        return self.horizon + self.focal * self.height / forward


@dataclass(frozen=True)
class Light:
    """Sun, sky and haze of a scene.

    Attributes:
        sun: Unit vector towards the sun (right, up, forward).
        direct: Colour of sunlight, 1 for full.
        ambient: Colour of the light from the sky.
        haze: Colour that distance fades to, RGB.
        visibility: Distance at which 63% of a colour is lost to haze, metres.
        shadow: Share of the light that a cast shadow leaves.
    """

    sun: Point
    direct: Color
    ambient: Color
    haze: Color
    visibility: float
    shadow: float

    def shade(self, color: Color, normal: Point, forward: float, sunlight: float = 1.0) -> Color:
        """Colour of a surface as the camera sees it; `sunlight` is the share of it that reaches it."""
        sun = self.sun
        facing = 0.5 + 0.5 * (normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2])
        facing *= sunlight
        clear = math.exp(-forward / self.visibility)
        fog = 1 - clear
        direct, ambient, haze = self.direct, self.ambient, self.haze
        return (
            color[0] * (ambient[0] + direct[0] * facing) * clear + haze[0] * fog,
            color[1] * (ambient[1] + direct[1] * facing) * clear + haze[1] * fog,
            color[2] * (ambient[2] + direct[2] * facing) * clear + haze[2] * fog,
        )


@dataclass
class Canvas:
    """RGB and label id of each pixel in one array, so that every stroke paints both.

    Attributes:
        camera: Projects the points of the scene.
        light: Shades their colours.
        pixels: R, G, B, label id; uint8 [SUPERSAMPLING * H, SUPERSAMPLING * W, 4].
        shadow: 255 where the ground lies in shadow; uint8, the size of `pixels`.
    """

    camera: Camera
    light: Light
    pixels: npt.NDArray[np.uint8]
    shadow: npt.NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.shadow = np.zeros(self.pixels.shape[:2], np.uint8)

    @property
    def height(self) -> int:
        """Rows of the canvas."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of the canvas."""
        return int(self.pixels.shape[1])

    def pixels_per_metre(self, forward: float) -> float:
        """Canvas pixels per metre at a distance: what is smaller than a pixel need not be painted."""
        return self.camera.focal / max(forward, NEAREST)

    def fill(self, outline: Outline, color: Color, label: int) -> None:
        """Paint the inside of an outline, or of each of several."""
        cv2.fillPoly(self.pixels, _fixed(outline), (*color, label), cv2.LINE_8, _SUBPIXEL_BITS)

    def face(self, points: Sequence[Point], color: Color, normal: Point, label: int, sunlight: float = 1.0) -> None:
        """Paint a flat polygon of the scene, shaded by its direction and its distance."""
        forward = sum(point[2] for point in points) / len(points)
        self.fill(self.camera.project(points), self.light.shade(color, normal, forward, sunlight), label)

    def faces(self, points: npt.NDArray[np.float64], color: Color, normal: Point, label: int) -> None:
        """Paint many flat polygons in one colour, shaded by their mean distance; [N, corners, 3]."""
        if len(points):
            forward = float(points[..., 2].mean())
            self.fill(self.camera.project_all(points), self.light.shade(color, normal, forward), label)

    def cast(self, footprint: Sequence[tuple[float, float]], height: float) -> None:
        """Darken the ground below an upright object and in its shadow.

        Args:
            footprint: Corners on the ground, metres (right, forward).
            height: Its height, metres.
        """
        ground = [(right, 0.0, forward) for right, forward in footprint]
        if self.light.shadow < 1 and max(self.light.direct) > 0.3:
            sun = self.light.sun
            reach = min(height / max(sun[1], 0.2), 3 * height)
            ground += [(x - sun[0] * reach, 0.0, z - sun[2] * reach) for x, _, z in ground]
        hull = cv2.convexHull(np.asarray(self.camera.project(ground), np.float32))
        cv2.fillPoly(self.shadow, _fixed(hull[:, 0]), 255, cv2.LINE_8, _SUBPIXEL_BITS)

    def darken_shadows(self) -> None:
        """Apply the shadows that were cast to what is painted; call it after the ground and before the objects."""
        top = max(0, math.floor(self.camera.horizon))
        ground = self.pixels[top:]
        label = cv2.extractChannel(ground, 3)
        dark = cv2.convertScaleAbs(ground, alpha=self.light.shadow)
        cv2.copyTo(dark, self.shadow[top:], ground)
        cv2.insertChannel(label, ground, 3)

    def sunlight(self, right: float, forward: float) -> float:
        """Share of the sunlight that reaches a point of the ground: 0 in a shadow."""
        ((x, y),) = self.camera.project([(right, 0.0, forward)])
        column = min(max(int(x), 0), self.width - 1)
        row = min(max(int(y), 0), self.height - 1)
        return 0.0 if self.shadow[row, column] else 1.0

    def tint(self, outline: Outline, color: Color, share: float, label: int) -> None:
        """Label the inside of an outline and tint it by a share, so that what lies behind stays visible."""
        points = np.asarray(outline, np.float64)
        x0, y0 = np.maximum(np.floor(points.min(0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + 1, (self.width, self.height))
        if x1 <= x0 or y1 <= y0:
            return
        region = self.pixels[y0:y1, x0:x1]
        mask = np.zeros(region.shape[:2], np.uint8)
        cv2.fillPoly(mask, _fixed(points - (x0, y0)), 255, cv2.LINE_8, _SUBPIXEL_BITS)
        tint = np.array([*color, 0.0]) * share
        tinted = cv2.add(cv2.convertScaleAbs(region, alpha=1 - share), tint)
        cv2.insertChannel(np.full(mask.shape, label, np.uint8), tinted, 3)
        cv2.copyTo(tinted, mask, region)

    def foliage(self, leaf: Leaf, box: tuple[float, float, float, float], color: Color, label: int) -> None:
        """Paint a sprite of leaves.

        Args:
            leaf: The sprite.
            box: Left, top, right, bottom in canvas pixels; left and right change places to mirror it.
            color: Its colour, shaded already.
            label: Its label id.
        """
        left, top, right, bottom = box
        x0, y0 = max(0, math.floor(min(left, right))), max(0, math.floor(top))
        x1, y1 = min(self.width, math.ceil(max(left, right))), min(self.height, math.ceil(bottom))
        if x1 <= x0 or y1 <= y0 or left == right:
            return
        rows, columns = leaf.shape[:2]
        x_step, y_step = columns / (right - left), rows / (bottom - top)
        to_sprite = np.array([[x_step, 0, (x0 - left) * x_step], [0, y_step, (y0 - top) * y_step]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        sprite = cv2.warpAffine(leaf, to_sprite, (x1 - x0, y1 - y0), flags=flags)
        ramp = np.empty((256, 4), np.uint8)
        ramp[:, :3] = np.clip(_SHADES * np.array(color), 0, 255)
        ramp[:, 3] = label
        target = self.pixels.view(np.uint32)[y0:y1, x0:x1, 0]
        np.copyto(target, ramp.view(np.uint32)[:, 0][sprite[..., 0]], where=sprite[..., 1] > 127)


def _fixed(outline: Outline) -> list[npt.NDArray[np.int32]]:
    """The outlines, [corners, 2] each, in OpenCV's fixed point."""
    points = (np.asarray(outline, np.float64) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    return [points] if points.ndim == 2 else list(points)
