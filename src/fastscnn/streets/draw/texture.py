"""Noise for the street scenes: the same in every process, computed once and sampled."""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Leaf = npt.NDArray[np.uint8]
"""Foliage: its shade (128 is its own colour) and its cover (255, or 0 for a hole); uint8 [rows, columns, 2]."""
Noise = npt.NDArray[np.float32]

_ROWS, _COLUMNS = 512, 1024
_CROWN = 176


def fractal(seed: int, shape: tuple[int, int], cells: int, octaves: int, falloff: float = 0.6) -> Noise:
    """Smooth noise of mean 0 and deviation 1; `cells` is the number of the coarsest bumps along the height."""
    rng = np.random.default_rng(seed)
    rows, columns = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        count = cells << octave
        grid = rng.standard_normal((count, max(1, count * columns // rows))).astype(np.float32)
        total += falloff**octave * cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC)
    normal: Noise = (total - total.mean()) / total.std()
    return normal


@lru_cache(maxsize=1)
def grain() -> Noise:
    """Fine noise, pixel by pixel."""
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((_ROWS, _COLUMNS)).astype(np.float32)
    return 0.7 * noise + 0.7 * cv2.GaussianBlur(noise, (0, 0), 0.8) * 2.2


@lru_cache(maxsize=1)
def clumps() -> Noise:
    """Noise in bumps of a few pixels, as of leaves and plaster."""
    return fractal(2, (_ROWS, _COLUMNS), 32, 4, 0.8)


@lru_cache(maxsize=1)
def asphalt() -> Noise:
    """Noise of the ground, seen from above: grains on top of patches."""
    return 0.3 * fractal(3, (_ROWS, _ROWS), 8, 3) + 0.9 * fractal(4, (_ROWS, _ROWS), 128, 2, 0.9)


@lru_cache(maxsize=1)
def clouds() -> Noise:
    """Noise of a cloudy sky."""
    return fractal(5, (192, 384), 3, 5, 0.55)


@lru_cache(maxsize=1)
def crowns() -> tuple[Leaf, ...]:
    """Crowns of trees, seen from the side: round ones, then pointed ones, then bushes."""
    y, x = np.mgrid[-1 : 1 : _CROWN * 1j, -1 : 1 : _CROWN * 1j].astype(np.float32)
    shapes = [1 - np.hypot(x, y)] * 4 + [0.42 * (1 + y) - np.abs(x) + 0.08] * 2
    shapes += [1 - np.maximum(np.abs(x) ** 3, (1.15 * y) ** 2)] * 3
    return tuple(_crown(seed, np.asarray(shape), x, y) for seed, shape in enumerate(shapes))


def _crown(seed: int, shape: Noise, x: Noise, y: Noise) -> Leaf:
    rough = 0.13 * fractal(20 + seed, shape.shape, 5, 5, 0.75)
    edge = np.minimum(1, 6 * (1 - np.maximum(np.abs(x), np.abs(y))))
    body = (shape + rough) * edge > 0.3
    shade = 128 + 24 * fractal(40 + seed, shape.shape, 14, 3, 0.9) - 30 * y
    return np.stack([np.clip(shade, 50, 230), 255 * body], -1).astype(np.uint8)
