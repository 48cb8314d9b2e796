"""Cityscapes from its folders to samples."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label

from fastscnn.data.datasets.cityscapes import fine_coarse_frames, fine_frames
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.datasets.frame_dataset import FrameDataset
from fastscnn.data.datasets.frames import read_image, read_label
from helpers import block_labels, paint, refused, write_cityscapes, write_png


def one(folder: Path) -> Path:
    return sorted(folder.rglob("*.png"))[0]


def test_a_label_file_becomes_the_train_ids_of_the_official_table(tmp_path):
    ids = np.array([[label_id for label_id in sorted(id2label) if label_id >= 0] + [255]], np.uint8)
    write_png(tmp_path / "label.png", ids)
    expected = [id2label[label_id if label_id < 255 else -1].trainId % 256 for label_id in ids[0].tolist()]
    assert read_label(tmp_path / "label.png", CITYSCAPES)[0].tolist() == expected


def test_frames_are_sorted_by_name_and_paired_with_their_labels(tmp_path):
    frames = fine_frames(write_cityscapes(tmp_path, train=5), "train")
    names = [frame.name for frame in frames]
    assert names == sorted(names)
    assert len(names) == 5
    for frame in frames:
        assert frame.image.name == f"{frame.name}_leftImg8bit.png"
        assert frame.label is not None
        assert frame.label.name == f"{frame.name}_gtFine_labelIds.png"
        assert frame.label.parent.name == frame.image.parent.name


def test_a_whole_frame_is_its_files_pixels(tmp_path):
    frames = fine_frames(write_cityscapes(tmp_path, size=(30, 50), val=1), "val")
    sample = FrameDataset(frames, CITYSCAPES)[0]
    ids = block_labels((30, 50), seed=100)
    assert np.array_equal(sample["image"].numpy().transpose(1, 2, 0), paint(ids))
    assert np.array_equal(sample["label"], np.vectorize(lambda i: id2label[i].trainId % 256)(ids))
    assert (sample["index"], sample["name"]) == (0, "vala_000000_000019")


def test_fine_and_coarse_are_joined_for_training_only(tmp_path):
    write_cityscapes(tmp_path, train=3, val=2, train_extra=4)
    train = fine_coarse_frames(tmp_path, "train")
    assert Counter(frame.source for frame in train) == {"fine": 3, "coarse": 4}
    assert {frame.name for frame in fine_frames(tmp_path, "train")} < {frame.name for frame in train}
    assert all("gtCoarse" in str(frame.label) for frame in train if frame.source == "coarse")
    assert fine_coarse_frames(tmp_path, "val") == fine_frames(tmp_path, "val")


def test_the_test_split_needs_no_labels(tmp_path):
    frames = fine_frames(write_cityscapes(tmp_path, test=2), "test")
    assert [frame.label for frame in frames] == [None, None]
    assert set(FrameDataset(frames, CITYSCAPES)[0]) == {"image", "index", "name", "source"}


def test_the_test_split_uses_the_labels_that_are_there(tmp_path):
    write_cityscapes(tmp_path, test=2)
    write_png(tmp_path / "gtFine/test/testa/testa_000000_000019_gtFine_labelIds.png", block_labels((64, 128), 0))
    assert [frame.label is not None for frame in fine_frames(tmp_path, "test")] == [True, False]


def test_files_of_the_operating_system_are_no_frames(tmp_path):
    write_cityscapes(tmp_path, train=2)
    image = one(tmp_path / "leftImg8bit/train")
    image.with_name(f"._{image.name}").write_bytes(b"resource fork")
    assert len(fine_frames(tmp_path, "train")) == 2


@pytest.mark.parametrize(
    ("broken", "facts"),
    [
        ("nothing", ["leftImg8bit/train", "data=streets"]),
        ("no image", ["leftImg8bit/train/CITY/*_leftImg8bit.png", "data=streets"]),
        ("no labels", ["gtFine/train", "leftImg8bit/, gtFine/"]),
        ("one label gone", ["traina_000000_000019_leftImg8bit.png", "1 of 3", "gtFine_labelIds.png"]),
        ("no coarse", ["gtCoarse/train_extra", "leftImg8bit/, gtCoarse/"]),
    ],
)
def test_a_broken_root_is_refused_with_the_fix(tmp_path, broken, facts):
    root = tmp_path / "cs"
    write_cityscapes(root, train_extra=1)
    if broken == "nothing":
        shutil.rmtree(root / "leftImg8bit")
    elif broken == "no image":
        shutil.rmtree(root / "leftImg8bit/train")
        (root / "leftImg8bit/train").mkdir()
    elif broken == "no labels":
        shutil.rmtree(root / "gtFine")
    elif broken == "one label gone":
        one(root / "gtFine/train").unlink()
    else:
        shutil.rmtree(root / "gtCoarse")
    with refused("data.root", root, *facts) as error:
        fine_coarse_frames(root, "train")
    assert "\n" not in str(error.value)


def test_no_root_names_the_key_and_the_environment_variable():
    with refused("data.root", "CITYSCAPES_DATASET", "data=streets", fix="data.root=DIR"):
        fine_frames(None, "train")


def test_a_root_that_does_not_exist_is_named(tmp_path):
    with refused("data.root", tmp_path / "nowhere"):
        fine_frames(tmp_path / "nowhere", "train")


def test_an_unknown_split_is_refused(tmp_path):
    with refused("split", "valid", fix="train, val, test"):
        fine_frames(tmp_path, "valid")


def test_an_unknown_label_value_is_found_with_its_file(tmp_path):
    write_png(tmp_path / "label.png", np.full((4, 4), 77, np.uint8))
    with refused("data", "label.png", "77", "Cityscapes"):
        read_label(tmp_path / "label.png", CITYSCAPES)


def test_a_colour_picture_is_no_label(tmp_path):
    write_png(tmp_path / "gtFine_color.png", np.zeros((4, 4, 3), np.uint8))
    with refused("data.root", "gtFine_color.png", "RGB"):
        read_label(tmp_path / "gtFine_color.png", CITYSCAPES)


@pytest.mark.parametrize("content", ["cut", "empty", "text"])
def test_a_file_that_is_no_whole_image_is_named(tmp_path, content):
    path = tmp_path / "frame.png"
    write_png(path, paint(block_labels((64, 64), 0)))
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"version https://git-lfs"}[content])
    with refused("data.root", "frame.png", "bytes"):
        read_image(path)


def test_a_file_that_went_missing_is_named(tmp_path):
    with refused("data.root", "gone.png"):
        read_image(tmp_path / "gone.png")


def test_an_image_and_a_label_of_different_sizes_are_both_named(tmp_path):
    write_cityscapes(tmp_path, train=1)
    label = one(tmp_path / "gtFine/train")
    write_png(label, block_labels((32, 64), 0))
    dataset = FrameDataset(fine_frames(tmp_path, "train"), CITYSCAPES)
    with refused("data.root", "leftImg8bit.png", "64x128", "labelIds.png", "32x64"):
        dataset[0]
