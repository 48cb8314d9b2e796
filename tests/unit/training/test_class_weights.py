"""Weights of the classes from the training set's pixels, against the formulas and a count of the label files."""

import cv2
import numpy as np
import pytest
import torch

from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.store import class_pixels as module
from fastscnn.training.class_weights import METHODS, check_class_weights, class_weights
from fastscnn.training.losses import SegmentationLoss
from fastscnn.utils.errors import RequestError
from helpers import write_cityscapes, write_png

CLASSES = CITYSCAPES.num_classes


@pytest.fixture
def root(tmp_path):
    return write_cityscapes(tmp_path / "data", size=(32, 64), train=5, val=3)


def make(root, **settings):
    return SegmentationData(dataset="fine", root=root, crop_size=(32, 64), num_workers=0, **settings)


def counts_of_files(root, *splits):
    """Pixels of each class in each frame, from the files alone."""
    files = sorted(file for split in splits for file in (root / "gtFine" / split).rglob("*labelIds.png"))
    found = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]
    return np.array([[int((label == value).sum()) for value in CITYSCAPES.file_values] for label in found])


@pytest.mark.parametrize("stored", [True, False])
def test_counts_are_those_of_the_label_files_with_and_without_a_store(root, tmp_path, stored):
    data = make(root, store=tmp_path / "store" if stored else "off")
    data.prepare_data()
    assert (data.class_pixels.counts == counts_of_files(root, "train")).all()


def test_joined_splits_are_counted_together(root):
    data = make(root, train_splits=("train", "val"))
    assert (data.class_pixels.counts.sum(0) == counts_of_files(root, "train", "val").sum(0)).all()


def test_places_are_pixels_of_their_class(root):
    data = make(root)
    pixels, loader = data.class_pixels, data.whole_frames("train")
    for number, sample in enumerate(loader):
        label = sample["label"][0].numpy()
        assert pixels.widths[number] == label.shape[1]
        for train_id in range(CLASSES):
            places = pixels.points[number, train_id]
            if pixels.counts[number, train_id]:
                assert (label.reshape(-1)[places] == train_id).all()
                assert len(set(places.tolist())) == min(module.POINTS, pixels.counts[number, train_id])
            else:
                assert (places == -1).all()


def test_frames_are_counted_once_and_a_changed_label_is_counted_anew(root, tmp_path, monkeypatch):
    calls = []
    original = module._of_label
    monkeypatch.setattr(module, "_of_label", lambda *given: calls.append(1) or original(*given))

    def counts():
        data = make(root, store=tmp_path / "store")
        data.prepare_data()
        return data.class_pixels.counts

    first = counts()
    assert (counts() == first).all()
    assert len(calls) == 5
    label = next((root / "gtFine" / "train").rglob("*labelIds.png"))
    write_png(label, np.full((32, 64), 7, np.uint8))
    assert (counts() == counts_of_files(root, "train")).all()
    assert len(calls) == 6


def test_broken_file_of_counts_is_made_anew(root, tmp_path):
    data = make(root, store=tmp_path / "store")
    data.prepare_data()
    assert data.class_pixels.counts.any()
    (kept,) = (tmp_path / "store").rglob(module.NAME)
    kept.write_bytes(kept.read_bytes()[:50])
    again = make(root, store=tmp_path / "store")
    assert (again.class_pixels.counts == counts_of_files(root, "train")).all()


LOSSES = [{}, {"label_smoothing": 0.1}, {"hard_pixels": {"probability": 0.7}}, {"fused": False}]
COUNTS = np.array([[600, 300, 100, 0], [900, 0, 100, 0]])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("enet", [1 / np.log(1.02 + share) for share in (0.75, 0.15, 0.1, 0)]),
        ("median", [0.3 / 0.75, 1, 0.3 / 0.1, 0]),
        ("sqrt", np.array([1, np.sqrt(5), np.sqrt(7.5), 0]) * 3 / (1 + np.sqrt(5) + np.sqrt(7.5))),
    ],
)
def test_methods_are_their_formulas(method, expected):
    assert METHODS[method](COUNTS) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_takes_the_weights_in_every_form(root, method, loss):
    weighed = class_weights(method, make(root))
    assert list(weighed.weights) == list(CITYSCAPES.names)
    built = SegmentationLoss(class_weights=list(weighed.weights.values()), num_classes=CLASSES, **loss)
    logits = torch.randn(1, CLASSES, 4, 8, generator=torch.manual_seed(0))
    labels = torch.arange(32 * 64).reshape(1, 32, 64).remainder(CLASSES).to(torch.uint8)
    plain = SegmentationLoss(num_classes=CLASSES, **loss)
    assert torch.isfinite(built(logits, (), labels))
    assert built(logits, (), labels) != plain(logits, (), labels)


@pytest.mark.parametrize("method", METHODS)
def test_class_that_never_occurs_weighs_nothing(root, method):
    for label in (root / "gtFine" / "train").rglob("*labelIds.png"):
        values = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
        values[values == CITYSCAPES.file_values[2]] = CITYSCAPES.file_values[0]
        write_png(label, values)
    counts = counts_of_files(root, "train").sum(0)
    weighed = class_weights(method, make(root)).weights
    assert counts[2] == 0
    assert [weight > 0 for weight in weighed.values()] == [bool(count) for count in counts]


def test_record_and_line_say_what_was_counted(root):
    weighed = class_weights("enet", make(root))
    record = weighed.record()
    assert record["method"] == "enet"
    assert list(record["pixels"].values()) == counts_of_files(root, "train").sum(0).tolist()
    assert "road" in str(weighed)
    assert f"{sum(record['pixels'].values()):,}" in str(weighed)


def test_word_that_is_no_method_is_refused():
    with pytest.raises(RequestError) as found:
        check_class_weights("balanced")
    assert (found.value.key, "enet" in found.value.fix) == ("loss.class_weights", True)
    for setting in (None, "enet", [1, 2]):
        check_class_weights(setting)
