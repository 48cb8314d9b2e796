"""Predicting images and folders, once and again, against what the network says itself."""

import errno
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.inference.segmenter import Segmenter
from fastscnn.predict import predict as prediction
from fastscnn.predict.manifest import Input, Manifest
from fastscnn.predict.predict import predict
from helpers import files_in, predict_settings, random_image, refused, write_checkpoint, write_image

pytestmark = pytest.mark.usefixtures("shallow_networks")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt")


@pytest.fixture(scope="module")
def segmenter(checkpoint):
    return Segmenter.from_checkpoint(checkpoint)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for seed, name in enumerate(("a.png", "b.bmp", "deeper/a.png")):
        write_image(folder / name, random_image(seed))
    return folder


def test_folder_is_predicted_with_its_structure_and_labels_are_the_segmenters(
    checkpoint, segmenter, photos, tmp_path, capsys
):
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    last = capsys.readouterr().out.splitlines()[-1]
    speed = r"[\d,.]+ images/s"
    whole = rf"predicting: 3 images in .+, {speed} with reading and writing, {speed} by the network alone"
    assert re.fullmatch(rf"{whole}; busy: reading \d+%, network \d+%, writing \d+%", last)
    assert (outcome.done, outcome.there, outcome.failed) == (3, 0, {})
    kinds = [f"{name}_{kind}.png" for name in ("a", "b", "deeper/a") for kind in ("labels", "overlay")]
    assert files_in(tmp_path / "out") == sorted([*kinds, "predict.json"])
    for seed, name in enumerate(("a", "b", "deeper/a")):
        labels = cv2.imread(str(tmp_path / "out" / f"{name}_labels.png"), cv2.IMREAD_UNCHANGED)
        assert labels.dtype == np.uint8
        assert (labels == segmenter(random_image(seed))).all()
    manifest = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert manifest["classes"][13] == {"train_id": 13, "file_value": 26, "name": "car", "color": [0, 0, 142]}


def test_label_values_and_kinds_are_as_chosen(checkpoint, segmenter, photos, tmp_path):
    chosen = predict_settings(
        checkpoint, photos / "a.png", tmp_path / "out", write=["color", "labels"], label_values="file_values"
    )
    predict(chosen)
    assert files_in(tmp_path / "out") == ["a_color.png", "a_labels.png", "predict.json"]
    labels = segmenter(random_image(0))
    written = cv2.imread(str(tmp_path / "out/a_labels.png"), cv2.IMREAD_UNCHANGED)
    assert (written == np.array(CITYSCAPES.file_values)[labels]).all()
    color = cv2.imread(str(tmp_path / "out/a_color.png"))[:, :, ::-1]
    assert (color == np.array(CITYSCAPES.colors)[labels]).all()


def test_confidence_is_a_grey_picture_and_unknown_pixels_have_the_ignored_value(
    checkpoint, segmenter, photos, tmp_path
):
    labels, confidence = segmenter.confidence(random_image(0))
    limit = float(np.median(confidence))
    for values, unknown in (("train_ids", 255), ("file_values", 0)):
        out = tmp_path / values
        chosen = {"write": ["confidence", "labels"], "unknown_below": limit, "label_values": values}
        predict(predict_settings(checkpoint, photos / "a.png", out, **chosen))
        assert files_in(out) == ["a_confidence.png", "a_labels.png", "predict.json"]
        grey = cv2.imread(str(out / "a_confidence.png"), cv2.IMREAD_UNCHANGED)
        assert grey.shape == labels.shape
        assert abs(grey / 255 - confidence).max() <= 0.5 / 255 + 1e-6
        written = cv2.imread(str(out / "a_labels.png"), cv2.IMREAD_UNCHANGED)
        named = labels if values == "train_ids" else segmenter.classes.decode(labels)
        assert (written == np.where(confidence < limit, unknown, named)).all()
        assert json.loads((out / "predict.json").read_text())["unknown_below"] == limit


