"""The gallery of a page: panels of the pictures of training and evaluation, small enough to be embedded."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fastscnn.reports.comparison.content import GalleryRow
from fastscnn.utils.images import read_rgb

WIDTH = 480
"""Largest width of a panel, pixels."""
QUALITY = 72
SAME = 30
"""Sum of the differences of three colour values up to which two pixels show the same class."""
INTRODUCTION = (
    "One slider moves all frames from the prediction over the truth to the input. The frames on which the fewest "
    "pixels agree with the truth come first. Without the skip connection: the same network, where that was evaluated "
    "(eval.py checkpoint=FILE skip=zero), as in the paper's Figures 2 and 3."
)


def gallery_html(rows: Sequence[GalleryRow]) -> str:
    """A section with a frame for each picture, whose layers a slider fades: input, truth, prediction.

    A picture that cannot be read is left out.
    """
    frames = sorted((frame for row in rows if (frame := _frame(row))), key=lambda frame: frame[0])
    if not frames:
        return ""
    switch = ""
    if any(row.without_skip for row in rows):
        switch = ' <label><input type="checkbox" id="without"> without the skip connection</label>'
    slider = (
        '<p class="slider"><label>prediction <input type="range" id="between" min="0" max="2" step="0.02" value="0" '
        'list="stops" aria-label="from prediction over truth to input"> input</label>'
        '<datalist id="stops"><option value="0" label="prediction"></option><option value="1" label="truth"></option>'
        f'<option value="2" label="input"></option></datalist>{switch}</p>'
    )
    return (
        f'<section id="gallery"><h2>Pictures</h2>\n<p class="note">{INTRODUCTION}</p>\n{slider}'
        f'<div class="gallery">{"".join(text for _, text in frames)}</div></section>'
    )


def _frame(row: GalleryRow) -> tuple[float, str] | None:
    """The share of pixels that agree, and the frame's layers; None where the picture cannot be read."""
    panels = split_panels(row.picture)
    if panels is None:
        return None
    cut = split_panels(row.without_skip) if row.without_skip else None
    share = agreement(panels[1], panels[2])
    names = ["input", "truth", "prediction"]
    layers = [embedded(panel, f"{row.frame}, {name}", name) for panel, name in zip(panels, names, strict=True)]
    layers += [embedded(cut[2], f"{row.frame}, prediction without the skip connection", "cut")] if cut else []
    caption = f"{html.escape(row.frame)} · {100 * share:.1f} % of pixels agree<br>{html.escape(row.run)}"
    return share, f'<figure><div class="stack">{"".join(layers)}</div><figcaption>{caption}</figcaption></figure>'


def agreement(truth: npt.NDArray[np.uint8], prediction: npt.NDArray[np.uint8]) -> float:
    """The share of pixels whose colours say the same class, where the truth is not black."""
    labelled = truth.max(2) > SAME // 3
    if not labelled.any():
        return 1.0
    distance = np.abs(truth.astype(np.int16) - prediction).sum(2)
    return float((distance[labelled] <= SAME).mean())


def split_panels(path: Path) -> list[npt.NDArray[np.uint8]] | None:
    """The three panels of a picture, BGR, at most `WIDTH` wide; None if it cannot be read."""
    try:
        picture = read_rgb(path, upright=False)[:, :, ::-1]
    except OSError:
        return None
    if picture.shape[1] < 3:
        return None
    height, width = picture.shape[0], picture.shape[1] // 3
    panels: list[npt.NDArray[np.uint8]] = [picture[:, place * width : (place + 1) * width] for place in range(3)]
    if width > WIDTH:
        size = (WIDTH, max(1, height * WIDTH // width))
        panels = [np.asarray(cv2.resize(panel, size, interpolation=cv2.INTER_AREA), np.uint8) for panel in panels]
    return panels


def embedded(picture: npt.NDArray[np.uint8], alt: str, kind: str = "", quality: int = QUALITY) -> str:
    """A picture as an `img` that holds its own bytes.

    Args:
        picture: BGR, [H, W, 3].
        alt: What it shows.
        kind: The class of the element.
        quality: Of WebP, from 1 to 100; above, nothing is lost.
    """
    _, encoded = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])
    address = "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()
    height, width = picture.shape[:2]
    own = f'class="{kind}" ' if kind else ""
    size = f'width="{width}" height="{height}"'
    alt = html.escape(alt, quote=True)
    return f'<img {own}loading="lazy" decoding="async" {size} alt="{alt}" src="{address}">'
