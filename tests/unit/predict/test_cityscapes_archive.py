"""The archive for the benchmark server, against the official script and what the network says itself."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fastscnn.data.datasets.cityscapes import fine_frames
from fastscnn.data.datasets.classes import CAMVID, CITYSCAPES
from fastscnn.inference.segmenter import Segmenter
from fastscnn.predict.cityscapes_archive import check_archive, predict_archive
from helpers import predict_settings, random_image, refused, write_checkpoint, write_image

pytestmark = pytest.mark.usefixtures("shallow_networks")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt")


@pytest.fixture
def cityscapes(tmp_path):
    root = tmp_path / "cityscapes"
    for number in range(3):
        write_image(root / f"leftImg8bit/test/berlin/berlin_00000{number}_000019_leftImg8bit.png", random_image(number))
    return root


def archive_settings(checkpoint, root, output):
    return predict_settings(checkpoint, "", output, split="test", format="cityscapes", data={"root": str(root)})


def test_archive_holds_label_ids_under_official_names(checkpoint, cityscapes, tmp_path):
    segmenter = Segmenter.from_checkpoint(checkpoint)
    outcome, archive = predict_archive(archive_settings(checkpoint, cityscapes, tmp_path / "out"))
    assert outcome.done == 3
    with zipfile.ZipFile(archive) as content:
        assert content.namelist() == [f"berlin_00000{number}_000019_pred_labelIds.png" for number in range(3)]
        for number, name in enumerate(content.namelist()):
            labels = cv2.imdecode(np.frombuffer(content.read(name), np.uint8), cv2.IMREAD_UNCHANGED)
            assert (labels == CITYSCAPES.decode(segmenter(random_image(number)))).all()
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
        (content | {first: cv2.imencode(".png", random_image())[1].tobytes()}, "is no 8-bit PNG of one channel"),
    ]
    for files_of_it, reason in wrong:
        with zipfile.ZipFile(archive, "w") as packed:
            for name, data in files_of_it.items():
                packed.writestr(name, data)
        with refused("overwrite", reason, fix="overwrite=true"):
            check_archive(archive, frames)


def test_archive_needs_the_classes_of_cityscapes_and_every_frame(cityscapes, checkpoint, tmp_path):
    other = replace(CITYSCAPES, name="Mine", names=tuple(reversed(CITYSCAPES.names)))  # of the same label ids
    for classes in (CAMVID, other):
        wrong = write_checkpoint(tmp_path / f"{classes.name}.ckpt", classes)
        with refused("format", "format=cityscapes", classes.name):
            predict_archive(archive_settings(wrong, cityscapes, tmp_path / "out"))
    (cityscapes / "leftImg8bit/test/berlin/berlin_000001_000019_leftImg8bit.png").write_bytes(b"")
    outcome, archive = predict_archive(archive_settings(checkpoint, cityscapes, tmp_path / "out2"))
    assert archive is None
    assert (outcome.done, len(outcome.failed)) == (2, 1)


def test_archive_of_other_weights_does_not_stay_when_they_are_replaced(checkpoint, cityscapes, tmp_path):
    _, archive = predict_archive(archive_settings(checkpoint, cityscapes, tmp_path / "out"))
    other = archive_settings(write_checkpoint(tmp_path / "other.ckpt", seed=1), cityscapes, tmp_path / "out")
    with refused("output", "predictions of another checkpoint"):
        predict_archive(other)
    assert archive.exists()
    frame = cityscapes / "leftImg8bit/test/berlin/berlin_000002_000019_leftImg8bit.png"
    frame.write_bytes(b"")
    outcome, offered = predict_archive(other | {"overwrite": True})
    assert (outcome.done, offered, archive.exists()) == (2, None, False)
    write_image(frame, random_image(2))
    outcome, offered = predict_archive(other)
    assert (outcome.there, outcome.done, offered) == (2, 1, archive)


def test_frames_that_the_network_sees_smaller_are_named_once(checkpoint, cityscapes, tmp_path, capsys):
    settings = archive_settings(checkpoint, cityscapes, tmp_path / "out")
    predict_archive(settings)
    assert "longest_side" not in capsys.readouterr().out
    predict_archive(settings | {"output": str(tmp_path / "small"), "longest_side": 16})
    assert capsys.readouterr().out.count("longest_side=null") == 1


def test_padding_is_part_of_what_predictions_were_made_with(checkpoint, cityscapes, tmp_path):
    """A folder of a version that did not pad is not mixed with what is padded."""
    settings = archive_settings(checkpoint, cityscapes, tmp_path / "out")
    predict_archive(settings)
    content = torch.load(checkpoint, weights_only=True)
    content["fastscnn"]["config"]["data"] = {"dataset": "fine", "crop_size": [64, 128]}
    torch.save(content, tmp_path / "padded.ckpt")
    predict_archive(settings | {"checkpoint": str(tmp_path / "padded.ckpt"), "output": str(tmp_path / "padded")})
    assert "multiple" not in json.loads((tmp_path / "out/predict.json").read_text())
    assert json.loads((tmp_path / "padded/predict.json").read_text())["multiple"] == 32
