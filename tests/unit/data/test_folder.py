"""Images and masks of one's own: which frames are found, in which split, and what their masks mean."""

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datasets.class_file import Classes, class_lines, read_classes
from fastscnn.data.datasets.classes import ClassTable
from fastscnn.data.datasets.colors import ColorMap
from fastscnn.data.datasets.folder import FolderFrames
from fastscnn.data.datasets.folder_splits import RandomSplit
from fastscnn.data.datasets.frames import Frame
from helpers import FOLDER_CLASSES, FOLDER_COLORS, refused, write_folder, write_image, write_png

SPLIT = [f"{split}/{name}" for split in ("train", "val") for name in ("a", "city/b", "c")]


@pytest.fixture
def root(tmp_path):
    write_folder(tmp_path / "photos", SPLIT)
    (tmp_path / "photos" / "classes.yaml").write_text(FOLDER_CLASSES)
    return tmp_path / "photos"


def folder_data(root, **settings):
    given = {"dataset": "folder", "root": str(root), "crop_size": [16, 24], "batch_size": 2, "num_workers": 0}
    return build_data(given | {"store": "off"} | settings)


def names(frames):
    return [frame.name for frame in frames]


def test_frames_of_a_split_are_named_by_their_paths(root):
    frames = FolderFrames()(root, "train")
    assert names(frames) == ["a", "c", "city/b"]
    assert frames[2].image == root / "images/train/city/b.jpg"
    assert frames[2].label == root / "masks/train/city/b.png"


def test_hidden_files_and_files_of_other_kinds_are_left_out_and_links_followed_once(root):
    for name in (".DS_Store", "._a.jpg", "notes.txt", ".cache/x.jpg"):
        path = root / "images/train" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (root / "images/train/loop").symlink_to(root / "images/train")
    write_folder(root / "elsewhere", ["d"])
    for kind in ("images", "masks"):
        (root / kind / "train/more").symlink_to(root / "elsewhere" / kind)
    assert names(FolderFrames()(root, "train")) == ["a", "c", "city/b", "more/d"]


@pytest.mark.parametrize("ending", [".png", ".PNG", ".bmp", ".tif", ".webp", ".JPEG"])
def test_images_of_any_common_format_are_read(tmp_path, ending):
    write_folder(tmp_path, ["train/a", "train/b", "val/a"], ending=ending.lower())
    for path in list(tmp_path.rglob(f"images/*/*{ending.lower()}")):
        path.rename(path.with_suffix(ending))
    (tmp_path / "classes.yaml").write_text(FOLDER_CLASSES)
    sample = folder_data(tmp_path).whole_frames("val").dataset[0]
    assert sample["image"].shape == (3, 32, 48)
    assert sample["label"].unique().tolist() == [0, 1, 2, 255]


def test_patterns_name_other_places(tmp_path):
    write_folder(tmp_path, ["x_photo", "y/z_photo"], images="raw", masks="m")
    for path in list((tmp_path / "m").rglob("*.png")):
        path.rename(path.with_name(path.name.replace("_photo", "_mask")))
    listed = FolderFrames(images="raw/{name}_photo.jpg", masks="m/{name}_mask.png", random_split=RandomSplit(val=0))
    assert names(listed(tmp_path, "train")) == ["x", "y/z"]


@pytest.mark.parametrize("pattern", ["images/{split}/*.jpg", "{name}/{file}", 3, "{name"])
def test_pattern_that_cannot_name_files_is_refused_with_the_quoted_form(pattern):
    with refused("data.images", pattern, fix="'data.images=\"images/{split}/{name}.png\"'"):
        FolderFrames(images=pattern)


def test_two_images_of_one_name_are_refused_by_name(root):
    write_image(root / "images/train/a.png", np.zeros((4, 4, 3), np.uint8))
    with refused("data.root", "a.jpg", "a.png", fix="suffix"):
        FolderFrames()(root, "train")
    assert names(FolderFrames(images="images/{split}/{name}.jpg")(root, "train")) == ["a", "c", "city/b"]


def test_image_without_its_mask_and_a_folder_without_images_are_refused(root, tmp_path):
    (root / "masks/train/c.png").unlink()
    with refused("data.root", "train/c.jpg", "1 of 3"):
        FolderFrames()(root, "train")
    with refused("data.root", "3 of 3", fix="'data.masks=\"masks/{name}_mask.png\"'"):
        FolderFrames(masks="masks/{split}/{name}_label.png")(root, "train")
    with refused("data.root", "test", "train and val"):
        FolderFrames()(root, "test")
    with refused("data.root", fix="images/{train,val,test}/"):
        FolderFrames()(tmp_path / "photos/masks", "train")
    with refused("data.root", "nowhere"):
        FolderFrames()(tmp_path / "nowhere", "train")
    with refused("data.root"):
        FolderFrames()(None, "train")
    with refused("split"):
        FolderFrames()(root, "extra")


