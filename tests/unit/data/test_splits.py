"""Which frames are trained on and which are evaluated: joined splits, and drives that are held out."""

import numpy as np
import pytest

from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datasets.frames import DataError
from fastscnn.data.datasets.splits import drive_of
from helpers import write_png

DRIVES = {
    "train": ["0001TP_1", "0006R0_f1", "0016E5_1", "0016E5_2"],
    "val": ["0016E5_3", "0016E5_4"],
    "test": ["Seq05VD_f1"],
}


@pytest.fixture
def root(tmp_path):
    for split, names in DRIVES.items():
        for name in names:
            write_png(tmp_path / split / f"{name}.png", np.zeros((24, 32, 3), np.uint8))
            write_png(tmp_path / f"{split}annot" / f"{name}.png", np.zeros((24, 32), np.uint8))
    return tmp_path


def build(root, *, training=True, **settings):
    data = {"dataset": "camvid", "root": str(root), "crop_size": [24, 32], "batch_size": 2, "num_workers": 0}
    augment = {"name": "none"} if training else None
    return build_data({**data, "store": "off", **settings}, augment)


def names(data, split):
    return [frame.name for frame in data.frames(split)]


def test_by_default_the_splits_are_the_data_sets_own(root):
    data = build(root)
    assert {split: names(data, split) for split in DRIVES} == DRIVES
    assert data.validates
    assert not {"train_splits", "held_out"} & set(data.described("train", "val"))


def test_joined_splits_leave_nothing_to_validate_on_and_the_test_alone(root):
    data = build(root, train_splits=["train", "val"])
    assert names(data, "train") == DRIVES["train"] + DRIVES["val"]
    assert (names(data, "val"), data.validates) == ([], False)
    assert names(data, "test") == DRIVES["test"]
    described = data.described("train", "val")
    assert described["train_splits"] == ["train", "val"]
    assert described["frames"] == {"train": {"camvid": 6}, "val": {}}


def test_evaluation_has_the_data_sets_own_splits_whatever_was_joined(root):
    data = build(root, training=False, train_splits=["train", "val"])
    assert names(data, "val") == DRIVES["val"]


@pytest.mark.parametrize("held_out", ["0016E5", float("0016E5")], ids=["text", "as YAML reads it"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("joined", [["train"], ["train", "val"]])
def test_held_out_drive_is_the_validation_and_no_part_of_training(root, held_out, training, joined):
    data = build(root, training=training, held_out=held_out, train_splits=joined)
    assert names(data, "train") == ["0001TP_1", "0006R0_f1"]
    assert names(data, "val") == ["0016E5_1", "0016E5_2", "0016E5_3", "0016E5_4"]
    assert names(data, "test") == DRIVES["test"]
    assert data.validates
    assert data.described("train", "val")["held_out"] == "0016E5"


def test_drive_that_is_not_there_is_refused_with_those_that_are(root):
    with pytest.raises(DataError) as found:
        build(root, held_out="0016E6").frames("train")
    assert found.value.key == "data.held_out"
    assert "0001TP, 0006R0, 0016E5" in found.value.fix


def test_only_drive_cannot_be_held_out(root):
    for file in [*root.glob("train*/0001TP*"), *root.glob("train*/0006R0*")]:
        file.unlink()
    with pytest.raises(DataError) as found:
        build(root, held_out="0016E5").frames("train")
    assert found.value.key == "data.held_out"


def test_city_is_what_a_name_begins_with(root):
    frame = build(root).frames("train")[0]
    assert drive_of(frame) == "0001TP"
