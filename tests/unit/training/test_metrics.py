"""IoU against scikit-learn and the official Cityscapes evaluation."""

import sys

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from fastscnn.data.datasets.classes import CAMVID, CITYSCAPES
from fastscnn.training.metrics import ConfusionMatrix, score


def scored(predictions, labels, classes=CITYSCAPES, batches=1):
    metric = ConfusionMatrix(classes)
    for part, truth in zip(np.array_split(predictions, batches), np.array_split(labels, batches), strict=True):
        metric.update(torch.from_numpy(part), torch.from_numpy(truth))
    return metric.compute(), score(metric.compute(), classes)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("batches", [1, 3])
def test_iou_equals_scikit_learn_on_random_labels(seed, batches):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 11, (6, 20, 30)).astype(np.uint8)
    predictions = np.where(rng.random(labels.shape) < 0.6, labels, rng.integers(0, 11, labels.shape)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.2] = 255
    matrix, scores = scored(predictions, labels, CAMVID, batches)
    valid = labels != 255
    assert np.array_equal(matrix.numpy(), confusion_matrix(labels[valid], predictions[valid], labels=range(11)))
    expected = jaccard_score(labels[valid], predictions[valid], labels=range(11), average=None)
    np.testing.assert_allclose(list(scores.iou.values()), expected, rtol=0, atol=1e-12)
    assert scores.miou == pytest.approx(expected.mean(), abs=1e-12)
    assert scores.accuracy == pytest.approx(accuracy_score(labels[valid], predictions[valid]), abs=1e-12)
    assert scores.pixels == valid.sum()


def test_class_that_never_occurs_is_nan_left_out_of_the_mean_and_said():
    labels = np.zeros((1, 4, 4), np.uint8)
    labels[0, 2:] = 1
    _, scores = scored(labels, labels, CAMVID)
    assert scores.absent == list(CAMVID.names[2:])
    assert np.isnan(scores.iou["car"])
    assert scores.miou == 1.0


def test_class_that_is_only_predicted_counts_as_zero():
    labels = np.zeros((1, 4, 4), np.uint8)
    predictions = labels.copy()
    predictions[0, 0] = 8
    _, scores = scored(predictions, labels, CAMVID)
    assert scores.iou["car"] == 0.0
    assert scores.miou == pytest.approx((12 / 16 + 0) / 2)


def test_nothing_labelled_is_nan_and_no_crash():
    _, scores = scored(np.zeros((1, 3, 3), np.uint8), np.full((1, 3, 3), 255, np.uint8))
    assert scores.pixels == 0
    assert np.isnan(scores.miou)
    assert np.isnan(scores.accuracy)


def test_counts_stay_exact_where_float32_would_not():
    metric = ConfusionMatrix(CAMVID)
    labels = torch.zeros(1, 5000, 5000, dtype=torch.uint8)
    metric.update(labels, labels)
    metric.update(labels[:, :1, :1], labels[:, :1, :1])
    assert int(metric.compute()[0, 0]) == 25_000_001


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ"):
        ConfusionMatrix(CAMVID).update(torch.zeros(1, 2, 2), torch.zeros(1, 3, 3))


@pytest.fixture
def official(monkeypatch, tmp_path):
    monkeypatch.setenv("CITYSCAPES_DATASET", str(tmp_path))
    monkeypatch.delitem(sys.modules, "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", raising=False)
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as module

    module.args.quiet = True
    module.args.JSONOutput = False
    module.args.evalInstLevelScore = False
    return module


def test_scores_equal_the_official_cityscapes_evaluation_on_written_label_files(official, tmp_path):
    rng = np.random.default_rng(0)
    truths, predictions, truth_files, prediction_files = [], [], [], []
    for frame in range(3):
        label_ids = rng.integers(0, 34, (40, 60)).astype(np.uint8)
        label_ids[label_ids == 31] = 26  # no train at all: an absent class
        labels = CITYSCAPES.encode(label_ids)
        guess = np.where(rng.random(labels.shape) < 0.5, labels, rng.integers(0, 16, labels.shape)).astype(np.uint8)
        guess[guess == 255] = 0
        truths.append(labels)
        predictions.append(guess)
        truth_files.append(str(tmp_path / f"berlin_000000_00000{frame}_gtFine_labelIds.png"))
        prediction_files.append(str(tmp_path / f"berlin_000000_00000{frame}_pred_labelIds.png"))
        cv2.imwrite(truth_files[-1], label_ids)
        cv2.imwrite(prediction_files[-1], CITYSCAPES.decode(guess))
    results = official.evaluateImgLists(prediction_files, truth_files, official.args)
    _, scores = scored(np.stack(predictions), np.stack(truths))
    assert scores.absent == ["train"]
    for name, iou in scores.iou.items():
        assert iou == pytest.approx(results["classScores"][name], abs=1e-6, nan_ok=True)
    for name, iou in scores.category_iou.items():
        assert iou == pytest.approx(results["categoryScores"][name], abs=1e-6, nan_ok=True)
    assert scores.miou == pytest.approx(results["averageScoreClasses"], abs=1e-6)
    assert scores.category_miou == pytest.approx(results["averageScoreCategories"], abs=1e-6)
