"""Checkpoints are written beside their place and take it whole."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from fastscnn.runs.checkpoint import META, read_checkpoint
from fastscnn.runs.checkpoint_files import CheckpointFiles
from fastscnn.runs.record import BEST, LAST
from fastscnn.runs.resume_point import resume_point
from fastscnn.training.transfer import read_tensors
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import UNFINISHED, remove_leftovers
from helpers import make_run


def test_tmpdir_is_never_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/dev/full")
    monkeypatch.setattr("tempfile.tempdir", None)
    path = tmp_path / "checkpoints" / "last.ckpt"
    CheckpointFiles().save_checkpoint({"epoch": 3, "tensor": torch.ones(2)}, path)
    assert CheckpointFiles().load_checkpoint(path)["tensor"].tolist() == [1, 1]
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_failed_write_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    files = CheckpointFiles()
    files.save_checkpoint({"epoch": 1}, path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"last\.ckpt.*No space left on device"):
        files.save_checkpoint({"epoch": 2}, path)
    assert files.load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_kill_within_a_write_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "last.ckpt"
    code = (
        "import sys, torch; from fastscnn.runs.checkpoint_files import CheckpointFiles\n"
        "while True: CheckpointFiles().save_checkpoint({'t': torch.ones(2**20)}, sys.argv[1])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], env=environment)
    while not (path.exists() and list(tmp_path.glob(f"{UNFINISHED}*"))):
        assert process.poll() is None
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    remove_leftovers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert CheckpointFiles().load_checkpoint(path)["t"].shape == (2**20,)


def zeroed(path, size=64 * 1024):
    """Overwrite the middle of a file, as a disk or a copy that lost a part leaves it."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + size] = bytes(size)
    path.write_bytes(content)


@pytest.mark.parametrize("read", [read_checkpoint, CheckpointFiles().load_checkpoint, read_tensors])
def test_part_that_was_lost_is_no_weight(read, tmp_path):
    path = tmp_path / "last.ckpt"
    content = {META: {"config": {}, "classes": {}}, "state_dict": {"weight": torch.randn(2**16)}}
    CheckpointFiles().save_checkpoint(content, path)
    read(path)
    zeroed(path)
    with pytest.raises((RequestError, ValueError), match="is damaged: the checksum of its part"):
        read(path)


def test_damaged_last_checkpoint_is_not_resumed_from(tmp_path):
    folder = make_run(tmp_path / "run", "trainer.max_epochs=4")
    last, best = folder / LAST, folder / BEST
    content = torch.load(last, weights_only=True) | {"state_dict": {"weight": torch.randn(2**16)}}
    for path in (last, best):
        CheckpointFiles().save_checkpoint(content, path)
    assert resume_point(folder).checkpoint == last
    zeroed(last)
    assert resume_point(folder).checkpoint == best
