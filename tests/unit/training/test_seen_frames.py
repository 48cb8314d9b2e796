"""A frame that was trained on is known again, however it is read."""

import cv2
import pytest

from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.folder import folder_source
from fastscnn.training.seen_frames import seen_frames
from helpers import FOLDER_CLASSES, write_cityscapes, write_folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two cities each of train and val; `traina` has two frames, `trainb`, `vala` and `valb` one."""
    return write_cityscapes(tmp_path_factory.mktemp("data") / "cityscapes", size=(32, 64))


def config(root, dataset="fine", **settings):
    """A data config as a checkpoint has it."""
    root = None if root is None else str(root)
    return {"dataset": dataset, "root": root, "crop_size": [32, 64], "batch_size": 1, "num_workers": 0} | settings


def opened(root, dataset="fine", **settings):
    return SegmentationData(dataset=dataset, root=root, crop_size=(32, 64), num_workers=0, **settings)


def folder_of(root, images, masks):
    """The data of a folder with splits of its own."""
    (root / "classes.yaml").write_text(FOLDER_CLASSES)
    source = folder_source(root, {"images": images, "masks": masks})
    return opened(root, "folder", source=source)


def cities(names):
    return sorted(name.split("_")[0] for name in names)


@pytest.mark.parametrize(
    ("trained", "split", "seen"),
    [
        ({}, "train", ["traina", "traina", "trainb"]),
        ({}, "val", []),
        ({"train_splits": ["train", "val"]}, "val", ["vala", "valb"]),
        ({"held_out": "vala"}, "val", ["valb"]),
        ({"held_out": "traina"}, "train", ["trainb"]),
    ],
)
@pytest.mark.parametrize("dataset", ["fine", "streets"])
def test_what_was_trained_on_counts_not_what_is_called_train(root, trained, split, seen, dataset):
    """A set that is evaluated as another option is the same files."""
    found = seen_frames(config(root, **trained), opened(root, dataset), split)
    assert cities(found) == seen


def test_files_of_another_place_and_name_are_known_by_their_content(root, tmp_path):
    own = config(root)
    for place, city in (("val", "traina"), ("train", "vala")):
        for number, file in enumerate(sorted((root / "leftImg8bit").rglob(f"{city}_*.png"))):
            (copied := tmp_path / f"images/{place}/{number}.png").parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(file.read_bytes())
            write_folder(tmp_path, [f"{place}/{number}"], images="unused")
    data = folder_of(tmp_path, "images/{split}/{name}", "masks/{split}/{name}")
    assert sorted(seen_frames(own, data, "val")) == sorted(frame.name for frame in data.frames("val"))
    assert seen_frames(own, data, "train") == []


def test_frames_of_cityscapes_are_known_by_their_names_where_they_were_compressed_anew(root, tmp_path):
    for file in root.rglob("*.png"):
        (copied := tmp_path / file.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(copied), cv2.imread(str(file), cv2.IMREAD_UNCHANGED), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    found = seen_frames(config(root, held_out="vala"), opened(tmp_path), "val")
    assert cities(found) == ["valb"]
    assert seen_frames(config(root, "streets", held_out="vala"), opened(tmp_path), "val") == [], "streets share names"


def test_other_frames_of_the_same_names_are_none_that_were_trained_on(tmp_path):
    folders = [write_folder(tmp_path / name, ["train/0", "val/1"], seed=seed) for seed, name in enumerate("ab")]
    first, second = (folder_of(one, "images/{split}/{name}", "masks/{split}/{name}") for one in folders)
    own = config(folders[0], "folder", images="images/{split}/{name}", masks="masks/{split}/{name}")
    assert len(seen_frames(own, first, "train")) == 1
    assert seen_frames(own, second, "train") == []


def test_folder_that_is_gone_is_looked_for_where_the_evaluated_one_is(root, tmp_path):
    for gone in (tmp_path / "gone", None):
        assert cities(seen_frames(config(gone), opened(root), "train")) == ["traina", "traina", "trainb"]
        assert seen_frames(config(gone), opened(root), "val") == []


def test_what_is_not_at_hand_is_not_said_to_be_unseen(root, tmp_path):
    assert seen_frames(config(None, "camvid"), opened(root), "val") is None
    assert seen_frames(config(tmp_path / "gone"), opened(root, "streets"), "val") is None
    assert seen_frames({"dataset": "external", "module": {}}, opened(root), "val") is None


def test_splits_that_a_run_drew_are_read_from_its_folder(tmp_path):
    """The frames of `val` here are those of `train` in the run's lists."""
    root = write_folder(tmp_path / "photos", [f"{number}" for number in range(4)])
    run = tmp_path / "run"
    (run / "lists").mkdir(parents=True)
    for split, names in (("train", "01"), ("val", "23"), ("test", "")):
        (run / "lists" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "classes.yaml").write_text(FOLDER_CLASSES)
    lists = tmp_path / "others"
    lists.mkdir()
    for split, names in (("train", "02"), ("val", "13"), ("test", "")):
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    data = opened(root, "folder", source=folder_source(root, {"lists": str(lists)}))
    assert seen_frames(config(root, "folder"), data, "val", run / "checkpoints" / "best.ckpt") == ["1"]
