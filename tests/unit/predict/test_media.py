"""What an input stands for: files, folders, patterns and links, told apart by what is in the files."""

import os
import socket

import cv2
import pytest

from fastscnn.predict.inputs import find_sources
from helpers import random_image, refused, write_image


@pytest.fixture
def photos(tmp_path):
    for name in ("a.png", "b.bmp", "deeper/a.png"):
        write_image(tmp_path / "photos" / name, random_image())
    return tmp_path / "photos"


def names(given, output):
    return [source.name for source in find_sources(given, output)]


def test_names_that_differ_in_the_suffix_alone_do_not_meet(tmp_path):
    for name in ("a.png", "a.jpg", "a.jpg.png", "b.png"):
        write_image(tmp_path / "in" / name, random_image())
    assert names(tmp_path / "in", tmp_path / "out") == ["a.jpg", "a.jpg.png", "a.png", "b"]


def test_patterns_and_single_files_are_found_and_the_output_never(photos, tmp_path):
    assert names(str(photos / "**" / "*.png"), tmp_path / "out") == ["a", "deeper/a"]
    assert names(str(photos / "*" / "*.png"), tmp_path / "out") == ["deeper/a"], "one match is called as among many"
    assert names(photos / "b.bmp", tmp_path / "out") == ["b"]
    write_image(photos / "out" / "a_overlay.png", random_image())
    assert "out/a_overlay" not in names(photos, photos / "out")


def test_hidden_folders_and_files_of_other_kinds_are_left_out(photos, tmp_path):
    write_image(photos / ".thumbnails" / "a.png", random_image())
    (photos / "notes.txt").touch()
    assert names(photos, tmp_path / "out") == ["a", "b", "deeper/a"]


def test_image_that_is_named_is_taken_whatever_its_suffix(tmp_path):
    write_image(tmp_path / "a.png", random_image())
    (tmp_path / "a.png").rename(tmp_path / "picture")
    assert names(tmp_path / "picture", tmp_path / "out") == ["picture"]


def test_pattern_in_the_working_folder_is_found(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    (source,) = find_sources("*.bmp", tmp_path / "out")
    assert (source.name, source.path.resolve()) == ("b", (photos / "b.bmp").resolve())


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("none", "input"),
        ("none/*.png", "input"),
        ("notes.txt", "input"),
        ("empty", "input"),
        ("out", "output"),
        ("out/*.png", "output"),
    ],
)
def test_wrong_inputs_are_refused(tmp_path, given, key):
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "notes.txt").touch()
    with refused(key, f"input={tmp_path / given}"):
        find_sources(str(tmp_path / given), tmp_path / "out")


def link(place, target):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target, target_is_directory=True)


def test_linked_folders_are_followed_alike_by_a_folder_and_a_pattern(photos, tmp_path):
    write_image(tmp_path / "elsewhere" / "c.png", random_image())
    link(photos / "linked", tmp_path / "elsewhere")
    assert names(photos, tmp_path / "out") == ["a", "b", "deeper/a", "linked/c"]
    assert names(str(photos / "**" / "*.png"), tmp_path / "out") == ["a", "deeper/a", "linked/c"]
    assert names(str(photos / "**"), tmp_path / "out") == ["a", "b", "deeper/a", "linked/c"]


def test_links_in_a_circle_end(photos, tmp_path):
    link(photos / "again", photos)
    link(photos / "deeper" / "up", photos)
    link(photos / "deeper" / "beside", photos / "deeper")
    write_image(tmp_path / "other" / "d.png", random_image())
    link(tmp_path / "other" / "back", photos)
    link(photos / "other", tmp_path / "other")
    expected = ["a", "b", "deeper/a", "other/d"]
    assert names(photos, tmp_path / "out") == expected
    assert names(str(photos / "**" / "*.*"), tmp_path / "out") == expected


def test_pattern_finds_what_the_shell_would(photos, tmp_path):
    write_image(photos / ".hidden" / "h.png", random_image())
    write_image(photos / "deeper" / ".h.png", random_image())
    write_image(photos / "deeper" / "deepest" / "d.png", random_image())
    assert names(str(photos / "deep*" / "**" / "*.png"), tmp_path / "out") == ["deeper/a", "deeper/deepest/d"]
    assert names(str(photos / "?.[bp][mn][pg]"), tmp_path / "out") == ["a", "b"]
    assert names(str(photos / ".hid*" / "*.png"), tmp_path / "out") == [".hidden/h"]
    assert names(str(photos / "*" / "deepest" / "d.png"), tmp_path / "out") == ["deeper/deepest/d"]


def test_files_without_a_suffix_that_says_what_they_are_are_asked(photos, tmp_path):
    (photos / "a.png").rename(photos / "IMG_0001")
    (photos / "b.bmp").rename(photos / "b.backup")
    (photos / "notes.txt").write_text("P3 is no picture")
    (photos / "table.csv").write_text("a,b\n" * 100)
    assert names(photos, tmp_path / "out") == ["IMG_0001", "b", "deeper/a"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_refused_before_it_is_opened_and_left_out_of_folders(photos, tmp_path, kind, monkeypatch):
    """Whoever opens a named pipe waits for ever."""
    monkeypatch.chdir(photos)  # a socket's name is short
    name = f"{kind}.png"
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
    else:
        os.symlink("/dev/zero", name)
    with refused("input", f"input={name} is a", f"{kind}, not a file"):
        find_sources(name, tmp_path / "out")
    assert names(photos, tmp_path / "out") == ["a", "b", "deeper/a"]
    assert names(str(photos / "*.png"), tmp_path / "out") == ["a"]


def test_link_to_nothing_is_told_as_missing(photos, tmp_path):
    link(photos / "gone.png", tmp_path / "nowhere.png")
    with refused("input", "gone.png cannot be read: No such file"):
        find_sources(photos / "gone.png", tmp_path / "out")


def test_image_named_as_a_video_is_an_image(tmp_path):
    _, data = cv2.imencode(".png", random_image())
    (tmp_path / "a.mp4").write_bytes(data.tobytes())
    (source,) = find_sources(tmp_path / "a.mp4", tmp_path / "out")
    assert not source.is_video
