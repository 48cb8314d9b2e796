"""From the painted canvas to the frame: resampling, texture, exposure."""

import math
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np
import numpy.typing as npt

from fastscnn.streets.draw.canvas import LABEL, SUPERSAMPLING, Canvas
from fastscnn.streets.draw.texture import Noise, asphalt, clumps, grain

ROUGHNESS: dict[str, tuple[float, float, float]] = {
    "road": (0.012, 0.0, 0.075),
    "parking": (0.012, 0.0, 0.075),
    "rail track": (0.02, 0.0, 0.1),
    "sidewalk": (0.014, 0.0, 0.055),
    "terrain": (0.035, 0.03, 0.16),
    "building": (0.014, 0.022, 0.0),
    "wall": (0.03, 0.04, 0.0),
    "fence": (0.02, 0.02, 0.0),
    "vegetation": (0.06, 0.14, 0.0),
    "sky": (0.004, 0.0, 0.0),
}
"""Share of the brightness that grain, clumps and the ground's own texture add, by label."""
SMOOTH = (0.014, 0.008, 0.0)


@dataclass(frozen=True)
class Tone:
    """How the camera renders the light: gain, gamma, balance of R, G and B, strength of its noise."""

    gain: float
    gamma: float
    balance: tuple[float, float, float]
    noise: float


def develop(canvas: Canvas, tone: Tone, rng: Random) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Resample the canvas to the frame, add texture and expose it; RGB [H, W, 3] and label ids [H, W], uint8."""
    step = SUPERSAMPLING
    height, width = canvas.height // step, canvas.width // step
    labels = np.ascontiguousarray(canvas.pixels[::step, ::step, 3])
    small = cv2.resize(canvas.pixels, (width, height), interpolation=cv2.INTER_AREA)
    image = cv2.cvtColor(small, cv2.COLOR_RGBA2RGB)
    factor = _relief(canvas, labels, tone.noise, rng)
    image = cv2.multiply(image, cv2.merge([factor] * 3), scale=1 / 128)
    levels = np.linspace(0, 1, 256)[:, None] * tone.gain * np.array(tone.balance)
    curve = 255 * np.clip(levels, 0, 1) ** tone.gamma
    return np.asarray(cv2.LUT(image, curve.astype(np.uint8)[None]), np.uint8), labels


def _relief(canvas: Canvas, labels: npt.NDArray[np.uint8], noise: float, rng: Random) -> npt.NDArray[np.uint8]:
    """Factor of each pixel's brightness, 128 for one."""
    size = labels.shape[0], labels.shape[1]
    coarse = max(1.0, size[0] / 256)
    layers = (
        _sample(grain(), size, 1.0, rng),
        _sample(clumps(), size, coarse, rng),
        _from_above(canvas, size, rng),
    )
    total = np.full(size, 128, np.float32)
    for layer, values in enumerate(layers):
        gain = np.full(256, SMOOTH[layer], np.float32)
        for name, roughness in ROUGHNESS.items():
            gain[LABEL[name]] = roughness[layer]
        total += cv2.multiply(values, cv2.LUT(labels, gain), scale=128 * (noise if layer == 0 else 1.0))
    return np.clip(total, 40, 230).astype(np.uint8)


def _sample(tile: Noise, size: tuple[int, int], scale: float, rng: Random) -> Noise:
    """A random crop of a tile, enlarged `scale` times and repeated where it is too small."""
    rows, columns = math.ceil(size[0] / scale), math.ceil(size[1] / scale)
    y, x = rng.randrange(max(1, tile.shape[0] - rows)), rng.randrange(max(1, tile.shape[1] - columns))
    repeats = -(-(y + rows) // tile.shape[0]), -(-(x + columns) // tile.shape[1])
    piece = (np.tile(tile, repeats) if max(repeats) > 1 else tile)[y : y + rows, x : x + columns]
    if scale > 1:
        return np.asarray(cv2.resize(piece, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)
    return np.ascontiguousarray(piece)


def _from_above(canvas: Canvas, size: tuple[int, int], rng: Random) -> Noise:
    """The ground's noise in perspective; 0 above the horizon, weaker towards it."""
    camera, step = canvas.camera, SUPERSAMPLING
    horizon, center, focal = camera.horizon / step, camera.center / step, camera.focal / step
    top = int(horizon) + 1
    values = np.zeros(size, np.float32)
    if top >= size[0] - 1:
        return values
    tile = asphalt()
    per_meter = tile.shape[0] / 14 * math.sqrt(max(1.0, size[0] / 256))
    reach = per_meter * camera.height
    shift_x, shift_z = rng.uniform(0, 400), rng.uniform(0, 400)
    rise = top - horizon
    to_tile = np.array(
        [
            [reach, shift_x, -reach * center + shift_x * rise],
            [0, shift_z, reach * focal + shift_z * rise],
            [0, 1, rise],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpPerspective(tile, to_tile, (size[1], size[0] - top), flags=flags, borderMode=cv2.BORDER_WRAP)
    fade = np.clip((np.arange(size[0] - top) + rise) / (0.2 * size[0]), 0, 1, dtype=np.float32)
    values[top:] = seen * fade[:, None]
    return values
