"""Looking at every file of a data set: what is wrong is found and named, what is right is not."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image as PILImage

from fastscnn.cli.check_data import check_data
from fastscnn.data.check import look
from fastscnn.data.check.check import BLACK, FINE, OFFICIAL, check
from fastscnn.data.check.report import record, table
from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datasets.class_file import read_classes
from fastscnn.data.store import class_pixels
from helpers import CONF, FOLDER_CLASSES, FOLDER_COLORS, refused, write_cityscapes, write_folder, write_png

SETTINGS = {"dataset": "folder", "crop_size": "auto", "batch_size": "auto", "num_workers": 0}


@pytest.fixture
def root(tmp_path):
    root = write_folder(tmp_path / "my photos", ["train/a", "train/b", "train/city/c", "val/d", "val/e"])
    (root / "classes.yaml").write_text(FOLDER_CLASSES)
    return root


def kinds(root, **settings):
    return [finding.kind for finding in check(SETTINGS | {"root": str(root)} | settings).findings]


def only(root, kind, *facts, **settings):
    """The only finding, of that kind, which names these facts."""
    (finding,) = check(SETTINGS | {"root": str(root)} | settings).findings
    assert finding.kind == kind
    for fact in facts:
        assert str(fact) in str(finding)
    assert finding.fix.endswith(".")
    return finding


def test_folder_that_is_right_has_no_findings_and_all_pixels_are_counted(root):
    report = check(SETTINGS | {"root": str(root)})
    assert report.findings == []
    found = record(report)["splits"]
    for split in ("train", "val"):
        masks = [cv2.imread(str(path))[:, :, ::-1] for path in sorted((root / "masks" / split).rglob("*.png"))]
        expected = {
            name: sum(int((mask == color).all(axis=-1).sum()) for mask in masks)
            for name, color in zip(("sky", "tree", "road"), FOLDER_COLORS, strict=True)
        }
        assert found[split]["pixels"] == expected
        assert found[split]["ignored"] == 2 * 48 * len(masks)
        assert found[split]["sizes"] == {"32x48": len(masks)}
        assert (found[split]["images"], found[split]["masks"]) == (len(masks), len(masks))
        assert found[split]["image_modes"] == {"JPEG RGB": len(masks)}
    assert found["test"]["images"] == 0


@pytest.mark.parametrize("module", [look, class_pixels])
def test_files_are_read_on_the_cores_that_this_process_may_use(root, monkeypatch, module):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)  # as a cluster's job with one core
    threads = []

    def pool(count):
        threads.append(count)
        return ThreadPoolExecutor(count)

    monkeypatch.setattr(module, "ThreadPoolExecutor", pool)
    if module is look:
        check(SETTINGS | {"root": str(root)})
    else:
        class_pixels.class_pixels([1, 2], 2, lambda frame: np.zeros((2, 2), dtype=np.uint8))
    assert threads == [1]


def test_image_without_mask_and_mask_without_image_are_named(root):
    (root / "masks/train/b.png").rename(root / "masks/train/alone.png")
    findings = {finding.kind: finding for finding in check(SETTINGS | {"root": str(root)}).findings}
    assert findings.keys() == {"no mask", "no image"}
    assert findings["no mask"].files == (str(root / "images/train/b.jpg"),)
    assert findings["no image"].files == (str(root / "masks/train/alone.png"),)


def test_images_that_no_split_uses_are_named(root):
    write_folder(root, ["valid/x", "loose"])
    finding = only(root, "unused", "2 images are in no split", "loose.jpg")
    assert finding.files == (str(root / "images/loose.jpg"), str(root / "images/valid/x.jpg"))


def test_empty_folder_has_one_finding(tmp_path):
    (tmp_path / "classes.yaml").write_text(FOLDER_CLASSES)
    assert kinds(tmp_path) == ["layout"]


def test_classes_that_are_no_file_are_refused(root):
    with refused("data.classes", "sky", "tree"):
        check(SETTINGS | {"root": str(root), "classes": ["sky", "tree"]})


def test_files_that_cannot_be_read_are_named(root):
    (root / "images/train/a.jpg").write_bytes((root / "images/train/a.jpg").read_bytes()[:400])
    (root / "masks/val/d.png").write_bytes(b"no picture")
    finding = only(root, "unreadable", "2 files")
    assert "a.jpg" in finding.files[0]
    assert "d.png" in finding.files[1]


def test_mask_of_another_size_is_named_with_both_sizes(root):
    write_png(root / "masks/val/d.png", np.zeros((16, 48, 3), np.uint8))
    only(root, "size", "val/d.png", "16x48", "32x48")


def test_equal_images_in_two_splits_are_found_by_their_pixels(root):
    picture = cv2.imread(str(root / "images/train/a.jpg"))
    cv2.imwrite(str(root / "images/val/other.png"), picture)
    shutil.copy(root / "masks/val/d.png", root / "masks/val/other.png")
    only(root, "equal", "train/a.jpg", "val/other.png")


def test_equal_images_in_one_split_are_not_wrong(root):
    shutil.copy(root / "images/train/a.jpg", root / "images/train/twin.jpg")
    shutil.copy(root / "masks/train/a.png", root / "masks/train/twin.png")
    assert kinds(root) == []


def test_colour_that_is_no_class_is_named_with_its_pixels(root):
    mask = cv2.imread(str(root / "masks/val/e.png"))
    mask[4:6, 4:8] = (3, 2, 1)
    cv2.imwrite(str(root / "masks/val/e.png"), mask)
    only(root, "unknown", "[1, 2, 3] (8 pixels)", "val/e.png")


def test_class_that_never_occurs_in_train_is_named(root):
    (root / "classes.yaml").write_text(FOLDER_CLASSES + "  - {name: boat, color: [1, 1, 1]}\n")
    only(root, "absent", "boat")


def test_masks_saved_as_jpeg_and_turned_images_are_named(root):
    picture = cv2.imread(str(root / "masks/val/e.png"))
    (root / "masks/val/e.png").unlink()
    cv2.imwrite(str(root / "masks/val/e.jpg"), picture)
    assert {"lossy", "unknown"} >= set(kinds(root)) >= {"lossy"}
    turned = PILImage.open(root / "images/val/d.jpg")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "images/val/d.jpg", exif=exif)
    assert "exif" in kinds(root)
    assert "exif" not in kinds(root, exif="ignore")
    assert "size" in kinds(root, exif="apply"), "the mask is not upright"


def test_colours_where_values_are_expected_are_named(root):
    (root / "classes.yaml").write_text("classes: [{name: a}, {name: b}]\n")
    finding = only(root, "colours", "5 masks")
    assert "masks: colors" in finding.fix


def test_values_that_are_no_class_are_counted(tmp_path):
    write_folder(tmp_path, ["train/a", "val/b"])
    (tmp_path / "classes.yaml").write_text("classes: [{name: a}, {name: b}]\n")
    for path in sorted(tmp_path.glob("masks/*/*.png")):
        write_png(path, np.array([[0, 1], [1, 7]], np.uint8).repeat(16, 0).repeat(24, 1))
    only(tmp_path, "unknown", "7 (768 pixels)")


def test_split_without_images_and_a_folder_without_any_are_findings(root, tmp_path):
    shutil.rmtree(root / "images/train")
    shutil.rmtree(root / "masks/train")
    assert "layout" in kinds(root)
    (tmp_path / "empty").mkdir()
    assert "layout" in kinds(tmp_path / "empty")
    with refused("data.root", "nowhere"):
        check(SETTINGS | {"root": str(tmp_path / "nowhere")})


def test_classes_are_proposed_from_colours_written_once_and_read_back(root):
    file = root / "classes.yaml"
    file.unlink()
    finding = only(root, "classes", file)
    assert "write=true" in finding.fix
    assert not file.exists()
    report = check(SETTINGS | {"root": str(root)}, write=True)
    assert report.findings == []
    assert file.read_text() == report.proposed
    classes = read_classes(file, "x", "")
    assert set(classes.colors.colors) == {*FOLDER_COLORS, (0, 0, 0)}
    assert classes.table.names[classes.colors.colors.index((0, 0, 0))] == "background"
    with refused("write", file):
        check(SETTINGS | {"root": str(root)}, write=True)


def test_command_that_is_named_holds_what_says_where_the_files_are(root):
    (root / "classes.yaml").unlink()
    settings = {"images": "images/{split}/{name}.jpg", "masks": "masks/{split}/{name}", "lists": None}
    finding = only(root, "classes", **settings)
    assert f"'data.root=\"{root}\"' 'data.images=\"images/{{split}}/{{name}}.jpg\"' write=true" in finding.fix
    with refused("data.classes", fix="'data.images=\"images/{split}/{name}.jpg\"' write=true"):
        build_data(SETTINGS | {"root": str(root)} | settings)


@pytest.mark.parametrize(
    ("values", "expected", "ignored"),
    [([0, 1, 255], [0, 1], [255]), ([0, 255], [0, 255], []), ([3, 7], [3, 7], [255]), ([0, 128], [0, 128], [255])],
)
def test_values_are_proposed_with_255_ignored_unless_masks_are_black_and_white(tmp_path, values, expected, ignored):
    write_folder(tmp_path, ["train/a", "val/b"])
    for path in sorted(tmp_path.glob("masks/*/*.png")):
        write_png(path, np.array([values], np.uint8).repeat(32, 0).repeat(-(-48 // len(values)), 1)[:, :48])
    report = check(SETTINGS | {"root": str(tmp_path)}, write=True)
    assert report.findings == []
    content = yaml.safe_load((tmp_path / "classes.yaml").read_text())
    assert [row["value"] for row in content["classes"]] == expected
    assert content["ignored"] == ignored


def test_palettes_give_the_classes_their_colours(tmp_path):
    write_folder(tmp_path, ["train/a", "val/b"])
    for path in sorted(tmp_path.glob("masks/*/*.png")):
        mask = PILImage.fromarray(np.array([[0, 1, 255]], np.uint8).repeat(32, 0).repeat(16, 1), "P")
        mask.putpalette([9, 8, 7, 0, 200, 0] + [0] * 762)
        mask.save(path)
    check(SETTINGS | {"root": str(tmp_path)}, write=True)
    assert [row["color"] for row in yaml.safe_load((tmp_path / "classes.yaml").read_text())["classes"]] == [
        [9, 8, 7],
        [0, 200, 0],
    ]


def test_colours_of_cityscapes_have_its_names(root):
    for path in (root / "masks").rglob("*.png"):
        write_png(path, np.array([(128, 64, 128), (0, 0, 142), (0, 0, 0)], np.uint8).repeat(16, 0)[None].repeat(32, 0))
    (root / "classes.yaml").unlink()
    check(SETTINGS | {"root": str(root)}, write=True)
    content = yaml.safe_load((root / "classes.yaml").read_text())
    assert [row["name"] for row in content["classes"]] == ["road", "car"]
    assert content["ignored"] == [[0, 0, 0]]


def test_photographs_as_masks_get_no_proposal(root):
    (root / "classes.yaml").unlink()
    rng = np.random.default_rng(0)
    for path in (root / "masks").rglob("*.png"):
        write_png(path, rng.integers(0, 256, (32, 48, 3)).astype(np.uint8))
    finding = only(root, "classes", "colours")
    assert "write=true" not in finding.fix


def test_cityscapes_is_held_against_the_published_counts(tmp_path):
    write_cityscapes(tmp_path, size=(8, 16), train=3, val=2, test=1)
    report = check({**SETTINGS, "dataset": "fine", "root": str(tmp_path)})
    counts = [finding.problem for finding in report.findings if finding.kind == "count"]
    assert len(counts) == 3
    assert "train has 3 fine frames, and 2,975 are published" in counts
    assert OFFICIAL["fine_coarse"] == FINE | {"train coarse": 19998}
    with refused("write"):
        check({**SETTINGS, "dataset": "fine", "root": str(tmp_path)}, write=True)


def test_published_counts_are_no_finding_and_the_black_frame_may_be_left_out(tmp_path, monkeypatch):
    write_cityscapes(tmp_path, size=(8, 16), train=3, val=2, test=1, train_extra=2)
    own = {"train fine": 3, "val fine": 2, "test fine": 1}
    for coarse, expected in ((2, 0), (3, 0), (4, 1)):  # one fewer is the black frame
        monkeypatch.setitem(OFFICIAL, "fine_coarse", own | {"train coarse": coarse})
        report = check({**SETTINGS, "dataset": "fine_coarse", "root": str(tmp_path)})
        assert sum(finding.kind == "count" for finding in report.findings) == expected
    assert BLACK not in {frame.name for frame in report.frames["train"]}


def test_command_prints_one_table_writes_json_and_exits_with_1_on_findings(root, tmp_path, capsys):
    output = tmp_path / "check.json"
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("check_data", [f"data.root='{root}'", f"output='{output}'"])
    check_data(config)
    printed = capsys.readouterr().out
    assert "Nothing wrong was found." in printed
    assert f"train.py data=folder 'data.root=\"{root}\"'" in printed
    assert json.loads(output.read_text())["findings"] == []
    (root / "masks/train/b.png").unlink()
    with pytest.raises(SystemExit) as ended:
        check_data(config)
    assert ended.value.code == 1
    assert "b.jpg" in capsys.readouterr().err
    (finding,) = json.loads(output.read_text())["findings"]
    assert (finding["kind"], finding["count"]) == ("no mask", 1)


def test_table_has_a_column_for_each_split_and_a_row_for_each_class(root):
    shown = table(check(SETTINGS | {"root": str(root)}))
    assert [column.header for column in shown.columns] == ["", "train", "val", "test"]
    assert {"sky", "tree", "road", "ignored"} <= set(shown.columns[0].cells)
