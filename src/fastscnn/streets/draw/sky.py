"""Sky and far skyline of the street scenes."""

import math
from random import Random

import cv2
import numpy as np

from fastscnn.streets.draw.canvas import LABEL, Canvas, Point
from fastscnn.streets.draw.color import Color
from fastscnn.streets.draw.street import FAR
from fastscnn.streets.draw.texture import clouds
from fastscnn.streets.draw.weather import Weather

TOWARDS: Point = (0.0, 0.0, -1.0)
CONCRETE: Color = (150, 144, 140)
PANES: Color = (112, 112, 116)
WOODS: Color = (74, 96, 58)


def draw_sky(canvas: Canvas, weather: Weather, rng: Random) -> None:
    """Paint the sky down to the horizon."""
    rows = min(canvas.height, math.ceil(canvas.camera.horizon) + 2)
    tile = clouds()
    height, width = tile.shape[0] // 2, tile.shape[1] // 2
    y, x = rng.randrange(height), rng.randrange(width)
    piece = tile[y : y + height, x : x + width, None]
    # Clouds pale towards the horizon.
    fade = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    cloud = np.clip(piece / 2 + 1.6 * weather.cover - 0.55, 0, 1) * (1 - 0.35 * fade)
    blue = np.array(weather.sky) * (1 - fade) + np.array(weather.light.haze) * fade
    white = np.array(weather.cloud) * (1 - 0.06 * np.clip(piece, 0, 2))
    image = np.full((height, width, 4), LABEL["sky"], np.uint8)
    image[..., :3] = np.clip(blue + (white - blue) * cloud, 0, 255)
    cv2.resize(image, (canvas.width, rows), canvas.pixels[:rows], interpolation=cv2.INTER_LINEAR)


def draw_skyline(canvas: Canvas, rng: Random) -> None:
    """Paint hazy buildings and woods on the horizon."""
    base, pixels_per_metre = canvas.camera.row(0.8 * FAR), canvas.pixels_per_metre(FAR)
    arc = [(math.cos(t / 8 * math.pi), math.sin(t / 8 * math.pi)) for t in range(9)]
    x = -20.0 * pixels_per_metre
    while x < canvas.width:
        width = rng.uniform(8, 26) * pixels_per_metre
        if rng.random() < 0.55:
            top = base - rng.uniform(6, 24) * pixels_per_metre
            block = [(x, base), (x, top), (x + width, top), (x + width, base)]
            canvas.fill(block, canvas.light.shade(CONCRETE, TOWARDS, FAR), LABEL["building"])
            panes = canvas.light.shade(PANES, TOWARDS, FAR)
            y = top + 1.5 * pixels_per_metre
            while y < base:
                row = [
                    (x + pixels_per_metre, y),
                    (x + width - pixels_per_metre, y),
                    (x + width - pixels_per_metre, y + pixels_per_metre),
                    (x + pixels_per_metre, y + pixels_per_metre),
                ]
                canvas.fill(row, panes, LABEL["building"])
                y += 3 * pixels_per_metre
        else:
            rise = rng.uniform(6, 13) * pixels_per_metre
            hill = [(x + width * (0.5 + 0.7 * c), base - rise * s) for c, s in arc]
            canvas.fill(hill, canvas.light.shade(WOODS, TOWARDS, FAR), LABEL["vegetation"])
        x += width
