"""Overlays and legends, pixel by pixel."""

import numpy as np

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.predict.draw import drawn, legend, occurring, overlay


def test_overlay_blends_and_the_legend_names_what_occurs():
    labels = np.zeros((40, 300), np.uint8)
    labels[:, 200:] = 13
    image = np.full((40, 300, 3), 100, np.uint8)
    assert occurring(labels, CITYSCAPES) == [0, 13]
    blended = overlay(image, labels, CITYSCAPES, 0.25)
    np.testing.assert_allclose(blended[0, 299], 0.75 * 100 + 0.25 * np.array([0, 0, 142]), atol=1)
    assert (overlay(image, labels, CITYSCAPES, 0.0) == image).all()
    strip = legend(300, 40, [0, 13], CITYSCAPES)
    assert strip.shape[1] == 300
    shown = {tuple(color) for color in strip.reshape(-1, 3).tolist()}
    assert {CITYSCAPES.colors[0], CITYSCAPES.colors[13]} <= shown
    assert CITYSCAPES.colors[1] not in shown
    assert len(legend(300, 40, range(19), CITYSCAPES)) > len(strip), "as many rows as it takes"
    assert drawn("side_by_side", image, labels, CITYSCAPES).shape[1] == 600


def test_no_name_of_the_legend_is_cut_off():
    for width in (160, 480, 1080, 2048):
        strip = legend(width, width // 2, range(19), CITYSCAPES)
        assert strip.shape[1] == width
        assert (strip[:, -2:] == strip[0, 0]).all(), f"{width}: letters reach the edge"
        for color in CITYSCAPES.colors:
            box = (strip == color).all(-1)
            assert box.any(1).sum() >= 5, f"{width}: a colour that cannot be seen"
