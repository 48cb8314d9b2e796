"""Predicting images, folders, patterns and the benchmark server's archive, against what the network says itself."""

import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_fusing import used

from fastscnn.data.classes import CAMVID, CITYSCAPES
from fastscnn.errors import RequestError
from fastscnn.inference import predict as prediction
from fastscnn.inference.cityscapes_archive import check_archive, predict_archive
from fastscnn.inference.draw import drawn, legend, occurring, overlay
from fastscnn.inference.media import find_sources, read_photo, write_whole
from fastscnn.inference.pipeline import ahead, overlapped
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
        "empty.png": "no whole image (0 bytes)",
        "half.png": "no whole image (60 bytes)",
    }
    assert not any("unfinished" in name or "half" in name for name in files(tmp_path / "out"))


def test_names_that_differ_in_the_suffix_alone_do_not_meet(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        write_image(tmp_path / "in" / name, picture())
    assert [source.name for source in find_sources(tmp_path / "in", tmp_path / "out")] == ["a.jpg", "a.png", "b"]


def test_patterns_and_single_files_are_found_and_the_output_never(photos, tmp_path):
    found = find_sources(str(photos / "**" / "*.png"), tmp_path / "out")
    assert [source.name for source in found] == ["a", "deeper/a"]
    assert [source.name for source in find_sources(photos / "b.bmp", tmp_path / "out")] == ["b"]
    write_image(photos / "out" / "a_overlay.png", picture())
    assert "out/a_overlay" not in [source.name for source in find_sources(photos, photos / "out")]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("none", "there is no such file or folder"),
        ("none/*.png", "holds no image"),
        ("notes.txt", "is neither an image"),
        ("empty", "holds no image"),
        ("out", "lies in output"),
    ],
)
def test_wrong_inputs_are_one_sentence(tmp_path, given, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RequestError, match=sentence):
        find_sources(str(tmp_path / given), tmp_path / "out")


def test_output_that_is_a_file_and_unknown_kinds_are_refused(checkpoint, photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="is a file"):
        predict(settings(checkpoint, photos, tmp_path / "file"))
    with pytest.raises(RequestError, match="write=heat is unknown"):
        predict(settings(checkpoint, photos, tmp_path / "out", write=["heat"]))


def test_photo_is_turned_upright(tmp_path):
    """An EXIF orientation of 6 asks for a quarter turn clockwise."""
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, :8] = 255
    _, data = cv2.imencode(".jpg", image)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    block = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "a.jpg").write_bytes(data.tobytes()[:2] + block + data.tobytes()[2:])
    upright = read_photo(tmp_path / "a.jpg")
    assert upright.shape == (32, 16, 3)
    assert upright[:6].mean() > 200 > 50 > upright[12:].mean()


def test_stopped_run_says_how_to_go_on(checkpoint, photos, tmp_path, monkeypatch):
    def stop(segmenter, images, request):
        yield images[0], None
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "predict_images", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        predict(settings(checkpoint, photos, tmp_path / "out"))
    assert stopped.value.__notes__ == ["1 done; the same command goes on with the other 2."]


def test_half_written_file_never_has_its_name(tmp_path):
    def fail(target):
        target.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "a.png", fail)
    assert files(tmp_path) == []


def test_stages_overlap_in_order_with_few_items_under_way():
    under_way, most = set(), []

    def read(item):
        under_way.add(item)
        most.append(len(under_way))
        return item * 10

    def write(item, value):
        assert value == item * 10 + 1
        under_way.discard(item)
        if item == 7:
            raise OSError("seven")

    done = list(overlapped(range(200), read, lambda item, value: value + 1, write))
    assert [item for item, _ in done] == list(range(200))
    assert [(item, str(error)) for item, error in done if error] == [(7, "seven")]
    assert max(most) <= 16


def test_items_made_ahead_keep_their_order_and_their_error():
    def items():
        yield from range(50)
        raise OSError("cut")

    seen = []
    with pytest.raises(OSError, match="cut"):
        seen.extend(ahead(items(), 3))
    made = []
    endless = ahead((made.append(n) or n for n in range(10**9)), 3)
    assert [next(endless) for _ in range(5)] == [0, 1, 2, 3, 4]
    endless.close()
    assert len(made) < 50


