"""The augmentation of one frame and its label."""

import pickle
import warnings
from collections import Counter

import albumentations
import cv2
import numpy as np
import pytest

from fastscnn.data.transforms.augment import Augmentation, PaperAugment, no_augment
from helpers import block_labels, paint, refused

MEAN_COLOUR = (124, 116, 104)
GEOMETRY_ONLY = {"channel_shift": 0.0, "brightness": 0.0}
LABEL = block_labels((64, 128), seed=0)
IMAGE = paint(LABEL)


def gradient(size: tuple[int, int]) -> np.ndarray:
    """Picture whose red is the row and whose green is the column; blue is 200, which no padding has."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([rows, columns, np.full(size, 200)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("crop", [(64, 128), (32, 48), (200, 300), (33, 300), (1, 1)])
def test_every_result_has_the_size_of_the_crop(crop):
    for augment in (PaperAugment()(crop), no_augment(crop)):
        for seed in range(10):
            image, label = augment(IMAGE, LABEL, seed)
            assert (image.shape, label.shape) == ((*crop, 3), crop)
            assert (image.dtype, label.dtype) == (np.uint8, np.uint8)


def test_a_seed_repeats_and_seeds_differ():
    one, other = PaperAugment()((64, 128)), PaperAugment()((64, 128))
    results = [one(IMAGE, LABEL, seed) for seed in range(20)]
    again = [other(IMAGE, LABEL, seed) for seed in reversed(range(20))][::-1]
    for first, second in zip(results, again, strict=True):
        assert np.array_equal(first[0], second[0])
        assert np.array_equal(first[1], second[1])
    assert len({image.tobytes() for image, _ in results}) == 20


def test_labels_are_only_those_of_the_frame_and_255():
    augment = PaperAugment()((64, 128))
    present = {*np.unique(LABEL).tolist(), 255}
    for seed in range(50):
        assert set(np.unique(augment(IMAGE, LABEL, seed)[1]).tolist()) <= present


def test_padding_is_ignored_and_has_the_mean_colour():
    augment = PaperAugment(scale=(0.5, 0.9), **GEOMETRY_ONLY)((100, 200))
    for seed in range(20):
        image, label = augment(gradient((64, 128)), np.zeros((64, 128), np.uint8), seed)
        padding = image[..., 2] != 200
        assert np.array_equal(label == 255, padding)
        assert (image[padding] == MEAN_COLOUR).all()


def test_a_frame_smaller_than_the_crop_is_placed_anywhere_in_it():
    augment = PaperAugment(scale=(1, 1), **GEOMETRY_ONLY)((100, 200))
    corners = {tuple(np.argwhere(augment(IMAGE, LABEL, seed)[1] != 255)[0].tolist()) for seed in range(100)}
    assert len(corners) > 80


@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.75, 0.75), (1, 1), (1.3, 1.3), (2, 2), (0.5, 2.0)])
def test_image_and_label_stay_together(scale):
    """Away from the edges of a label, the colour is still the label's; at them, the two agree to half a pixel."""
    augment = PaperAugment(scale=scale, **GEOMETRY_ONLY)((96, 160))
    label = block_labels((96, 160), seed=4, block=16)
    for seed in range(15):
        image, moved = augment(paint(label), label, seed)
        inside = cv2.erode(moved, np.ones((5, 5))) == cv2.dilate(moved, np.ones((5, 5)))
        inside &= moved != 255
        inside[:2] = inside[-2:] = inside[:, :2] = inside[:, -2:] = False
        assert inside.mean() > 0.05
        assert (image[inside] == paint(moved)[inside]).all()


@pytest.mark.parametrize("scale", [0.55, 0.7, 1.6, 2.0])
def test_the_edge_of_a_label_is_the_edge_in_the_image(scale):
    """Over many places of an edge, the label's lies on average where the image's colour passes the middle."""
    augment = PaperAugment(scale=(scale, scale), flip=0.0, **GEOMETRY_ONLY)((60, 700))
    offsets = []
    for edge in range(40, 72):
        label = np.zeros((40, 300), np.uint8)
        label[:, edge:] = 30
        image, moved = augment(np.repeat(label[..., None] * 8, 3, axis=2), label, edge)
        row = np.argwhere(moved == 0)[0][0]
        shown = moved[row] != 255
        offsets.append((moved[row, shown] == 30).sum() - (image[row, shown, 0] / 240).sum())
    assert abs(np.mean(offsets)) < 0.1
    assert np.abs(offsets).max() <= 0.51


