"""Files are whole or not there, and a folder that cannot be written is refused before anything is computed."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastscnn.utils.files import (
    WriteError,
    append_text,
    check_writable,
    remove_leftovers,
    replaced,
    utf8,
    write_bytes,
    write_json,
    write_png,
)
from helpers import refused

LONGEST = "a" * 250
SOURCES = str(Path(__file__).parents[3] / "src")


@pytest.fixture
def small_files():
    """Files of this process cannot grow beyond 64 KiB: what a full disk looks like to the one who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("durable", [True, False])
def test_file_takes_the_place_of_the_one_before(tmp_path, durable):
    path = tmp_path / "new folder" / LONGEST
    write_bytes(path, b"first", durable=durable)
    write_bytes(path, b"second", durable=durable)
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_what_was_there_stays_where_writing_fails(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"whole")
    with pytest.raises(KeyboardInterrupt), replaced(path) as target:
        target.write_bytes(b"ha")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_names_the_file_and_leaves_the_one_before(tmp_path, small_files):
    path = tmp_path / "file.png"
    write_bytes(path, b"whole")
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    with pytest.raises(OSError, match=r"file\.png") as caught:
        write_png(path, noise)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_adds_nothing_to_a_file_rather_than_half_a_line(tmp_path, small_files):
    path = tmp_path / "metrics.csv"
    append_text(path, "größe\n")
    append_text(path, "x" * (2**16 - 50) + "\n")
    before = path.read_bytes()
    with pytest.raises(WriteError) as caught:
        append_text(path, "y" * 200 + "\n")
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == before


def test_text_holds_names_that_are_no_text(tmp_path):
    name = "größe"
    assert utf8(name) == utf8(name.encode().decode("ascii", "surrogateescape")) == name.encode()
    assert utf8(os.fsdecode(b"l\xe4uft")) == rb"l\udce4uft"


def test_a_folder_takes_the_place_of_the_one_before(tmp_path):
    path = tmp_path / "labels"
    for content in ("one", "two"):
        with replaced(path) as target:
            target.mkdir()
            (target / content).touch()
    assert [file.name for file in path.iterdir()] == ["two"]


def test_png_holds_the_pixels(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    write_png(tmp_path / "a.png", picture)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], picture)


def test_json_has_no_numbers_that_json_does_not_know(tmp_path):
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": [1.5, float("inf")], "c": "größer"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"a": None, "b": [1.5, None], "c": "größer"}


def test_leftovers_of_a_kill_are_removed_and_nothing_else(tmp_path):
    code = (
        "import os, sys, pathlib; from fastscnn.utils.files import replaced\n"
        "with replaced(pathlib.Path(sys.argv[1], 'file.bin')) as target:\n"
        "    target.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    (tmp_path / "other.txt").touch()
    environment = os.environ | {"PYTHONPATH": SOURCES}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, timeout=300)
    assert done.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    assert len(remove_leftovers(tmp_path)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["other.txt"]


def test_folder_that_can_be_written_is_left_alone(tmp_path):
    check_writable(tmp_path / "a" / "b", "output")
    check_writable(tmp_path, "output")
    assert list(tmp_path.iterdir()) == []


def test_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with refused("output", folder, tmp_path / "file"):
            check_writable(folder, "output")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system that nobody can write to")
def test_folder_that_cannot_be_written_is_refused_also_as_root():
    with refused("output", "/proc/self/new"):
        check_writable(Path("/proc/self/new"), "output")


def test_full_disk_is_refused(tmp_path, small_files):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with refused("output", tmp_path):
        check_writable(tmp_path, "output")
