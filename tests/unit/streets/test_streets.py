"""The synthetic streets: what is drawn, and how it gets to disk."""

import errno
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.csHelpers import getCsFileInfo
from cityscapesscripts.helpers.labels import id2label, name2label

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.datasets.sources import generate_streets
from fastscnn.streets import writer as streets
from fastscnn.streets.writer import CITIES, MANIFEST, StreetsSpec, coarse, draw_street, write_streets
from fastscnn.utils import files
from fastscnn.utils import progress_display as progress
from fastscnn.utils.files import WriteError
from helpers import refused

SMALL = (64, 128)
TINY = StreetsSpec(size=(32, 64), train=3, val=2, test=1, train_extra=1)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def pictures(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(root).items() if name.endswith(".png")}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "streets"
    write_streets(root, TINY, workers=1)
    return root


@pytest.fixture(scope="module")
def label_frames() -> list[np.ndarray]:
    return [draw_street([0, 1, index], SMALL).label_ids for index in range(40)]


def test_a_frame_is_a_function_of_its_numbers_and_size():
    first, again, other = (draw_street(numbers, SMALL) for numbers in ([7, 0, 3], [7, 0, 3], [7, 0, 4]))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.label_ids, again.label_ids)
    assert not np.array_equal(first.image, other.image)
    assert first.image.shape == (*SMALL, 3) and first.image.dtype == np.uint8
    assert first.label_ids.shape == SMALL and first.label_ids.dtype == np.uint8


@pytest.mark.parametrize("size", [(32, 32), (33, 97), (61, 45), (40, 300), (520, 1100)])
def test_any_size_can_be_drawn(size):
    scene = draw_street([0, 0, 0], size)
    assert scene.image.shape == (*size, 3)
    assert scene.label_ids.shape == size
    assert len(np.unique(scene.label_ids)) > 5


def test_the_scene_is_the_same_at_every_size():
    agreement = []
    for index in range(4):
        small, large = (draw_street([0, 0, index], size).label_ids for size in (SMALL, (256, 512)))
        agreement.append((small == large[2::4, 2::4]).mean())
    assert np.mean(agreement) > 0.9


def test_every_class_is_in_many_frames_and_large_enough_to_be_learnt(label_frames):
    counts = np.stack([np.bincount(ids.ravel(), minlength=256) for ids in label_frames])[:, CITYSCAPES.file_values]
    shares = counts.sum(0) / (len(label_frames) * SMALL[0] * SMALL[1])
    frames = (counts > 0).mean(0)
    for name, share, present in zip(CITYSCAPES.names, shares, frames, strict=True):
        assert share > 0.003, f"{name} has {share:.2%} of the pixels"
        assert present > 0.2, f"{name} is in {present:.0%} of the frames"


def test_labels_are_official_ids_and_some_areas_are_ignored(label_frames):
    ids = np.unique(np.stack(label_frames))
    assert set(ids.tolist()) <= set(id2label)
    ignored = {id2label[i].name for i in ids.tolist() if id2label[i].ignoreInEval}
    assert ignored >= {"unlabeled", "ego vehicle", "out of roi", "rectification border", "static", "dynamic"}


def test_picture_and_labels_agree_pixel_by_pixel():
    signs = 0.0
    for index in range(6):
        scene = draw_street([3, 0, index], (128, 256))
        gray = cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        edge = scene.label_ids[:, 1:] != scene.label_ids[:, :-1]
        step = np.abs(np.diff(gray, axis=1))
        signs += np.mean(step[edge]) / np.mean(step[~edge])
        elsewhere = np.roll(edge, 4, axis=1)
        assert np.mean(step[edge]) > 1.5 * np.mean(step[elsewhere & ~edge])
    assert signs / 6 > 3