def test_test_images_may_all_be_without_masks(root):
    write_image(root / "images/test/t.jpg", np.zeros((8, 8, 3), np.uint8))
    (frame,) = FolderFrames()(root, "test")
    assert frame.label is None


def test_without_a_split_frames_are_drawn_by_seed_and_name(tmp_path):
    write_folder(tmp_path, [f"{number:02d}" for number in range(12)], size=(8, 8))
    listed = FolderFrames(random_split=RandomSplit(val=0.2, test=0.1))
    found = {split: names(listed(tmp_path, split)) for split in ("train", "val", "test")}
    assert {split: len(each) for split, each in found.items()} == {"train": 9, "val": 2, "test": 1}
    assert sorted(name for each in found.values() for name in each) == [f"{number:02d}" for number in range(12)]
    assert listed.drawn(tmp_path) == found
    other = FolderFrames(random_split=RandomSplit(val=0.2, test=0.1, seed=1))
    assert names(other(tmp_path, "val")) != found["val"]
    write_folder(tmp_path, ["later"], size=(8, 8))
    assert len(set(names(listed(tmp_path, "val"))) & set(found["val"])) >= 1, "one more frame moves few of the others"


def test_single_image_leaves_none_to_train_on(tmp_path):
    write_folder(tmp_path, ["only"], size=(8, 8))
    with refused("data.root", "1 image, for val", fix="Add images"):
        FolderFrames()(tmp_path, "train")
    write_folder(tmp_path / "split", ["val/a", "val/b"], size=(8, 8))
    with refused("data.root", "no train images: there are val"):
        FolderFrames()(tmp_path / "split", "train")


def test_a_share_is_what_it_says():
    frames = [Frame(str(number), None, None, "folder") for number in range(100)]
    counts = {split: len(found) for split, found in RandomSplit(val=0.5, test=0.3).divided(frames).items()}
    assert counts == {"train": 20, "val": 50, "test": 30}
    with refused("data.random_split.val"):
        RandomSplit(val=0.6, test=0.5)
    with refused("data.random_split.test"):
        RandomSplit(test=1)


def test_without_val_some_of_train_are_drawn(tmp_path):
    write_folder(tmp_path, [f"train/{number}" for number in range(10)], size=(8, 8))
    listed = FolderFrames()
    train, val = names(listed(tmp_path, "train")), names(listed(tmp_path, "val"))
    assert (len(train), len(val)) == (8, 2)
    assert not set(train) & set(val)
    assert listed.drawn(tmp_path) == {"train": train, "val": val, "test": []}
    assert FolderFrames(random_split=RandomSplit(val=0)).drawn(tmp_path)["val"] == []


def test_lists_say_the_split_as_pascal_voc_does(tmp_path):
    write_folder(tmp_path, ["2007_1", "2007_2", "2007_3", "un listed"], images="JPEGImages", masks="SegmentationClass")
    (tmp_path / "SegmentationClass/un listed.png").unlink()
    lists = tmp_path / "ImageSets"
    lists.mkdir()
    (lists / "train.txt").write_text("2007_3\n2007_1.jpg\n\n")
    (lists / "val.txt").write_text("2007_2  1\r\n")
    places = {"images": "JPEGImages/{name}.jpg", "masks": "SegmentationClass/{name}.png"}
    listed = FolderFrames(**places, lists="ImageSets")
    assert names(listed(tmp_path, "train")) == ["2007_1", "2007_3"]
    assert names(listed(tmp_path, "val")) == ["2007_2"]
    assert listed.drawn(tmp_path) == {}
    (lists / "val.txt").write_text("2007_2\n2007_9\n")
    with refused("data.lists", "2007_9", "1 of 2"):
        listed(tmp_path, "val")
    with refused("data.lists", "nowhere", "train.txt"):
        FolderFrames(lists="nowhere")(tmp_path, "val")


def test_masks_of_colours_are_classes_and_black_is_ignored(root):
    data = folder_data(root)
    sample = data.whole_frames("val").dataset[0]
    assert data.classes.names == ("sky", "tree", "road")
    assert data.classes.colors == tuple(FOLDER_COLORS)
    mask = cv2.imread(str(root / "masks/val/a.png"))[:, :, ::-1]
    expected = np.full(mask.shape[:2], 255, np.uint8)
    for value, color in enumerate(FOLDER_COLORS):
        expected[(mask == color).all(axis=-1)] = value
    assert (sample["label"].numpy() == expected).all()
    assert (expected == 255).sum() == 2 * 48


def test_colour_that_is_no_class_is_named_with_its_file(root):
    mask = cv2.imread(str(root / "masks/val/a.png"))[:, :, ::-1].copy()
    mask[5:7, 5:9] = (1, 2, 3)
    write_image(root / "masks/val/a.png", mask)
    with refused("data", "val/a.png", "[1, 2, 3]"):
        folder_data(root).whole_frames("val").dataset[0]


