"""Images and labels as other tools write them, read for training: EXIF orientations, palettes, sizes, no files."""

import os

import numpy as np
import PIL.Image
import pytest

from fastscnn.data.datamodules.build import build_data, build_image_data
from fastscnn.data.datasets.classes import CITYSCAPES
from helpers import block_labels, paint, refused, write_cityscapes, write_png


@pytest.fixture
def root(tmp_path):
    return write_cityscapes(tmp_path / "data", size=(16, 24), train=3, val=1)


@pytest.fixture(params=["off", "store"])
def store(request, tmp_path):
    return "off" if request.param == "off" else tmp_path / "store"


def data_of(root, store="off", **settings):
    plain = {"dataset": "fine", "root": root, "batch_size": 1, "num_workers": 1, "crop_size": [16, 24], "store": store}
    data = build_data(plain | settings, {"name": "none"})
    data.prepare_data()
    return data


def first_image(root):
    return sorted((root / "leftImg8bit/train").rglob("*.png"))[0]


def turn(path, orientation, picture):
    """Store a picture so that a viewer that heeds its orientation shows it as it was."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = {6: np.rot90, 3: lambda pixels: np.rot90(pixels, 2)}[orientation](picture)
    PIL.Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)


def test_an_image_that_viewers_turn_is_refused_with_both_settings(root, store):
    path = first_image(root)
    turn(path, 3, paint(block_labels((16, 24), 0)))
    with refused("data.exif", path, "data.exif=ignore", "3", fix="data.exif=apply"):
        list(data_of(root, store).whole_frames("train"))


def test_the_orientation_is_applied_or_ignored_as_set(root, store):
    """In one store folder after the other: what was decoded under one setting is not taken for the other."""
    seen = paint(block_labels((16, 24), 0))
    turn(first_image(root), 3, seen)
    for exif, expected in (("apply", seen), ("ignore", np.rot90(seen, 2)), ("apply", seen)):
        batch = next(iter(data_of(root, store, exif=exif).whole_frames("train")))
        assert np.array_equal(batch["image"][0].permute(1, 2, 0), expected)
        assert np.array_equal(batch["label"][0], CITYSCAPES.encode(block_labels((16, 24), 0)))


def test_a_picture_on_its_side_has_the_size_of_its_label_once_it_is_turned(root, store):
    seen = paint(block_labels((16, 24), 0))
    turn(first_image(root), 6, seen)
    data = data_of(root, store, exif="apply", crop_size="full")
    assert data.crop_size == (16, 24)
    assert np.array_equal(next(iter(data.whole_frames("train")))["image"][0].permute(1, 2, 0), seen)
    with refused("data.root", "24x16", "16x24"):
        list(data_of(root, store, exif="ignore").whole_frames("train"))


def test_an_unknown_answer_is_refused(root):
    with refused("data.exif", "turn", fix="refuse, apply, ignore"):
        data_of(root, exif="turn")


@pytest.mark.parametrize("kind", ["palette", "grey of 4 bits"])
def test_labels_of_other_tools_are_their_indices(root, store, kind):
    values = np.random.default_rng(0).choice(np.array([7, 8, 11, 13], np.uint8), (16, 24))
    label = sorted((root / "gtFine/train").rglob("*.png"))[0]
    image = PIL.Image.fromarray(values, "P" if kind == "palette" else "L")
    if kind == "palette":
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
        image.save(label)
    else:
        image = PIL.Image.fromarray(values, "P")
        image.putpalette(bytes(value for index in range(16) for value in [index * 17] * 3))
        image.save(label, bits=4)  # a palette of greys, as GIMP and ImageMagick write them too
    batch = next(iter(data_of(root, store).whole_frames("train")))
    assert np.array_equal(batch["label"][0], CITYSCAPES.encode(values))


def test_a_colour_label_is_named_by_what_it_is(root, store):
    label = sorted((root / "gtFine/train").rglob("*.png"))[0]
    write_png(label, np.zeros((16, 24, 3), np.uint8))
    with refused("data.root", "_labelIds.png", "RGB"):
        list(data_of(root, store).whole_frames("train"))


def test_a_picture_over_the_limit_is_refused_by_the_settings_name(root, store):
    with refused("data.max_pixels", "16x24", "384", "383", fix="data.max_pixels=384"):
        list(data_of(root, store, max_pixels=383).whole_frames("train"))
    assert len(list(data_of(root, store, max_pixels=384).whole_frames("train"))) == 3


def test_a_named_pipe_in_the_place_of_an_image_is_refused(root, store):
    path = first_image(root)
    path.unlink()
    os.mkfifo(path)
    with refused("data.root", "a named pipe"):
        list(data_of(root, store).whole_frames("train"))


def test_images_with_one_class_each_are_read_by_the_same_rules(tmp_path):
    for name in ("a", "b"):
        write_png(tmp_path / name / "0.png", np.zeros((16, 24, 3), np.uint8))
    plain = {"root": tmp_path, "crop_size": [8, 8], "crop_pct": 1.0, "batch_size": 1, "num_workers": 1}
    assert len(list(build_image_data(plain).whole_frames("val"))) == 2
    with refused("data.max_pixels", "16x24", fix="data.max_pixels=384"):
        list(build_image_data(plain | {"max_pixels": 383}).whole_frames("val"))
    (tmp_path / "a/0.png").unlink()
    os.mkfifo(tmp_path / "a/0.png")
    with refused("data.root", "a named pipe"):
        list(build_image_data(plain).whole_frames("val"))
