"""The networks of weights/: each is what its card and its results say."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from fastscnn import Segmenter

ROOT = Path(__file__).resolve().parents[3]
CAMVID = ROOT.parent / "shared" / "data" / "camvid"
NETWORKS = sorted(path.parent for path in ROOT.glob("weights/*/model.safetensors"))


def results_of(folder):
    name = folder.name.removeprefix("fast_scnn_")
    return json.loads((ROOT / "results" / f"{name}_weights.json").read_text(encoding="utf-8"))


def test_there_is_a_network_to_run():
    assert NETWORKS


@pytest.mark.parametrize("folder", NETWORKS, ids=lambda folder: folder.name)
def test_the_file_is_the_one_that_was_evaluated(folder):
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == results_of(folder)["sha256"]
    assert digest in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", NETWORKS, ids=lambda folder: folder.name)
def test_a_picture_of_any_size_gets_labels(folder):
    segmenter = Segmenter.from_checkpoint(folder)
    picture = np.random.default_rng(0).integers(0, 255, (61, 97, 3), dtype=np.uint8)
    labels = segmenter(picture)
    assert labels.shape == (61, 97)
    assert labels.max() < len(segmenter.classes.names)


@pytest.mark.skipif(not CAMVID.exists(), reason="CamVid's photographs are not here")
def test_frames_that_the_camvid_network_never_saw_are_labelled_as_well_as_its_results_say():
    from fastscnn.utils.images import read_rgb

    folder = ROOT / "weights" / "fast_scnn_camvid"
    segmenter = Segmenter.from_checkpoint(folder)
    images = sorted((CAMVID / "test").iterdir())[::40]
    right = labelled = 0
    for path in images:
        labels = read_labels(CAMVID / "testannot" / f"{path.stem}.png")
        known = labels < 11
        right += int(((segmenter(read_rgb(path, upright=False)) == labels) & known).sum())
        labelled += int(known.sum())
    assert right / labelled == pytest.approx(results_of(folder)["metrics"]["test/accuracy"], abs=0.05)


def test_streets_that_the_network_of_the_streets_never_saw_are_labelled_as_well_as_its_results_say(tmp_path):
    from fastscnn.data.datasets.cityscapes import fine_frames
    from fastscnn.data.datasets.classes import CITYSCAPES
    from fastscnn.streets.writer import StreetsSpec, write_streets
    from fastscnn.utils.images import read_rgb

    write_streets(tmp_path, StreetsSpec(train=1, val=1, test=3, train_extra=1), workers=1)
    segmenter = Segmenter.from_pretrained("streets", threads=1)
    right = labelled = 0
    for frame in fine_frames(tmp_path, "test"):
        labels = CITYSCAPES.encode(read_labels(frame.label))
        known = labels != 255
        right += int(((segmenter(read_rgb(frame.image, upright=False)) == labels) & known).sum())
        labelled += int(known.sum())
    expected = results_of(ROOT / "weights" / "fast_scnn_streets")["metrics"]["test/accuracy"]
    assert right / labelled == pytest.approx(expected, abs=0.05)


def read_labels(path):
    from PIL import Image

    return np.asarray(Image.open(path))
