"""`augment=strong`: drawn from the frame's seed alone, colours of the image alone, crops drawn towards rare classes."""

import numpy as np
import pytest

from fastscnn.data.datamodules.build import build_data
from fastscnn.data.store.class_pixels import class_pixels
from fastscnn.data.transforms.strong import RareClasses, StrongAugment
from fastscnn.utils.errors import RequestError
from helpers import block_labels, paint, write_cityscapes

LABEL = block_labels((64, 128), seed=0)
IMAGE = paint(LABEL)
PLAIN = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "blur": 0, "noise": 0, "jpeg": 0}


def strong(crop_size, **settings):
    return StrongAugment(**settings)(crop_size)


def rare_frame():
    """A frame of class 0 with four pixels of class 1 in a corner, and what `RareClasses` says of it."""
    label = np.zeros((64, 128), np.uint8)
    label[2:4, 3:5] = 1
    frames = ["a"]
    return label, RareClasses(class_pixels(frames, 3, lambda frame: label))(0)


def test_a_seed_repeats_and_seeds_differ():
    settings = {"blur": 0.7, "noise": 0.7, "jpeg": 0.7}
    one, other = strong((48, 96), **settings), strong((48, 96), **settings)
    results = [one(IMAGE, LABEL, seed) for seed in range(20)]
    again = [other(IMAGE, LABEL, seed) for seed in reversed(range(20))][::-1]
    for first, second in zip(results, again, strict=True):
        assert np.array_equal(first[0], second[0])
        assert np.array_equal(first[1], second[1])
    assert len({image.tobytes() for image, _ in results}) == 20


CHANGES = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.3, "blur": 1, "noise": 1, "jpeg": 1}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_image_and_no_label(name):
    plain = strong((64, 128), scale=(1, 1), flip=0, **PLAIN)
    image, label = plain(IMAGE, LABEL, 3)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(label, LABEL)
    other = strong((64, 128), scale=(1, 1), flip=0, **{**PLAIN, name: CHANGES[name]})
    image, label = other(IMAGE, LABEL, 3)
    assert not np.array_equal(image, IMAGE)
    assert np.array_equal(label, LABEL)


def shows_rare(augment, focus, label):
    image = np.zeros((*label.shape, 3), np.uint8)
    return np.mean([(augment(image, label, seed, None, focus)[1] == 1).any() for seed in range(300)])


def test_crops_are_drawn_towards_the_rare_class_by_the_share_that_is_asked_for():
    label, focus = rare_frame()
    found = {
        share: shows_rare(strong((16, 16), scale=(1, 1), rare_crops=share, **PLAIN), focus, label)
        for share in (0.0, 0.5, 1.0)
    }
    assert found[0.0] < 0.05
    assert 0.4 < found[0.5] < 0.6
    assert found[1.0] > 0.97, "class 1 is 2,000 times as rare as class 0"


def test_crop_lies_around_its_pixel_and_within_the_frame():
    label = np.zeros((64, 128), np.uint8)
    label[40, 70] = 1
    focus = RareClasses(class_pixels(["a"], 2, lambda frame: label))(0)
    augment = strong((16, 16), scale=(1, 1), flip=0, rare_crops=1, **PLAIN)
    for seed in range(20):
        cropped = augment(IMAGE, label, seed, None, focus)[1]
        if (cropped == 1).any():
            assert np.argwhere(cropped == 1).tolist() == [[8, 8]]


def test_frame_without_a_labelled_pixel_is_cropped_anywhere():
    label = np.full((64, 128), 255, np.uint8)
    focus = RareClasses(class_pixels(["a"], 3, lambda frame: label))(0)
    augment = strong((16, 16), rare_crops=1)
    assert augment(IMAGE, label, 0, None, focus)[1].shape == (16, 16)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stored", [True, False])
def test_batches_are_the_same_for_any_number_of_workers_with_and_without_a_store(tmp_path, workers, stored):
    root = write_cityscapes(tmp_path / "data", size=(64, 128), train=5)

    def batches(num_workers, store):
        data = {"dataset": "fine", "root": str(root), "crop_size": [32, 32], "batch_size": 2}
        module = build_data({**data, "num_workers": num_workers, "store": store}, {"name": "strong", "rare_crops": 0.7})
        module.prepare_data()
        loader = module.train_dataloader()
        loader.sampler.set_epoch(3)
        return list(loader)

    expected = batches(0, "off")
    found = batches(workers, str(tmp_path / "store") if stored else "off")
    for one, other in zip(expected, found, strict=True):
        assert one["name"] == other["name"]
        assert all((one[key] == other[key]).all() for key in ("image", "label"))


@pytest.mark.parametrize(("name", "value"), [("hue", 0.6), ("blur", 1.1), ("rare_crops", -0.1), ("contrast", 2)])
def test_setting_out_of_its_range_is_named(name, value):
    with pytest.raises(RequestError) as found:
        strong((16, 16), **{name: value})
    assert found.value.key == f"augment.{name}"