def test_overlay_blends_and_the_legend_names_what_occurs():
    labels = np.zeros((40, 300), np.uint8)
    labels[:, 200:] = 13
    image = np.full((40, 300, 3), 100, np.uint8)
    assert occurring(labels, CITYSCAPES) == [0, 13]
    blended = overlay(image, labels, CITYSCAPES, 0.25)
    np.testing.assert_allclose(blended[0, 299], 0.75 * 100 + 0.25 * np.array([0, 0, 142]), atol=1)
    assert (overlay(image, labels, CITYSCAPES, 0.0) == image).all()
    strip = legend(300, 40, [0, 13], CITYSCAPES)
    assert strip.shape[1] == 300
    shown = {tuple(color) for color in strip.reshape(-1, 3).tolist()}
    assert {CITYSCAPES.colors[0], CITYSCAPES.colors[13]} <= shown
    assert CITYSCAPES.colors[1] not in shown
    assert len(legend(300, 40, range(19), CITYSCAPES)) > len(strip), "as many rows as it takes"
    assert drawn("side_by_side", image, labels, CITYSCAPES).shape[1] == 600


@pytest.fixture
def cityscapes(tmp_path):
    root = tmp_path / "cityscapes"
    for number in range(3):
        write_image(root / f"leftImg8bit/test/berlin/berlin_00000{number}_000019_leftImg8bit.png", picture(number))
    return root


def archive_settings(checkpoint, root, output):
    return settings(checkpoint, "", output, split="test", format="cityscapes", data={"root": str(root)})


def test_archive_holds_label_ids_under_official_names(checkpoint, segmenter, cityscapes, tmp_path):
    outcome, archive = predict_archive(archive_settings(checkpoint, cityscapes, tmp_path / "out"))
    assert outcome.done == 3
    with zipfile.ZipFile(archive) as content:
        assert content.namelist() == [f"berlin_00000{number}_000019_pred_labelIds.png" for number in range(3)]
        for number, name in enumerate(content.namelist()):
            labels = cv2.imdecode(np.frombuffer(content.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
            assert (labels == CITYSCAPES.decode(segmenter(picture(number)))).all()
    outcome, _ = predict_archive(archive_settings(checkpoint, cityscapes, tmp_path / "out"))
    assert (outcome.done, outcome.there) == (0, 3)


def test_official_script_finds_every_prediction(checkpoint, cityscapes, tmp_path):
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official

    predict_archive(archive_settings(checkpoint, cityscapes, tmp_path / "out"))
    official.args.predictionPath = str(tmp_path / "out" / "test")
    official.args.predictionWalk = None
    for number in range(3):
        truth = f"gtFine/test/berlin/berlin_00000{number}_000019_gtFine_labelIds.png"
        assert Path(official.getPrediction(official.args, truth)).is_file()


def test_archive_that_the_server_would_refuse_is_not_offered(checkpoint, cityscapes, tmp_path):
    from fastscnn.data.cityscapes import fine_frames

    _, archive = predict_archive(archive_settings(checkpoint, cityscapes, tmp_path / "out"))
    frames = fine_frames(cityscapes, "test")
    content = {}
    with zipfile.ZipFile(archive) as packed:
        content = {name: packed.read(name) for name in packed.namelist()}
    first = next(iter(content))
    small, illegal = np.zeros((4, 4), np.uint8), np.full((40, 56), 3, np.uint8)
    wrong = [
        ({name: data for name, data in content.items() if name != first}, f"2 files for 3 frames, first {first}"),
        (content | {first: cv2.imencode(".png", small)[1].tobytes()}, "is 4x4, its image 40x56"),
        (content | {first: cv2.imencode(".png", illegal)[1].tobytes()}, "holds 3, which is no label id"),
        (content | {first: cv2.imencode(".png", picture())[1].tobytes()}, "is no 8-bit PNG of one channel"),
    ]
    for files_of_it, reason in wrong:
        with zipfile.ZipFile(archive, "w") as packed:
            for name, data in files_of_it.items():
                packed.writestr(name, data)
        with pytest.raises(RequestError, match=reason):
            check_archive(archive, frames)
        assert not archive.exists()


def test_archive_needs_the_classes_of_cityscapes_and_every_frame(cityscapes, checkpoint, tmp_path):
    camvid = write_checkpoint(tmp_path / "camvid.ckpt", CAMVID)
    with pytest.raises(RequestError, match="format=cityscapes needs the classes of Cityscapes"):
        predict_archive(archive_settings(camvid, cityscapes, tmp_path / "out"))
    (cityscapes / "leftImg8bit/test/berlin/berlin_000001_000019_leftImg8bit.png").write_bytes(b"")
    outcome, archive = predict_archive(archive_settings(checkpoint, cityscapes, tmp_path / "out2"))
    assert archive is None
    assert (outcome.done, len(outcome.failed)) == (2, 1)
