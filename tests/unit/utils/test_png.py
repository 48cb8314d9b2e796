"""PNG files that are packed without OpenCV, against OpenCV and PIL."""

import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from fastscnn.utils import png
from fastscnn.utils.files import write_png
from fastscnn.utils.images import read_label, read_rgb

RANDOM = np.random.default_rng(0)
SHAPES = [(1, 1), (1, 7), (9, 1), (23, 31), (23, 31, 3), (1, 1, 3), (1, 7, 3), (9, 1, 3)]


@pytest.fixture(params=["isal", "zlib"])
def packer(request, monkeypatch):
    """With the package isal, and as where there is none."""
    if request.param == "zlib":
        monkeypatch.setattr(png, "fast", zlib)
        monkeypatch.setattr(png, "FASTEST", 1)
    else:
        assert png.fast.__name__ == "isal.isal_zlib", "pip install isal: it is a dependency"
    return png.fast


def smooth(shape):
    """A picture whose neighbours are alike, with all values."""
    noise = np.cumsum(RANDOM.integers(-9, 10, shape), axis=1) + np.cumsum(RANDOM.integers(-9, 10, shape), axis=0)
    return noise.astype(np.uint8)


def decoded(data):
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels if pixels.ndim == 2 else pixels[..., ::-1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("compression", [1, 6, 9])
def test_a_file_holds_the_pixels_for_every_reader(tmp_path, shape, compression, packer):
    picture = smooth(shape)
    write_png(tmp_path / "a.png", picture, compression)
    with PIL.Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), picture)
    by_cv2 = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(by_cv2 if picture.ndim == 2 else by_cv2[..., ::-1], picture)
    read = read_label(tmp_path / "a.png") if picture.ndim == 2 else read_rgb(tmp_path / "a.png", upright=False)
    assert np.array_equal(read, picture)


def test_part_of_a_larger_array_is_written():
    picture = smooth((40, 50, 3))
    assert np.array_equal(decoded(png.encode(picture[3:30, ::2])), picture[3:30, ::2])


@pytest.mark.parametrize("picture", [smooth((300, 400, 3)), np.kron(RANDOM.integers(0, 19, (9, 9)), np.ones((40, 40)))])
def test_files_are_no_larger_than_those_of_opencv(picture):
    picture = picture.astype(np.uint8)
    filters = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
    theirs = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1, *filters])[1]
    assert len(png.encode(picture)) < 1.05 * len(theirs)


@pytest.mark.parametrize(
    "picture", [np.zeros((0, 5), np.uint8), np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5), np.uint16)]
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(ValueError, match="PNG"):
        png.encode(picture)