def is_flipped(image: np.ndarray) -> bool:
    green = image[image.shape[0] // 2, :, 1].astype(int)
    shown = green[image[image.shape[0] // 2, :, 2] == 200]
    return bool(shown[0] > shown[-1])


def test_half_of_the_frames_are_flipped_at_any_scale():
    augment = PaperAugment(**GEOMETRY_ONLY)((64, 128))
    picture = gradient((64, 128))
    flipped = Counter()
    for seed in range(600):
        image, label = augment(picture, LABEL, seed)
        flipped[bool((label == 255).any()), is_flipped(image)] += 1
    for small in (True, False):
        share = flipped[small, True] / (flipped[small, True] + flipped[small, False])
        assert 0.38 < share < 0.62, f"scaled down: {small}"


def test_scales_fill_their_range_evenly():
    augment = PaperAugment(scale=(0.5, 2.0), **GEOMETRY_ONLY)((200, 300))
    frame = np.zeros((60, 80, 3), np.uint8)
    covered = [(augment(frame, frame[..., 0], seed)[1] != 255).sum() for seed in range(400)]
    scales = np.sqrt(np.array(covered) / (60 * 80))
    assert 0.48 < scales.min() < 0.52
    assert 1.95 < scales.max() < 2.01
    quarters = np.histogram(scales, bins=4, range=(0.48, 2.01))[0] / 400
    assert (np.abs(quarters - 0.25) < 0.08).all()


def test_the_colour_of_each_channel_is_shifted_on_its_own():
    augment = PaperAugment(scale=(1, 1), channel_shift=20, brightness=0)((8, 8))
    grey = np.full((8, 8, 3), 128, np.uint8)
    colours = np.array([augment(grey, grey[..., 0], seed)[0][0, 0] for seed in range(300)], int) - 128
    assert 17 <= np.abs(colours).max() <= 20
    assert (np.abs(np.corrcoef(colours.T)[np.triu_indices(3, 1)]) < 0.2).all()
    assert (np.abs(colours.mean(axis=0)) < 3).all()


def test_brightness_moves_all_channels_alike():
    augment = PaperAugment(scale=(1, 1), channel_shift=0, brightness=0.2)((8, 8))
    grey = np.full((8, 8, 3), 128, np.uint8)
    colours = np.array([augment(grey, grey[..., 0], seed)[0][0, 0] for seed in range(300)], int) - 128
    assert (colours == colours[:, :1]).all()
    assert 46 <= np.abs(colours).max() <= 51
    assert colours.min() < -40 < 40 < colours.max()


def test_settings_that_change_nothing_change_nothing():
    augment = PaperAugment(scale=(1, 1), flip=0.0, **GEOMETRY_ONLY)((64, 128))
    image, label = augment(IMAGE, LABEL, 5)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(label, LABEL)


def test_without_augmentation_a_frame_of_the_crop_is_itself_and_others_are_centred():
    image, label = no_augment((64, 128))(IMAGE, LABEL, 0)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(label, LABEL)
    image, label = no_augment((32, 64))(IMAGE, LABEL, 0)
    assert np.array_equal(image, IMAGE[16:48, 32:96])
    image, label = no_augment((66, 132))(IMAGE, LABEL, 0)
    assert np.array_equal(image[1:-1, 2:-2], IMAGE)
    assert (label[0] == 255).all()


def test_the_frame_that_was_given_is_left_as_it_was():
    image, label = IMAGE.copy(), LABEL.copy()
    PaperAugment()((64, 128))(image, label, 1)
    assert np.array_equal(image, IMAGE)
    assert np.array_equal(label, LABEL)


def test_the_global_random_states_are_neither_used_nor_moved():
    augment = PaperAugment()((64, 128))
    np.random.seed(1)
    first = augment(IMAGE, LABEL, 3)[0]
    state = np.random.get_state()[1].copy()
    np.random.seed(2)
    assert np.array_equal(augment(IMAGE, LABEL, 3)[0], first)
    np.random.seed(1)
    assert np.array_equal(np.random.get_state()[1], state)


def test_it_survives_the_way_to_another_process():
    augment = PaperAugment()((64, 128))
    copy = pickle.loads(pickle.dumps(augment))
    assert np.array_equal(copy(IMAGE, LABEL, 9)[0], augment(IMAGE, LABEL, 9)[0])


def test_an_argument_that_albumentations_would_ignore_is_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserWarning, match="mask_value"):
            Augmentation(lambda: albumentations.PadIfNeeded(8, 8, mask_value=255))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("scale", (2.0, 0.5)),
        ("scale", (0, 1)),
        ("scale", ("a", "b")),
        ("flip", 1.5),
        ("channel_shift", -1),
        ("channel_shift", 256),
        ("brightness", 20),
        ("brightness", "much"),
        ("crop_first", "yes"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_its_key(setting, value):
    with refused(f"augment.{setting}"):
        PaperAugment(**{setting: value})
