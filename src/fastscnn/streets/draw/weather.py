"""The weather of a street scene: sun, sky, haze, and the camera's exposure."""

import math
from dataclasses import dataclass
from random import Random

from fastscnn.streets.draw.canvas import Light
from fastscnn.streets.draw.color import Color, mixed, scaled
from fastscnn.streets.draw.postprocess import Tone


@dataclass(frozen=True)
class Weather:
    """Light and sky of a scene, and how the camera takes them; `cover` is the share of clouds."""

    light: Light
    sky: Color
    cloud: Color
    cover: float
    tone: Tone


def plan_weather(rng: Random) -> Weather:
    """Draw the time of day, the sky and the camera's exposure."""
    kind = rng.choices(("clear", "cloudy", "overcast", "golden", "dusk"), (5, 4, 3, 2, 1))[0]
    turn = rng.uniform(-math.pi, math.pi)
    height = rng.uniform(0.2, 0.4) if kind == "golden" else rng.uniform(0.45, 1.1)
    sun = (math.cos(height) * math.sin(turn), math.sin(height), math.cos(height) * math.cos(turn))
    visibility = math.exp(rng.uniform(math.log(90), math.log(700)))
    tone = Tone(
        gain=rng.uniform(0.84, 1.12),
        gamma=rng.uniform(0.85, 1.15),
        balance=(rng.uniform(0.95, 1.05), 1.0, rng.uniform(0.94, 1.06)),
        noise=rng.uniform(0.6, 1.5),
    )
    if kind == "golden":
        light = Light(sun, (0.95, 0.74, 0.50), (0.46, 0.46, 0.54), (232, 204, 172), visibility, 0.58)
        return Weather(light, (128, 158, 200), (246, 214, 184), rng.uniform(0.2, 0.6), tone)
    if kind == "dusk":
        light = Light(sun, (0.16, 0.15, 0.16), (0.50, 0.52, 0.62), (148, 146, 164), visibility, 0.8)
        return Weather(light, (72, 86, 128), (168, 146, 156), rng.uniform(0.2, 0.7), tone)
    if kind == "overcast":
        light = Light(sun, (0.18, 0.18, 0.18), (0.78, 0.79, 0.82), (214, 217, 220), min(visibility, 350), 0.76)
        return Weather(light, (196, 202, 210), (226, 228, 230), rng.uniform(0.7, 1.0), tone)
    direct = scaled((0.74, 0.70, 0.62), 1.0 if kind == "clear" else 0.75)
    light = Light(sun, direct, (0.52, 0.54, 0.60), (206, 220, 234), visibility, 0.55)
    blue = mixed((66, 132, 204), (124, 172, 226), rng.random())
    cover = rng.uniform(0.05, 0.35) if kind == "clear" else rng.uniform(0.3, 0.7)
    return Weather(light, blue, (244, 246, 248), cover, tone)