def test_large_images_are_shrunk_for_the_network_which_is_said_once(checkpoint, photos, tmp_path, capsys):
    """Images of 40x56; one in the middle has 20x28."""
    write_image(photos / "a.png", random_image(0)[:20, :28])
    predict(predict_settings(checkpoint, photos, tmp_path / "out", longest_side=28))
    said = [line for line in capsys.readouterr().out.splitlines() if "longest_side" in line]
    assert len(said) == 1
    assert said[0].startswith("b.bmp has 56x40 pixels, and the network sees it at 28x20")
    small = Segmenter.from_checkpoint(checkpoint, longest_side=28)
    for seed, name in ((1, "b"), (2, "deeper/a")):
        labels = cv2.imread(str(tmp_path / "out" / f"{name}_labels.png"), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (40, 56)
        assert (labels == small(random_image(seed))).all()
    assert json.loads((tmp_path / "out/predict.json").read_text())["longest_side"] == 28
    with refused("output", "holds predictions of longest_side=28"):
        predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    whole = tmp_path / "whole"
    predict(predict_settings(checkpoint, photos, whole))
    assert "longest_side" not in capsys.readouterr().out
    with refused("output", "holds predictions of longest_side=null"):
        predict(predict_settings(checkpoint, photos, whole, longest_side=28))
    content = json.loads((whole / "predict.json").read_text())
    del content["longest_side"]
    (whole / "predict.json").write_text(json.dumps(content))
    with refused("output", "of an earlier version, which did not have longest_side"):
        predict(predict_settings(checkpoint, photos, whole, longest_side=28))
    assert not predict(predict_settings(checkpoint, photos, whole)).failed, "it had no limit either"


def test_called_again_only_what_is_missing_is_made(checkpoint, photos, tmp_path):
    chosen = predict_settings(checkpoint, photos, tmp_path / "out")
    predict(chosen)
    (tmp_path / "out/b_overlay.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*a_*.png")}
    outcome = predict(chosen)
    assert (outcome.done, outcome.there) == (1, 2)
    assert (tmp_path / "out/b_overlay.png").exists()
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_weights_or_settings_are_not_mixed_into_a_folder(checkpoint, photos, tmp_path):
    predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    other = write_checkpoint(tmp_path / "other.ckpt", seed=1)
    with refused("output", "predictions of another checkpoint", fix="overwrite=true"):
        predict(predict_settings(other, photos, tmp_path / "out"))
    with refused("output", "predictions of opacity=0.5", fix="overwrite=true"):
        predict(predict_settings(checkpoint, photos, tmp_path / "out", opacity=0.3))
    outcome = predict(predict_settings(other, photos, tmp_path / "out", overwrite=True))
    assert (outcome.done, outcome.there) == (3, 0)
    labels = cv2.imread(str(tmp_path / "out/a_labels.png"), cv2.IMREAD_UNCHANGED)
    assert (labels == Segmenter.from_checkpoint(other)(random_image(0))).all()


def test_broken_files_are_told_and_the_others_are_done(checkpoint, photos, tmp_path):
    (photos / "empty.png").touch()
    (photos / "half.png").write_bytes((photos / "a.png").read_bytes()[:60])
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    assert outcome.done == 3
    assert {Path(path).name: reason for path, reason in outcome.failed.items()} == {
        "empty.png": "is not a complete image (0 bytes). Copy or download it again.",
        "half.png": "is not a complete image (60 bytes). Copy or download it again.",
    }
    assert not any("unfinished" in name or "half" in name for name in files_in(tmp_path / "out"))


def test_output_that_is_a_file_and_unknown_kinds_are_refused(checkpoint, photos, tmp_path):
    (tmp_path / "file").touch()
    with refused("output", "is a file"):
        predict(predict_settings(checkpoint, photos, tmp_path / "file"))
    with refused("write", "heat", fix="labels, color, overlay, side_by_side"):
        predict(predict_settings(checkpoint, photos, tmp_path / "out", write=["heat"]))


def test_stopped_run_says_how_to_go_on(checkpoint, photos, tmp_path, monkeypatch):
    def stop(segmenter, images, request, busy):
        yield images[0], None
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_images", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    assert stopped.value.__notes__ == ["1 done; the same command goes on with the other 2."]


def test_what_was_overwritten_half_way_goes_on_with_nothing_old(checkpoint, photos, tmp_path, monkeypatch):
    predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    other = write_checkpoint(tmp_path / "other.ckpt", seed=1)
    real = prediction.predict_images

    def stop(segmenter, images, request, busy):
        yield from real(segmenter, images[:1], request)
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_images", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        predict(predict_settings(other, photos, tmp_path / "out", overwrite=True))
    assert "without overwrite=true goes on with the other 2" in stopped.value.__notes__[0]
    monkeypatch.undo()
    outcome = predict(predict_settings(other, photos, tmp_path / "out"))
    assert (outcome.there, outcome.done) == (1, 2)
    found = Segmenter.from_checkpoint(other)
    for seed, name in enumerate(("a", "b", "deeper/a")):
        labels = cv2.imread(str(tmp_path / "out" / f"{name}_labels.png"), cv2.IMREAD_UNCHANGED)
        assert (labels == found(random_image(seed))).all()


