"""What killed processes left half-written goes, and what living ones are writing stays."""

import os
import subprocess
import sys
from pathlib import Path

from fastscnn.utils import shared_folder
from fastscnn.utils.files import UNFINISHED
from fastscnn.utils.shared_folder import writing_in

SOURCES = str(Path(__file__).parents[3] / "src")
WRITE = """
import sys
from pathlib import Path
from fastscnn.utils.files import replaced
from fastscnn.utils.shared_folder import writing_in
with writing_in(Path(sys.argv[1])), replaced(Path(sys.argv[1], "deeper", "file")) as target:
    target.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def writer(folder):
    """A process that has written half of a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(folder)],
        env=os.environ | {"PYTHONPATH": SOURCES},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    return process


def names(folder):
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_what_a_killed_process_left_is_removed_and_whole_files_are_not(tmp_path):
    (tmp_path / "whole").touch()
    process = writer(tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert len(names(tmp_path)) == 2
    with writing_in(tmp_path):
        assert names(tmp_path) == ["whole"]


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    process = writer(tmp_path)
    with writing_in(tmp_path):
        assert len(names(tmp_path)) == 1
        process.communicate("", timeout=60)
    assert process.returncode == 0
    assert names(tmp_path) == ["file"]


def test_without_locks_only_old_leftovers_go(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_folder, "fcntl", None)
    for age, name in ((0, "new"), (100_000, "old")):
        path = tmp_path / f"{UNFINISHED}{name}"
        path.touch()
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    with writing_in(tmp_path):
        assert names(tmp_path) == [f"{UNFINISHED}new"]
