"""What the page of an evaluation measures, against plain computations of the same."""

import numpy as np
import pytest
from scipy import ndimage

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.training.breakdown import WORST, Breakdown
from fastscnn.training.frame_counts import bootstrap, counts_of, interval, iou_of
from fastscnn.training.label_regions import BAND, SIDES, ObjectSizes, near_boundary

CLASSES = ClassTable("Three", ("road", "car", "sky"), ((9, 9, 9), (90, 9, 9), (9, 9, 90)), (0, 1, 2), (3,))


def drawn(seed, size=(40, 56)):
    """Labels in blocks with ignored ones, and a prediction that is often right; uint8."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.choice([0, 1, 2, 255], (5, 7)), np.ones((8, 8), np.uint8))[: size[0], : size[1]].astype(
        np.uint8
    )
    wrong = rng.random(labels.shape) < 0.1 + 0.05 * seed
    predictions = np.where(wrong | (labels == 255), rng.integers(0, 3, labels.shape), labels).astype(np.uint8)
    return labels, predictions


def measured(count=4):
    breakdown = Breakdown(CLASSES)
    frames = [drawn(seed) for seed in range(count)]
    for place, (labels, predictions) in enumerate(frames):
        breakdown.add(f"frame {place}", np.zeros((*labels.shape, 3), np.uint8), labels, predictions)
    return breakdown, frames


def plain_iou(frames, inside=lambda labels: np.ones(labels.shape, bool)):
    """IoU of each class from sets of pixels."""
    found = []
    for label in range(3):
        both = either = 0
        for labels, predictions in frames:
            counted = inside(labels) & (labels != 255)
            truth, guess = (labels == label) & counted, (predictions == label) & counted
            both, either = both + (truth & guess).sum(), either + (truth | guess).sum()
        found.append(both / either)
    return found


def test_interval_is_that_of_a_plain_loop_over_frames_drawn_anew():
    frames = [drawn(seed) for seed in range(6)]
    counts = np.stack(
        [counts_of(np.histogram2d(*(x[t != 255] for x in (t, p)), bins=range(4))[0].astype(int)) for t, p in frames]
    )
    rng = np.random.default_rng(1)
    loop = [plain_iou([frames[place] for place in rng.integers(0, 6, 6)]) for _ in range(400)]
    found = bootstrap(counts, draws=4000)
    for label in range(3):
        expected = np.percentile([values[label] for values in loop], [2.5, 97.5])
        spread = expected[1] - expected[0]
        assert interval(found.iou[:, label]) == pytest.approx(expected, abs=0.12 * spread)
    assert interval(found.miou) == pytest.approx(np.percentile(np.mean(loop, 1), [2.5, 97.5]), abs=0.01)
    assert (bootstrap(counts, draws=70).iou == bootstrap(counts, draws=70).iou).all(), "the drawing has a seed"


def test_class_that_no_draw_has_gets_no_interval_and_is_left_out_of_the_mean():
    counts = np.zeros((3, 3, 2), np.int64)
    counts[:, :, 0] = [[1, 2, 2], [2, 2, 2], [0, 2, 2]]
    found = bootstrap(counts)
    assert interval(found.iou[:, 1]) is None
    assert (found.miou == found.iou[:, 0]).all()
    assert iou_of(counts[0])[0] == pytest.approx(1 / 3)


def test_pixels_near_a_boundary_are_those_with_another_label_in_the_window():
    labels, _ = drawn(0)
    size = 2 * BAND + 1
    lowest, highest = (f(labels, size=size, mode="nearest") for f in (ndimage.minimum_filter, ndimage.maximum_filter))
    assert (near_boundary(labels) == (lowest != highest)).all()
    assert near_boundary(labels).any() and not near_boundary(np.zeros((20, 30), np.uint8)).any()


def test_iou_near_and_away_is_that_of_these_pixels_alone_and_the_counts_add_up():
    breakdown, frames = measured()
    boundary = breakdown.content("val")["boundary"]
    near, away = boundary["near"], boundary["away"]
    assert list(near["iou"].values()) == pytest.approx(plain_iou(frames, near_boundary))
    assert list(away["iou"].values()) == pytest.approx(plain_iou(frames, lambda labels: ~near_boundary(labels)))
    assert near["pixels"] + away["pixels"] == sum((labels != 255).sum() for labels, _ in frames)
    assert near["miou"] == pytest.approx(np.mean(list(near["iou"].values())))


def test_objects_are_the_connected_regions_of_each_label():
    labels, predictions = drawn(2)
    sizes = ObjectSizes(3)
    sizes.add(labels, predictions)
    for label in range(3):
        regions, count = ndimage.label(labels == label, structure=np.ones((3, 3)))
        expected = np.zeros((4, len(SIDES) + 1), int)
        for region in range(1, count + 1):
            inside = regions == region
            place = sum(inside.sum() >= side**2 for side in SIDES)
            right = (predictions[inside] == label).sum()
            expected[:, place] += [1, right >= 0.5 * inside.sum(), inside.sum(), right]
        found = [table[label] for table in (sizes.objects, sizes.found, sizes.pixels, sizes.right)]
        assert (np.array(found) == expected).all()


def test_worst_frames_are_the_ten_with_the_smallest_share_of_right_pixels():
    breakdown = Breakdown(CLASSES)
    labels = np.zeros((10, 20), np.uint8)
    shares = np.random.default_rng(0).permutation(15)
    for wrong in shares.tolist():
        predictions = labels.copy()
        predictions.flat[: 10 * wrong] = 1
        breakdown.add(f"{wrong}", np.zeros((10, 20, 3), np.uint8), labels, predictions)
    breakdown.add("unlabelled", np.zeros((10, 20, 3), np.uint8), np.full_like(labels, 255), labels)
    assert [frame.name for frame in breakdown.worst] == [str(wrong) for wrong in range(14, 14 - WORST, -1)]
    assert breakdown.worst[0].accuracy == pytest.approx(0.3)
    assert breakdown.worst[0].confused == [("road", "car", 1.0)]


def test_pictures_of_large_frames_are_small_and_one_frame_has_no_interval():
    breakdown = Breakdown(CLASSES)
    labels = np.zeros((600, 1200), np.uint8)
    breakdown.add("large", np.zeros((600, 1200, 3), np.uint8), labels, labels)
    (frame,) = breakdown.worst
    for picture in (frame.picture, frame.truth, frame.prediction, frame.error):
        assert picture.shape == (200, 400, 3)
    assert set(breakdown.content("val")["intervals"].values()) == {None}