@pytest.mark.parametrize("how", ["another inode", "another size", "another time"])
def test_image_that_was_replaced_with_an_older_time_is_predicted_anew(checkpoint, segmenter, photos, tmp_path, how):
    """As `cp -p` and `rsync -t` do: the new file is older than the prediction of the one before."""
    predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    before = (photos / "b.bmp").stat()
    write_image(tmp_path / "new.bmp", random_image(7, (32, 64) if how == "another size" else (40, 56)))
    if how == "another inode":
        (tmp_path / "new.bmp").replace(photos / "b.bmp")
    else:
        (photos / "b.bmp").write_bytes((tmp_path / "new.bmp").read_bytes())
    older = 10**9 if how == "another time" else before.st_mtime_ns
    os.utime(photos / "b.bmp", ns=(older, older))
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    assert (outcome.there, outcome.done) == (2, 1)
    labels = cv2.imread(str(tmp_path / "out/b_labels.png"), cv2.IMREAD_UNCHANGED)
    assert (labels == segmenter(photos / "b.bmp")).all()
    assert predict(predict_settings(checkpoint, photos, tmp_path / "out")).there == 3


def test_image_of_another_kind_with_the_same_name_is_predicted_anew(checkpoint, photos, tmp_path):
    predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    (photos / "b.bmp").unlink()
    write_image(photos / "b.png", random_image(7))
    os.utime(photos / "b.png", (1, 1))
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    assert (outcome.there, outcome.done) == (2, 1)


def test_what_was_replaced_is_not_taken_for_done_after_a_stop(checkpoint, segmenter, photos, tmp_path, monkeypatch):
    predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    for seed, name in enumerate(("a.png", "b.bmp")):
        write_image(photos / name, random_image(7 + seed))
        os.utime(photos / name, (1, 1))

    def stop(segmenter, images, request, busy):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(prediction, "predict_images", stop)
    with pytest.raises(KeyboardInterrupt):
        predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    monkeypatch.undo()
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    assert (outcome.there, outcome.done) == (1, 2)
    labels = cv2.imread(str(tmp_path / "out/a_labels.png"), cv2.IMREAD_UNCHANGED)
    assert (labels == segmenter(random_image(7))).all()


def test_folder_of_an_earlier_version_goes_on_and_is_recorded(checkpoint, photos, tmp_path):
    """Its manifest says nothing of the inputs: predictions that are newer than their inputs count."""
    predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    manifest = tmp_path / "out" / "predict.json"
    content, before = json.loads(manifest.read_text()), manifest.stat()
    del content["inputs"]
    manifest.write_text(json.dumps(content))
    os.utime(manifest, ns=(before.st_atime_ns, before.st_mtime_ns))
    later = before.st_mtime_ns + 10**12
    os.utime(photos / "b.bmp", ns=(later, later))
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    assert (outcome.there, outcome.done) == (2, 1)
    assert json.loads(manifest.read_text())["inputs"]["a"]["size"] == (photos / "a.png").stat().st_size
    os.utime(photos / "a.png", (1, 1))
    assert predict(predict_settings(checkpoint, photos, tmp_path / "out")).done == 1


def test_full_disk_stops_at_the_first_file_and_goes_on_when_there_is_room(checkpoint, photos, tmp_path, monkeypatch):
    for number in range(40):
        write_image(photos / f"{number:02d}.png", random_image(number, (8, 8)))
    real, tried = Path.write_bytes, []

    def full(path, data):
        tried.append(path)
        if len(tried) < 9:
            return real(path, data)
        real(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out", write=["labels"]))
    monkeypatch.undo()
    assert "cannot be written (No space left on device)" in outcome.stopped
    assert len(outcome.failed) == 1
    assert len(tried) < 25, "what was on its way, and no more"
    written = list((tmp_path / "out").rglob("*.png"))
    assert len(written) == 7, "one file was written to see whether the folder can be"
    assert all(cv2.imread(str(path)) is not None for path in written)
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out", write=["labels"]))
    assert (outcome.there, outcome.done, outcome.stopped) == (7, 36, None)


def test_output_that_cannot_be_written_is_refused_before_the_checkpoint_is_loaded(photos):
    with refused("output", "/proc/self/new"):
        predict(predict_settings("none.ckpt", photos, "/proc/self/new"))


def test_names_of_250_bytes_are_shortened_alike_each_time(checkpoint, segmenter, photos, tmp_path):
    for seed, name in enumerate(("ä" * 123, "ä" * 123 + "b")):
        write_image(tmp_path / "new.png", random_image(seed))
        (tmp_path / "new.png").rename(photos / f"{name}.png")
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out", write=["labels", "side_by_side"]))
    assert (outcome.done, outcome.failed) == (5, {})
    longest = sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith("ä"))
    assert len(longest) == 4
    assert all(len(os.fsencode(name)) <= 255 for name in longest)
    shown = {seed: segmenter(random_image(seed)) for seed in (0, 1)}
    labels = [
        cv2.imdecode(np.fromfile(tmp_path / "out" / name, np.uint8), cv2.IMREAD_UNCHANGED)
        for name in longest
        if name.endswith("_labels.png")
    ]
    assert {label.tobytes() for label in labels} == {label.tobytes() for label in shown.values()}
    assert predict(predict_settings(checkpoint, photos, tmp_path / "out", write=["labels", "side_by_side"])).there == 5