def test_coarse_labels_are_never_wrong_and_leave_a_real_share_open():
    shares = []
    for index in range(10):
        fine = draw_street([0, 0, index], (128, 256)).label_ids
        rough = coarse(fine, np.random.default_rng(index))
        assert np.array_equal(rough[rough > 0], fine[rough > 0])
        border = cv2.morphologyEx(fine, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        assert not rough[border].any()
        shares.append((rough > 0).mean())
    assert 0.3 < np.mean(shares) < 0.85


def test_the_layout_is_the_official_one(tiny):
    official = re.compile(
        r"(leftImg8bit/(?P<a>\w+)/(?P<b>[a-z]+)/(?P=b)_\d{6}_\d{6}_leftImg8bit"
        r"|(?P<kind>gtFine|gtCoarse)/\w+/(?P<c>[a-z]+)/(?P=c)_\d{6}_\d{6}_(?P=kind)_(labelIds|color))\.png"
    )
    names = list(pictures(tiny))
    assert all(official.fullmatch(name) for name in names)
    found: dict[tuple[str, str, str], int] = {}
    for name in names:
        info = getCsFileInfo(name)
        key = (Path(name).parts[0], Path(name).parts[1], info.type2)
        assert info.type == key[0]
        assert info.city in CITIES[key[1]]
        found[key] = found.get(key, 0) + 1
    expected = {("leftImg8bit", split, ""): getattr(TINY, split) for split in CITIES}
    for kind, splits in (("gtFine", ("train", "val", "test")), ("gtCoarse", ("train", "val", "train_extra"))):
        expected |= {(kind, split, type2): getattr(TINY, split) for split in splits for type2 in ("labelIds", "color")}
    assert found == expected


def test_the_files_hold_the_drawn_frame(tiny):
    stem = f"train/{CITIES['train'][0]}/{CITIES['train'][0]}_000000_000019"
    scene = draw_street([TINY.seed, 0, 0], TINY.size)
    image = cv2.imread(str(tiny / f"leftImg8bit/{stem}_leftImg8bit.png"), cv2.IMREAD_UNCHANGED)
    ids = cv2.imread(str(tiny / f"gtFine/{stem}_gtFine_labelIds.png"), cv2.IMREAD_UNCHANGED)
    color = cv2.imread(str(tiny / f"gtFine/{stem}_gtFine_color.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(image[..., ::-1], scene.image)
    assert np.array_equal(ids, scene.label_ids)
    assert (color[ids == name2label["road"].id][:, ::-1] == name2label["road"].color).all()


def test_the_cities_of_a_split_are_in_no_other():
    cities = [city for split in CITIES.values() for city in split]
    assert len(cities) == len(set(cities))


def test_splits_and_seeds_differ(tiny, tmp_path):
    images = [data for name, data in pictures(tiny).items() if name.startswith("leftImg8bit")]
    assert len(set(images)) == len(images) == 7
    write_streets(tmp_path / "other", StreetsSpec(size=(32, 64), train=3, val=2, test=1, train_extra=1, seed=1))
    others = {data for name, data in pictures(tmp_path / "other").items() if name.startswith("leftImg8bit")}
    assert not others & set(images)


@pytest.mark.parametrize("workers", [2, 3, None])
def test_any_number_of_workers_writes_the_same_files(tiny, tmp_path, workers):
    seen: list[tuple[int, int]] = []
    write_streets(tmp_path / "root", TINY, workers=workers, progress=lambda done, total: seen.append((done, total)))
    assert contents(tmp_path / "root") == contents(tiny)
    assert seen[-1] == (7, 7)


def test_drawing_is_shown_and_its_end_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SOON", 0.0)
    monkeypatch.setenv(progress.VARIABLE, "0.02")
    generate_streets(tmp_path / "root", TINY)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("drawing the synthetic streets")]
    assert len(lines) > 1
    assert lines[-1].startswith("drawing the synthetic streets: 7 frames in ")


def test_a_larger_set_begins_with_the_same_frames(tiny, tmp_path):
    write_streets(tmp_path / "root", StreetsSpec(size=(32, 64), train=5, val=2, test=1, train_extra=1), workers=1)
    assert pictures(tmp_path / "root").items() >= pictures(tiny).items()


def test_a_finished_root_is_left_alone(tiny, monkeypatch):
    monkeypatch.setattr(streets, "draw_street", lambda *_: pytest.fail("drawn again"))
    write_streets(tiny, TINY)


def test_an_empty_root_is_filled(tmp_path):
    (tmp_path / "root").mkdir()
    write_streets(tmp_path / "root", TINY, workers=1)
    assert (tmp_path / "root" / MANIFEST).is_file()


def test_a_root_with_another_spec_is_refused(tiny):
    with refused("data.root", tiny, fix="data.root=DIR"):
        write_streets(tiny, StreetsSpec(size=(32, 64)))


def test_a_root_of_another_generator_version_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(streets, "GENERATOR_VERSION", 99)
    with refused("data.root", tiny):
        write_streets(tiny, TINY)


@pytest.mark.parametrize("name", ["notes.txt", MANIFEST])
def test_a_root_with_other_files_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with refused("data.root", tmp_path, fix="data.root=DIR"):
        write_streets(tmp_path, TINY)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "root").write_text("mine")
    with refused("data.root", tmp_path / "root"):
        write_streets(tmp_path / "root", TINY)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_leaves_nothing_and_is_one_sentence(tmp_path, monkeypatch, workers, capfd):
    written = files.write_bytes

    def write_bytes(path, data, **how):
        if "val" in path.parts:
            raise WriteError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written(path, data, **how)

    monkeypatch.setattr(files, "write_bytes", write_bytes)
    monkeypatch.setattr(streets, "usable_cores", lambda: workers)
    with refused("data.root", "val", ".png", os.strerror(errno.ENOSPC), fix="data.root=DIR"):
        generate_streets(tmp_path / "root", TINY)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    assert capfd.readouterr().err == "", "no traceback of a worker process"


def test_what_a_kill_left_is_removed_and_drawn_again(tiny, tmp_path):
    left = tmp_path / ".root.partial"
    left.mkdir()
    (left / "junk.png").write_bytes(b"half a frame")
    write_streets(tmp_path / "root", TINY, workers=1)
    assert contents(tmp_path / "root") == contents(tiny)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [tmp_path / "root"]


@pytest.mark.parametrize("kind", ["read-only", "file above"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(streets, "draw_street", lambda *_: pytest.fail("drawn"))
    if kind == "file above":
        (tmp_path / "file").touch()
        root = tmp_path / "file" / "root"
    else:
        root = Path("/proc/streets")
    with refused("data.root", root):
        generate_streets(root, TINY)


def test_a_root_whose_name_is_as_long_as_file_systems_take_is_written(tiny, tmp_path):
    root = tmp_path / ("ü" * 125)
    write_streets(root, TINY, workers=1)
    assert contents(root) == contents(tiny)


@pytest.mark.skipif(sys.platform != "linux", reason="a forked process sees the patch")
def test_a_worker_that_dies_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(streets, "_write_frame", lambda *_: os._exit(9))
    with pytest.raises(OSError, match="code 9"):
        write_streets(tmp_path / "root", TINY, workers=2)
    assert not (tmp_path / "root").exists()


def test_two_writers_at_once_agree(tiny, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(write_streets, tmp_path / "root", TINY, 1) for _ in range(2)]
        for job in jobs:
            job.result()
    assert contents(tmp_path / "root") == contents(tiny)


def test_the_manifest_tells_the_spec_and_the_version(tiny):
    manifest = json.loads((tiny / MANIFEST).read_text())
    assert manifest["spec"] == {"size": [32, 64], "train": 3, "val": 2, "test": 1, "train_extra": 1, "seed": 0}
    assert manifest["generator_version"] == streets.GENERATOR_VERSION


@pytest.mark.parametrize("wrong", [{"size": (16, 512)}, {"train": -1}, {"seed": -1}])
def test_a_spec_that_cannot_be_drawn_is_refused(wrong):
    with refused(f"data.streets.{next(iter(wrong))}"):
        StreetsSpec(**wrong)
