"""What an input stands for, reading it, and files that are whole or not there."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from test_predict import files, picture, write_image

from fastscnn.errors import RequestError
from fastscnn.inference.media import find_sources, read_photo, unfinished


@pytest.fixture
def photos(tmp_path):
    for name in ("a.png", "b.bmp", "deeper/a.png"):
        write_image(tmp_path / "photos" / name, picture())
    return tmp_path / "photos"


def names(given, output):
    return [source.name for source in find_sources(given, output)]


def test_names_that_differ_in_the_suffix_alone_do_not_meet(tmp_path):
    for name in ("a.png", "a.jpg", "a.jpg.png", "b.png"):
        write_image(tmp_path / "in" / name, picture())
    assert names(tmp_path / "in", tmp_path / "out") == ["a.jpg", "a.jpg.png", "a.png", "b"]


def test_patterns_and_single_files_are_found_and_the_output_never(photos, tmp_path):
    assert names(str(photos / "**" / "*.png"), tmp_path / "out") == ["a", "deeper/a"]
    assert names(str(photos / "*" / "*.png"), tmp_path / "out") == ["deeper/a"], "one match is called as among many"
    assert names(photos / "b.bmp", tmp_path / "out") == ["b"]
    write_image(photos / "out" / "a_overlay.png", picture())
    assert "out/a_overlay" not in names(photos, photos / "out")


def test_hidden_folders_and_files_of_other_kinds_are_left_out(photos, tmp_path):
    write_image(photos / ".thumbnails" / "a.png", picture())
    (photos / "notes.txt").touch()
    assert names(photos, tmp_path / "out") == ["a", "b", "deeper/a"]


def test_image_that_is_named_is_taken_whatever_its_suffix(tmp_path):
    write_image(tmp_path / "a.png", picture())
    (tmp_path / "a.png").rename(tmp_path / "picture")
    assert names(tmp_path / "picture", tmp_path / "out") == ["picture"]


def test_pattern_in_the_working_folder_is_found(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    (source,) = find_sources("*.bmp", tmp_path / "out")
    assert (source.name, source.path.resolve()) == ("b", (photos / "b.bmp").resolve())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("none", "there is no such file or folder"),
        ("none/*.png", "holds no image"),
        ("notes.txt", "is neither an image"),
        ("empty", "holds no image"),
        ("out", "lies in output"),
        ("out/*.png", "lies in output"),
    ],
)
def test_wrong_inputs_are_one_sentence(tmp_path, given, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RequestError, match=sentence):
        find_sources(str(tmp_path / given), tmp_path / "out")


def test_photo_is_turned_upright(tmp_path):
    """An EXIF orientation of 6 asks for a quarter turn clockwise."""
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, :8] = 255
    _, data = cv2.imencode(".jpg", image)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    block = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "a.jpg").write_bytes(data.tobytes()[:2] + block + data.tobytes()[2:])
    upright = read_photo(tmp_path / "a.jpg")
    assert upright.shape == (32, 16, 3)
    assert upright[:6].mean() > 200 > 50 > upright[12:].mean()


def test_image_beyond_what_opencv_takes_is_a_broken_file(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(OSError, match="no image that OpenCV reads"):
        read_photo(tmp_path / "a.png")


def test_half_written_file_never_has_its_name(tmp_path):
    with pytest.raises(OSError, match="disk full"), unfinished(tmp_path / "a.png") as target:
        target.write_bytes(b"half")
        assert not (tmp_path / "a.png").exists()
        raise OSError("disk full")
    assert files(tmp_path) == []


def test_folder_takes_the_place_of_an_older_one_once_it_is_whole(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with unfinished(tmp_path / "a") as target:
        target.mkdir()
        (target / "new").touch()
        assert files(tmp_path / "a") == ["old"]
    assert files(tmp_path) == ["a/new"]