def test_picture_above_the_limit_is_refused_by_its_header(checkpoint, photos, tmp_path):
    limit = 40 * 56 - 1
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out", max_pixels=limit))
    assert outcome.done == 0
    assert outcome.failed[str(photos / "a.png")] == (
        "is 40x56, 2,240 pixels, and the limit is 2,239. Set max_pixels=2240 if it is meant to be that large."
    )
    with refused("max_pixels", "a.png is 40x56, 2,240 pixels", fix="max_pixels=2240"):
        Segmenter.from_checkpoint(checkpoint, max_pixels=limit)(photos / "a.png")


def test_picture_of_a_phone_is_labelled_upright_by_both(checkpoint, segmenter, tmp_path):
    """An EXIF orientation of 6 asks for a quarter turn clockwise."""
    _, data = cv2.imencode(".jpg", random_image(3, (32, 64)))
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    block = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    photo = tmp_path / "in" / "photo.jpg"
    photo.parent.mkdir()
    photo.write_bytes(data.tobytes()[:2] + block + data.tobytes()[2:])
    upright = np.rot90(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1], -1)
    predict(predict_settings(checkpoint, photo, tmp_path / "out"))
    written = cv2.imread(str(tmp_path / "out/photo_labels.png"), cv2.IMREAD_UNCHANGED)
    assert (written == segmenter(np.ascontiguousarray(upright))).all()
    assert (segmenter(photo) == written).all()


@pytest.mark.timeout(60)
def test_segmenter_refuses_a_named_pipe_without_waiting(segmenter, tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with refused("", "a.png is a named pipe"):
        segmenter(tmp_path / "a.png")


def test_image_that_changed_is_predicted_anew(checkpoint, segmenter, photos, tmp_path):
    predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    write_image(photos / "a.png", random_image(7))
    outcome = predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    assert (outcome.there, outcome.done) == (2, 1)
    labels = cv2.imread(str(tmp_path / "out/a_labels.png"), cv2.IMREAD_UNCHANGED)
    assert (labels == segmenter(random_image(7))).all()


def test_another_folder_may_join_but_not_under_the_same_names(checkpoint, photos, tmp_path):
    predict(predict_settings(checkpoint, photos, tmp_path / "out"))
    write_image(tmp_path / "more" / "c.png", random_image(3))
    assert predict(predict_settings(checkpoint, tmp_path / "more", tmp_path / "out")).done == 1
    assert predict(predict_settings(checkpoint, photos, tmp_path / "out")).there == 3
    write_image(tmp_path / "others" / "a.png", random_image(4))
    for path in (tmp_path / "others").iterdir():
        os.utime(path, (0, 0))
    with refused("output", "a_labels.png", "more", fix="another folder"):
        predict(predict_settings(checkpoint, tmp_path / "others", tmp_path / "out"))


def test_names_that_look_like_numbers_are_names(checkpoint, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos.rename(tmp_path / "2023")
    assert predict(predict_settings(checkpoint, 2023, 0) | {"input": 2023, "output": 2024}).done == 3
    assert len(files_in(tmp_path / "2024")) == 7


@pytest.mark.parametrize(
    "content",
    [
        '{"folders": 5}',
        '{"folders": [5]}',
        '{"inputs": []}',
        "5",
        "{",
        "[" * 100_000,
        "\0",
        '{"inputs": {"a.png": 5}}',
    ],
)
def test_damaged_manifest_is_no_end(tmp_path, capsys, content):
    (tmp_path / "predict.json").write_text(content)
    manifest = Manifest(tmp_path, {}, CITYSCAPES, overwrite=False)
    manifest.add_folder(tmp_path)
    write_image(tmp_path / "a.png", random_image(0))
    each = Input("a.png", tmp_path / "a.png", [tmp_path / "a_labels.png"])
    manifest.begin([each])
    assert manifest.missing(each) == [tmp_path / "a_labels.png"]
    whole = json.loads((tmp_path / "predict.json").read_text())
    assert whole["folders"] == [str(tmp_path)]
    assert ("everything is predicted anew" in capsys.readouterr().err) == ("a.png" not in content)
