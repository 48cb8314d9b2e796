"""CamVid in the SegNet layout, tiny and real."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastscnn.data.datasets.camvid import camvid_frames
from fastscnn.data.datasets.classes import CAMVID, CITYSCAPES
from fastscnn.data.datasets.frame_dataset import FrameDataset
from helpers import refused, write_png

CAMVID_ROOT = Path(__file__).parents[3].parent / "shared/data/camvid"
needs_camvid = pytest.mark.skipif(not CAMVID_ROOT.is_dir(), reason=f"no CamVid photographs at {CAMVID_ROOT}")


def write_camvid(root: Path, names: list[str]) -> Path:
    for name in names:
        image = root / "val" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(image), np.full((24, 32, 3), 90, np.uint8))
        write_png(root / "valannot" / f"{image.stem}.png", np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 12)
    return root


def test_an_image_is_found_by_its_stem_whatever_its_extension(tmp_path):
    frames = camvid_frames(write_camvid(tmp_path, ["b.jpg", "c.png", "a.JPEG"]), "val")
    assert [(frame.name, frame.image.name) for frame in frames] == [
        ("a", "a.JPEG"),
        ("b", "b.jpg"),
        ("c", "c.png"),
    ]


def test_of_a_png_and_a_jpeg_the_png_is_taken(tmp_path):
    frames = camvid_frames(write_camvid(tmp_path, ["a.jpg", "a.png"]), "val")
    assert [frame.image.name for frame in frames] == ["a.png"]


def test_void_is_ignored_and_other_labels_are_themselves(tmp_path):
    sample = FrameDataset(camvid_frames(write_camvid(tmp_path, ["a.png"]), "val"), CAMVID)[0]
    assert sample["label"].flatten()[:13].tolist() == [*range(11), 255, 0]


def test_an_image_without_its_label_is_named(tmp_path):
    write_camvid(tmp_path, ["a.png", "b.jpg"])
    (tmp_path / "valannot/b.png").unlink()
    with refused("data.root", "b.jpg", "valannot/b.png", "1 of 2"):
        camvid_frames(tmp_path, "val")


def test_a_missing_folder_no_root_and_an_unknown_split_are_told(tmp_path):
    with refused("data.root", tmp_path, "train/", fix="data.root=DIR"):
        camvid_frames(tmp_path, "train")
    (tmp_path / "train").mkdir()
    with refused("data.root", "train/"):
        camvid_frames(tmp_path, "train")
    with refused("data.root"):
        camvid_frames(None, "train")
    with refused("split", "extra"):
        camvid_frames(tmp_path, "extra")


@needs_camvid
@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101), ("test", 233)])
def test_the_real_photographs_read(split, count):
    frames = camvid_frames(CAMVID_ROOT, split)
    assert len(frames) == count
    dataset = FrameDataset(frames, CAMVID)
    seen = set()
    for index in range(0, count, 25):
        sample = dataset[index]
        assert sample["image"].shape == (3, 360, 480)
        assert sample["label"].shape == (360, 480)
        seen |= set(sample["label"].unique().tolist())
    assert seen <= {*range(11), 255}
    assert {0, 1, 3, 8} <= seen


def test_pixels_without_a_class_are_written_as_an_ignored_value_and_never_as_a_class():
    unknown = np.array([[255, 1]], np.uint8)
    assert CAMVID.decode(unknown).tolist() == [[11, 1]]
    assert CITYSCAPES.decode(unknown).tolist() == [[0, 8]]
    assert replace(CAMVID, ignored_values=()).decode(unknown).tolist() == [[255, 1]]
