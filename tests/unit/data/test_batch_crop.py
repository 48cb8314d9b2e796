"""Crops of a batch at once: the pixels, the draws and the labels of the transforms that crop frame by frame."""

import albumentations as A
import numpy as np
import pytest
import torch

from fastscnn.data.transforms.augment import Augmentation, PaperAugment, no_augment
from fastscnn.data.transforms.batch_crop import CropDrawer, crop_batch, has_batch_form
from helpers import block_labels

FRAMES = [(45, 60), (64, 97), (30, 41)]


def frames():
    """Smooth, noisy and blocky pictures of several sizes, and all of their bytes one after the other."""
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 256, (*size, 3), np.uint8) for size in FRAMES]
    labels = [block_labels(size, seed=number, block=3) for number, size in enumerate(FRAMES)]
    parts = [part for pair in zip(pictures, labels, strict=True) for part in pair]
    return pictures, labels, torch.from_numpy(np.concatenate([part.ravel() for part in parts]))


def begins():
    return np.cumsum([0, *(4 * height * width for height, width in FRAMES)])


@pytest.mark.parametrize(
    ("crop", "settings"),
    [
        ((32, 48), {}),
        ((32, 48), {"scale": (0.3, 0.6)}),
        ((90, 130), {"scale": (0.5, 1.0)}),
        ((64, 80), {"scale": (1.5, 4.0), "flip": 1.0}),
        ((40, 200), {"scale": (0.5, 2.0), "flip": 0.0, "channel_shift": 255.0, "brightness": 1.0}),
        ((33, 31), {"scale": (2, 2)}),
        ((22, 30), {"scale": (0.5, 0.5), "channel_shift": 0.0, "brightness": 0.0}),
        ((1, 1), {}),
    ],
)
def test_pixels_are_those_of_the_transforms_to_one_level_and_labels_exactly(crop, settings):
    augment, other = PaperAugment(**settings)(crop), PaperAugment(**settings)(crop)
    pictures, labels, pixels = frames()
    drawer = CropDrawer(other)
    seeds = range(36)
    drawn = [drawer.draw(seed, int(begins()[seed % 3]), FRAMES[seed % 3]) for seed in seeds]
    fields, places = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    images, cut = crop_batch(pixels, fields, places, crop)
    assert images.shape == (len(seeds), 3, *crop) and images.dtype == cut.dtype == torch.uint8
    assert images.is_contiguous(memory_format=torch.channels_last)
    differing = 0.0
    for seed in seeds:
        image, label = augment(pictures[seed % 3], labels[seed % 3], seed)
        difference = np.abs(images[seed].permute(1, 2, 0).numpy().astype(int) - image)
        assert difference.max() <= 1
        differing += (difference > 0).mean() / len(seeds)
        assert np.array_equal(cut[seed].numpy(), label)
    assert differing < 0.02, "more than a few roundings"


def test_the_same_draws_come_from_a_seed_whatever_was_drawn_before():
    drawer = CropDrawer(PaperAugment()((20, 30)))
    first = drawer.draw(5, 0, (45, 60))
    drawer.draw(6, 0, (45, 60))
    again = drawer.draw(5, 0, (45, 60))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])


def test_what_has_no_form_for_a_batch_is_known():
    assert has_batch_form(PaperAugment()((20, 30)))
    assert not has_batch_form(no_augment((20, 30)))
    assert not has_batch_form(PaperAugment(crop_first=False)((20, 30)))
    crop, *rest = PaperAugment()((20, 30)).transforms.transforms
    assert not has_batch_form(Augmentation(lambda: crop, *(lambda one=one: one for one in rest), lambda: A.Blur(p=0.1)))
