"""Checkpoints: read safely, refused in one sentence, rebuilt by our own code."""

import os
import pickle

import pytest
import torch

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.runs.checkpoint import META, read_checkpoint
from fastscnn.training.segmentation import Segmentation
from helpers import SEGMENTATION, refused


def saved(path, module=None, drop=()):
    module = module or Segmentation(SEGMENTATION, CAMVID)
    content = {"state_dict": {k: v for k, v in module.state_dict().items() if not k.startswith(tuple(drop))}}
    module.on_save_checkpoint(content)
    torch.save(content, path)
    return module


class Harmful:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("drop", [(), ("auxiliary.",)])
def test_checkpoint_evaluates_the_same_with_or_without_the_auxiliary_heads(tmp_path, drop):
    module = saved(tmp_path / "a.ckpt", drop=drop).eval()
    again = Segmentation.from_checkpoint(tmp_path / "a.ckpt").eval()
    images = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    assert torch.equal(module(images), again(images))
    assert again.classes == CAMVID


def test_skip_can_be_changed_on_a_trained_network(tmp_path):
    saved(tmp_path / "a.ckpt")
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    keep, zero = (Segmentation.from_checkpoint(tmp_path / "a.ckpt", skip=skip).eval() for skip in (None, "zero"))
    assert not torch.equal(keep(images), zero(images))
    assert zero.config["model"]["skip"] == "zero"


def test_file_that_would_execute_code_is_refused_without_executing_it(tmp_path, capsys):
    torch.save({META: {}, "state_dict": Harmful()}, tmp_path / "bad.ckpt")
    with refused("checkpoint", "bad.ckpt", fix="best.ckpt"):
        read_checkpoint(tmp_path / "bad.ckpt")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"text, not a checkpoint", b"PK\x03\x04 cut off", pickle.dumps({"a": 1}), b"\x89PNG\r\n"]
)
def test_file_that_is_no_checkpoint_is_named(tmp_path, content):
    (tmp_path / "x.ckpt").write_bytes(content)
    with refused("checkpoint", "x.ckpt"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_checkpoint_cut_off_in_the_middle_is_named(tmp_path):
    saved(tmp_path / "a.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "a.ckpt").read_bytes()[:100_000])
    with refused("checkpoint", "cut.ckpt"):
        read_checkpoint(tmp_path / "cut.ckpt")


def test_missing_file_a_folder_and_a_foreign_checkpoint_are_named_with_the_fix(tmp_path):
    with refused("checkpoint", "none.ckpt", "no such file"):
        read_checkpoint(tmp_path / "none.ckpt")
    with refused("checkpoint", fix="best.ckpt"):
        read_checkpoint(tmp_path)
    os.mkfifo(tmp_path / "pipe.ckpt")
    with refused("checkpoint", "pipe.ckpt", "named pipe"):
        read_checkpoint(tmp_path / "pipe.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with refused("checkpoint", META):
        read_checkpoint(tmp_path / "foreign.ckpt")


def test_tensors_that_do_not_fit_are_named(tmp_path):
    saved(tmp_path / "a.ckpt", drop=("network.classifier.3.weight",))
    with refused("checkpoint", "network.classifier.3.weight"):
        Segmentation.from_checkpoint(tmp_path / "a.ckpt")
