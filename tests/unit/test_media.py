"""What an input stands for, reading it, and files that are whole or not there."""

import pytest
from test_predict import picture, write_image

from fastscnn.errors import RequestError
from fastscnn.inference.media import find_sources


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