def test_masks_of_values_and_of_palette_indices_mean_the_same(tmp_path):
    values = np.random.default_rng(0).integers(0, 3, (16, 24)).astype(np.uint8) * 100
    for kind in ("grey", "palette"):
        write_folder(tmp_path / kind, ["train/a", "val/a"], size=(16, 24))
        text = "name: Yard\nignored: 200\nclasses:\n  - {name: a, value: 100, category: x}\n  - {name: b, value: 0,"
        (tmp_path / kind / "classes.yaml").write_text(f"{text} category: y}}\n")
    write_png(tmp_path / "grey/masks/val/a.png", values)
    palette = PILImage.fromarray(values, "P")
    palette.putpalette([*range(256)] * 3)
    palette.save(tmp_path / "palette/masks/val/a.png")
    labels = [folder_data(tmp_path / kind).whole_frames("val").dataset[0]["label"] for kind in ("grey", "palette")]
    assert (labels[0] == labels[1]).all()
    assert (labels[0].numpy() == np.array([1, 0, 255], np.uint8)[values // 100]).all()
    table = folder_data(tmp_path / "grey").classes
    assert (table.name, table.categories, table.file_values) == ("Yard", ("x", "y"), (100, 0))
    assert len(set(table.colors)) == 2


def test_masks_of_0_and_255_need_no_ignored_value(tmp_path):
    file = tmp_path / "classes.yaml"
    file.write_text("classes:\n  - {name: no, value: 0}\n  - {name: leaf, value: 255}\n")
    table = read_classes(file, "Leaves", "propose").table
    assert table.encode(np.array([[0, 255]], np.uint8)).tolist() == [[0, 1]]
    assert table.name == "Leaves"


def test_store_is_another_for_other_colours(root, tmp_path):
    first = folder_data(root, store=str(tmp_path / "store"))
    (root / "classes.yaml").write_text(FOLDER_CLASSES.replace("[60, 179, 60]", "[60, 179, 61]"))
    second = folder_data(root, store=str(tmp_path / "store"))
    assert first._store.folder != second._store.folder


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("classes: []", "no list of classes"),
        ("- a", "no list of classes"),
        ("classes: [{name: a}]\nclass: 3", "class"),
        ("classes: [{name: a}, {name: a}]", "a twice"),
        ("classes: [{name: a, value: 1}, {name: b}]", "1 twice"),
        ("classes: [{color: [1, 2, 3]}]", "number 1"),
        ("classes: [{name: a, colour: [1, 2, 3]}]", "colour"),
        ("classes: [{name: a, color: [1, 2, 256]}]", "256"),
        ("classes: [{name: a, value: -1}]", "-1"),
        ("classes: [{name: a, category: x}, {name: b}]", "b no category"),
        ("classes: [{name: a}]\nmasks: colours", "masks: colours"),
        ("classes: [{name: a}]\nmasks: colors", "no color"),
        ("classes: [{name: a, color: [1, 1, 1]}]\nmasks: colors\nignored: 0", "ignored: 0"),
        ("classes: [{name: a, color: [1, 1, 1]}]\nmasks: colors\nignored: [[1, 1, 1]]", "twice"),
        ("classes: [{name: a}]\nignored: [0]", "ignores the value 0"),
        ("classes: [{name: a}]\nignored: [x]", "ignored"),
        ("classes: [{", "YAML"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused_with_the_file(tmp_path, text, fact):
    (tmp_path / "classes.yaml").write_text(text)
    with refused("data.classes", tmp_path / "classes.yaml", fact):
        read_classes(tmp_path / "classes.yaml", "x", "propose")


def test_missing_file_of_classes_names_the_command_that_proposes_one(root):
    (root / "classes.yaml").unlink()
    with refused("data.classes", root / "classes.yaml", fix=f"check_data.py data=folder data.root={root} write=true"):
        folder_data(root)


@pytest.mark.parametrize("mapped", [False, True])
def test_written_classes_are_read_back(tmp_path, mapped):
    table = ClassTable(
        name="x",
        names=("class 1", 'a "b"', "yes", "1.5"),
        colors=((1, 2, 3), (4, 5, 6), (7, 8, 9), (0, 0, 1)),
        file_values=(0, 1, 2, 3) if mapped else (4, 2, 0, 255),
        ignored_values=(255,) if mapped else (7, 9),
        categories=("g", "g", "h: i", "g"),
    )
    written = Classes(table, ColorMap(table.colors, ((0, 0, 0),)) if mapped else None)
    (tmp_path / "classes.yaml").write_text(class_lines(written))
    assert read_classes(tmp_path / "classes.yaml", "x", "propose") == written
