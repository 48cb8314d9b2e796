"""Predicting images and folders, once and again, against what the network says itself."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_fusing import used

from fastscnn.data.classes import CITYSCAPES
from fastscnn.errors import RequestError
from fastscnn.inference import predict as prediction
from fastscnn.inference.predict import predict
from fastscnn.inference.segmenter import Segmenter
from fastscnn.network.fast_scnn import FastSCNN
from fastscnn.runs.checkpoint import META


def write_checkpoint(path, classes=CITYSCAPES, seed=0):
    torch.manual_seed(seed)
    network = used(FastSCNN(classes.num_classes))
    config = {"model": {"name": "fast_scnn", "in_channels": 3, "activation": "relu", "skip": "keep", "dropout": 0.1}}
    content = {
        "state_dict": {f"network.{name}": tensor for name, tensor in network.state_dict().items()},
        META: {"config": config, "classes": asdict(classes)},
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt")


@pytest.fixture(scope="module")
def segmenter(checkpoint):
    return Segmenter.from_checkpoint(checkpoint)


def picture(seed=0, size=(40, 56)):
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def write_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[:, :, ::-1])


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for seed, name in enumerate(("a.png", "b.bmp", "deeper/a.png")):
        write_image(folder / name, picture(seed))
    return folder


def settings(checkpoint, given, output, **others):
    return {
        "checkpoint": str(checkpoint),
        "input": str(given),
        "output": str(output),
        "write": "auto",
        "label_values": "train_ids",
        "opacity": 0.5,
        "backend": "torch",
        "device": "auto",
        "precision": "auto",
        "threads": None,
        "max_pixels": 200_000_000,
        "overwrite": False,
        **others,
    }


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_folder_is_predicted_with_its_structure_and_labels_are_the_segmenters(checkpoint, segmenter, photos, tmp_path):
    outcome = predict(settings(checkpoint, photos, tmp_path / "out"))
    assert (outcome.done, outcome.there, outcome.failed) == (3, 0, {})
    kinds = [f"{name}_{kind}.png" for name in ("a", "b", "deeper/a") for kind in ("labels", "overlay")]
    assert files(tmp_path / "out") == sorted([*kinds, "predict.json"])
    for seed, name in enumerate(("a", "b", "deeper/a")):
        labels = cv2.imread(str(tmp_path / "out" / f"{name}_labels.png"), cv2.IMREAD_UNCHANGED)
        assert labels.dtype == np.uint8
        assert (labels == segmenter(picture(seed))).all()
    note = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert note["classes"][13] == {"train_id": 13, "file_value": 26, "name": "car", "color": [0, 0, 142]}


def test_label_values_and_kinds_are_as_chosen(checkpoint, segmenter, photos, tmp_path):
    chosen = settings(
        checkpoint, photos / "a.png", tmp_path / "out", write=["color", "labels"], label_values="file_values"
    )
    predict(chosen)
    assert files(tmp_path / "out") == ["a_color.png", "a_labels.png", "predict.json"]
    labels = segmenter(picture(0))
    written = cv2.imread(str(tmp_path / "out/a_labels.png"), cv2.IMREAD_UNCHANGED)
    assert (written == np.array(CITYSCAPES.file_values)[labels]).all()
    color = cv2.imread(str(tmp_path / "out/a_color.png"))[:, :, ::-1]
    assert (color == np.array(CITYSCAPES.colors)[labels]).all()


def test_called_again_only_what_is_missing_is_made(checkpoint, photos, tmp_path):
    chosen = settings(checkpoint, photos, tmp_path / "out")
    predict(chosen)
    (tmp_path / "out/b_overlay.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*a_*.png")}
    outcome = predict(chosen)
    assert (outcome.done, outcome.there) == (1, 2)
    assert (tmp_path / "out/b_overlay.png").exists()
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_weights_or_settings_are_not_mixed_into_a_folder(checkpoint, photos, tmp_path):
    predict(settings(checkpoint, photos, tmp_path / "out"))
    other = write_checkpoint(tmp_path / "other.ckpt", seed=1)
    with pytest.raises(RequestError, match=r"holds predictions of another checkpoint.*overwrite=true"):
        predict(settings(other, photos, tmp_path / "out"))
    with pytest.raises(RequestError, match=r"holds predictions of opacity=0\.5"):
        predict(settings(checkpoint, photos, tmp_path / "out", opacity=0.3))
    outcome = predict(settings(other, photos, tmp_path / "out", overwrite=True))
    assert (outcome.done, outcome.there) == (3, 0)
    labels = cv2.imread(str(tmp_path / "out/a_labels.png"), cv2.IMREAD_UNCHANGED)
    assert (labels == Segmenter.from_checkpoint(other)(picture(0))).all()


def test_broken_files_are_told_and_the_others_are_done(checkpoint, photos, tmp_path):
    (photos / "empty.png").touch()
    (photos / "half.png").write_bytes((photos / "a.png").read_bytes()[:60])
    outcome = predict(settings(checkpoint, photos, tmp_path / "out"))
    assert outcome.done == 3
    assert {Path(path).name: reason for path, reason in outcome.failed.items()} == {
        "empty.png": "is no whole image (0 bytes). Copy or download it again.",
        "half.png": "is no whole image (60 bytes). Copy or download it again.",
    }
    assert not any("unfinished" in name or "half" in name for name in files(tmp_path / "out"))


def test_output_that_is_a_file_and_unknown_kinds_are_refused(checkpoint, photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="is a file"):
        predict(settings(checkpoint, photos, tmp_path / "file"))
    with pytest.raises(RequestError, match="write=heat is unknown"):
        predict(settings(checkpoint, photos, tmp_path / "out", write=["heat"]))


def test_stopped_run_says_how_to_go_on(checkpoint, photos, tmp_path, monkeypatch):
    def stop(segmenter, images, request):
        yield images[0], None
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_images", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        predict(settings(checkpoint, photos, tmp_path / "out"))
    assert stopped.value.__notes__ == ["1 done; the same command goes on with the other 2."]


def test_what_was_overwritten_half_way_goes_on_with_nothing_old(checkpoint, photos, tmp_path, monkeypatch):
    predict(settings(checkpoint, photos, tmp_path / "out"))
    other = write_checkpoint(tmp_path / "other.ckpt", seed=1)
    real = prediction.predict_images

    def stop(segmenter, images, request):
        yield from real(segmenter, images[:1], request)
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_images", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        predict(settings(other, photos, tmp_path / "out", overwrite=True))
    assert "without overwrite=true goes on with the other 2" in stopped.value.__notes__[0]
    monkeypatch.undo()
    outcome = predict(settings(other, photos, tmp_path / "out"))
    assert (outcome.there, outcome.done) == (1, 2)
    found = Segmenter.from_checkpoint(other)
    for seed, name in enumerate(("a", "b", "deeper/a")):
        labels = cv2.imread(str(tmp_path / "out" / f"{name}_labels.png"), cv2.IMREAD_UNCHANGED)
        assert (labels == found(picture(seed))).all()


def test_image_that_changed_is_predicted_anew(checkpoint, segmenter, photos, tmp_path):
    predict(settings(checkpoint, photos, tmp_path / "out"))
    write_image(photos / "a.png", picture(7))
    outcome = predict(settings(checkpoint, photos, tmp_path / "out"))
    assert (outcome.there, outcome.done) == (2, 1)
    labels = cv2.imread(str(tmp_path / "out/a_labels.png"), cv2.IMREAD_UNCHANGED)
    assert (labels == segmenter(picture(7))).all()


def test_another_folder_may_join_but_not_under_the_same_names(checkpoint, photos, tmp_path):
    predict(settings(checkpoint, photos, tmp_path / "out"))
    write_image(tmp_path / "more" / "c.png", picture(3))
    assert predict(settings(checkpoint, tmp_path / "more", tmp_path / "out")).done == 1
    assert predict(settings(checkpoint, photos, tmp_path / "out")).there == 3
    write_image(tmp_path / "others" / "a.png", picture(4))
    for path in (tmp_path / "others").iterdir():
        os.utime(path, (0, 0))
    with pytest.raises(RequestError, match=r"holds a_labels\.png of an input in .*more.*name another folder"):
        predict(settings(checkpoint, tmp_path / "others", tmp_path / "out"))


def test_names_that_look_like_numbers_are_names(checkpoint, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos.rename(tmp_path / "2023")
    assert predict(settings(checkpoint, 2023, 0) | {"input": 2023, "output": 2024}).done == 3
    assert len(files(tmp_path / "2024")) == 7
