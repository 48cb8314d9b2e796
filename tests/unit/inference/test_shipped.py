"""The networks that come with the package."""

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from fastscnn import Segmenter
from fastscnn.inference.hub import on_disk
from fastscnn.inference.loader import load_trained
from fastscnn.inference.shipped import CHECKOUT, DEFAULT, NETWORKS, described, shipped_folder
from fastscnn.training.starts import resolve_starts
from fastscnn.utils.errors import RequestError
from helpers import refused


def test_every_network_of_weights_has_a_name_and_every_name_a_network():
    folders = {path.parent.name for path in (CHECKOUT / "weights").glob("*/model.safetensors")}
    assert folders == {network.folder for network in NETWORKS.values()}
    assert DEFAULT in NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_said_of_a_network_is_true(name):
    classes = load_trained(name).classes
    assert NETWORKS[name].classes == f"the {classes.num_classes} classes of {classes.name}"
    assert NETWORKS[name].suited in described(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_name_gives_the_same_network_as_its_folder(name):
    image = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    expected = Segmenter.from_checkpoint(shipped_folder(name))(image)
    assert (Segmenter.from_pretrained(name, threads=1)(image) == expected).all()
    assert (Segmenter.from_checkpoint(name)(image) == expected).all()


def test_a_file_of_the_same_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camvid").mkdir()
    assert on_disk("camvid").resolve() == tmp_path / "camvid"


def test_unknown_network_names_those_that_there_are():
    with pytest.raises(RequestError) as error:
        Segmenter.from_pretrained("kitti")
    assert error.value.key == "name"
    assert error.value.fix == f"Choose one of {', '.join(NETWORKS)}."


def test_word_that_is_neither_a_path_nor_a_network_names_those_that_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fix = f"checkpoint=FILE, or one of {', '.join(NETWORKS)}."
    with refused("checkpoint", "checkpoint=camvit", "no network of this name", fix=f"Set {fix}"):
        load_trained("camvit")
    config = {
        "init": {"checkpoint": "camvit"},
        "pretrain": {"name": "none"},
        "model": {"name": "fast_scnn"},
        "paths": {"output_dir": "outputs"},
    }
    with refused("init.checkpoint", "init.checkpoint=camvit", fix=f"Set init.{fix}"):
        resolve_starts(OmegaConf.create(config))
    (tmp_path / "camvit").touch()
    assert on_disk("camvit") == Path("camvit")


def test_missing_weights_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("fastscnn.inference.shipped.CHECKOUT", tmp_path)
    monkeypatch.setattr("fastscnn.inference.shipped.PACKAGE", tmp_path)
    with pytest.raises(RequestError) as error:
        Segmenter.from_pretrained()
    assert error.value.key == "checkpoint"
    assert "complete checkout" in error.value.fix
