"""Crop first against resize then crop: the same pixels, and the same distribution of what is drawn."""

import albucore
import albumentations as A
import cv2
import numpy as np
import pytest
from scipy.stats import ks_2samp

from fastscnn.data.transforms.augment import PADDING, Augmentation, PaperAugment
from fastscnn.data.transforms.crop import RandomScaledCrop, Span, add_colors
from helpers import block_labels

FRAME = (90, 170)
CROP = (64, 128)


def resize_then_crop(crop, scale, flip=0.0):
    """The library's transforms one after the other, each on all of the last one's pixels."""
    return Augmentation(
        lambda: A.RandomScale(
            scale_limit=(scale[0] - 1, scale[1] - 1), mask_interpolation=cv2.INTER_NEAREST_EXACT, p=1.0
        ),
        lambda: A.RandomCrop(*crop, pad_position="random", **PADDING),
        lambda: A.HorizontalFlip(p=flip),
    )


def crop_first(crop, scale, flip=0.0):
    return PaperAugment(scale, flip, channel_shift=0.0, brightness=0.0)(crop)


def coordinates():
    """Red is the row, green the column, blue tells the frame from its padding."""
    rows, columns = np.mgrid[: FRAME[0], : FRAME[1]]
    return np.stack([rows, columns, np.full(FRAME, 255)], axis=-1).astype(np.uint8)


def drawn(augment, seeds):
    """What each draw shows: scale down and across, the frame's row and column at the middle, and the share shown."""
    found = []
    for seed in seeds:
        image, label = augment(coordinates(), np.zeros(FRAME, np.uint8), seed)
        rows, columns = np.flatnonzero((label == 0).any(1)), np.flatnonzero((label == 0).any(0))
        inner = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(float)
        down = (len(rows) - 3) / (inner[-2, 0, 0] - inner[1, 0, 0])
        across = (inner.shape[1] - 3) / (inner[0, -2, 1] - inner[0, 1, 1])
        found.append(
            (down, across, inner[..., 0].mean(), inner[..., 1].mean(), rows[0], columns[0], (label == 0).mean())
        )
    return np.array(found).T


@pytest.mark.parametrize("scale", [(0.5, 2.0), (0.5, 0.7), (1.2, 2.0)])
def test_scales_and_places_are_distributed_as_by_the_library(scale):
    ours = drawn(crop_first(CROP, scale), range(500))
    theirs = drawn(resize_then_crop(CROP, scale), range(1000, 1500))
    for name, one, other in zip(("down", "across", "row", "column", "top", "left", "share"), ours, theirs, strict=True):
        assert ks_2samp(one, other).pvalue > 0.003, name


def test_a_wrong_distribution_would_be_seen():
    theirs = drawn(resize_then_crop(CROP, (0.5, 2.0)), range(1000, 1500))
    assert ks_2samp(drawn(crop_first(CROP, (0.5, 1.7)), range(500))[0], theirs[0]).pvalue < 1e-4


def test_a_frame_that_fits_into_the_crop_has_the_librarys_own_pixels():
    """The whole frame is resized then, by the same factor; only where it is placed is drawn otherwise."""
    image, label = np.random.default_rng(0).integers(0, 255, (*FRAME, 3), np.uint8), block_labels(FRAME, seed=1)
    for scale in (0.5, 0.57, 0.71):
        shown = []
        for augment in (crop_first((100, 200), (scale, scale)), resize_then_crop((100, 200), (scale, scale))):
            pixels, labels = augment(image, label, 3)
            rows, columns = np.nonzero(labels != 255)
            inside = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            shown.append((pixels[inside], labels[inside]))
        assert np.array_equal(shown[0][0], shown[1][0])
        assert np.array_equal(shown[0][1], shown[1][1])


@pytest.mark.parametrize(("scale", "starts"), [(2, (7, 31)), (1, (13, 40)), (0.5, (10, 4)), (4 / 3, (6, 21))])
def test_a_window_has_the_pixels_of_the_resized_frame(scale, starts):
    """Away from the window's border, beyond which the frame's own pixels are not asked for."""
    frame, size = np.random.default_rng(0).integers(0, 256, (240, 480, 3), np.uint8), (48, 96)
    transform = RandomScaledCrop(*size)
    rows, columns = (Span(start, round(side / scale), 0, side) for start, side in zip(starts, size, strict=True))
    whole = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    labels = cv2.resize(frame[..., 0], None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST_EXACT)
    top, left = (round(start * scale) for start in starts)
    inside = np.s_[2:-2, 2:-2]
    cut = whole[top : top + size[0], left : left + size[1]].astype(int)
    assert np.abs(transform.apply(frame, rows, columns)[inside] - cut[inside]).max() <= 1
    cut = labels[top : top + size[0], left : left + size[1]]
    assert np.array_equal(transform.apply_to_mask(frame[..., 0], rows, columns), cut)


def test_colors_change_as_by_the_librarys_two_transforms():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    draw = np.random.default_rng(0)
    for _ in range(200):
        shifts, brightness = draw.uniform(-0.1, 0.1, 3), draw.uniform(-0.2, 0.2)
        shifted = albucore.add(ramp, (255 * shifts).astype(np.float32))
        expected = albucore.multiply_add(shifted, 1.0, 255 * brightness)
        assert np.array_equal(add_colors(ramp, shifts, brightness), expected)


def test_only_the_window_is_read():
    """A frame that counts what is asked of it: a crop of a sixteenth must not copy the rest."""

    class Counting(np.ndarray):
        asked = 0

        def __getitem__(self, key):
            part = super().__getitem__(key)
            Counting.asked += part.size
            return part

    frame = np.zeros((400, 800, 3), np.uint8).view(Counting)
    RandomScaledCrop(100, 200).apply(frame, Span(50, 100, 0, 100), Span(70, 200, 0, 200))
    assert Counting.asked == 100 * 200 * 3


def test_it_composes_with_the_librarys_transforms_and_repeats_with_their_seed():
    label = block_labels(FRAME, seed=2)
    image = np.repeat(label[..., None], 3, axis=2)
    compose = A.Compose([RandomScaledCrop(*CROP, (1, 2)), A.VerticalFlip(p=0.5), A.Transpose(p=0.5)], seed=7)
    again = A.Compose([RandomScaledCrop(*CROP, (1, 2)), A.VerticalFlip(p=0.5), A.Transpose(p=0.5)], seed=7)
    for _ in range(5):
        one, two = compose(image=image, mask=label), again(image=image, mask=label)
        assert np.array_equal(one["image"], two["image"])
        assert np.array_equal(one["mask"], two["mask"])
        assert sorted(one["mask"].shape) == sorted(CROP)
    assert RandomScaledCrop(*CROP).to_dict()["transform"]["height"] == CROP[0]


def test_resizing_first_can_be_asked_for_and_is_the_librarys():
    image, label = coordinates(), np.zeros(FRAME, np.uint8)
    settings = {"channel_shift": 0.0, "brightness": 0.0, "crop_first": False}
    for seed in range(5):
        ours = PaperAugment((0.5, 2.0), 0.5, **settings)(CROP)(image, label, seed)
        theirs = resize_then_crop(CROP, (0.5, 2.0), 0.5)(image, label, seed)
        assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))
