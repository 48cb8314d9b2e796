"""Overlays and legends, pixel by pixel."""

import cv2
import numpy as np
import pytest

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


@pytest.mark.parametrize("opacity", [0, 0.3, 0.5, 0.77, 1])
def test_pictures_are_what_opencv_blends_to_the_bit(opacity):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (37, 61, 3), np.uint8)
    labels = random.choice(np.array([0, 1, 7, 18, 19, 255], np.uint8), (37, 61))
    blended = cv2.addWeighted(image, 1 - opacity, CITYSCAPES.colorize(labels), opacity, 0)
    assert np.array_equal(overlay(image, labels, CITYSCAPES, opacity), blended)
    strip = legend(61, 37, occurring(labels, CITYSCAPES), CITYSCAPES)
    assert np.array_equal(drawn("overlay", image, labels, CITYSCAPES, opacity), np.concatenate([blended, strip]))
    both = np.concatenate([image, blended], axis=1)
    strip = legend(122, 37, [3, 5], CITYSCAPES)
    side_by_side = drawn("side_by_side", image, labels, CITYSCAPES, opacity, named=[3, 5])
    assert np.array_equal(side_by_side, np.concatenate([both, strip]))


def test_classes_are_named_by_their_number_of_pixels_and_the_ignored_label_is_not():
    labels = np.random.default_rng(0).choice(np.array([2, 4, 4, 9, 9, 9, 255], np.uint8), (50, 70))
    assert occurring(labels, CITYSCAPES) == [9, 4, 2]
    assert occurring(np.full((3, 3), 255, np.uint8), CITYSCAPES) == []
    assert occurring(np.array([[1, 0]], np.uint8), CITYSCAPES) == [0, 1], "equally many: in the order of the classes"
