"""The gallery of a page: panels of the pictures of training and evaluation, small enough to be embedded."""

import base64
import html
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fastscnn.reports.comparison.content import GalleryRow
from fastscnn.utils.images import read_rgb

WIDTH = 480
"""Largest width of a panel, pixels."""
QUALITY = 72
CAPTIONS = ("input", "truth", "prediction")


def gallery_html(rows: Sequence[GalleryRow]) -> str:
    """A section with four panels for each frame: input, truth, prediction, prediction without the skip connection.

    A picture that cannot be read is left out.
    """
    parts = []
    for run, frames in groupby(rows, lambda row: row.run):
        figures = [figure for row in frames for figure in _figures(row)]
        if figures:
            parts += [f"<h3>{html.escape(run)}</h3>", *figures]
    if not parts:
        return ""
    return (
        '<section id="gallery"><h2>Pictures</h2>\n<p class="note">Input, truth, prediction, and the prediction of the '
        "same network without its skip connection, where that was evaluated (eval.py checkpoint=FILE skip=zero): the "
        "paper's Figures 2 and 3.</p>\n"
        f'<div class="gallery">{"".join(parts)}</div></section>'
    )


def _figures(row: GalleryRow) -> list[str]:
    panels = split_panels(row.picture)
    if panels is None:
        return []
    captions = [f"{row.frame}: {CAPTIONS[0]}", *CAPTIONS[1:]]
    cut = split_panels(row.without_skip) if row.without_skip else None
    figures = [_figure(panel, caption, row.frame) for panel, caption in zip(panels, captions, strict=True)]
    return [*figures, _figure(cut[2], "without the skip connection", row.frame) if cut else "<span></span>"]


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


def _figure(panel: npt.NDArray[np.uint8], caption: str, frame: str) -> str:
    _, encoded = cv2.imencode(".webp", panel, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    address = "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()
    height, width = panel.shape[:2]
    alt = html.escape(f"{frame}, {caption}", quote=True)
    return (
        f'<figure><img loading="lazy" decoding="async" width="{width}" height="{height}" alt="{alt}" src="{address}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
