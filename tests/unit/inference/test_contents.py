"""Values in a checkpoint that no network can be built from: the file and the key are named, whatever the value."""

import json

import pytest
import torch

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.export.pretrained import save_pretrained
from fastscnn.inference.contents import class_table
from fastscnn.inference.loader import load_trained, open_checkpoint
from fastscnn.inference.segmenter import Segmenter
from fastscnn.runs.checkpoint import META
from fastscnn.training.classification import Classification
from fastscnn.training.segmentation import Segmentation
from helpers import SEGMENTATION, refused, trained_network

pytestmark = pytest.mark.usefixtures("shallow_networks")

WRONG = [
    ("config", None, "config"),
    ("config", {}, "model"),
    ("config.data", None, "data"),
    ("config.data", 5, "data"),
    ("config.data", {"frame_size": None}, "data.frame_size"),
    ("config.data", {"frame_size": [360]}, "data.frame_size"),
    ("config.data", {"frame_size": [0, 480]}, "data.frame_size"),
    ("config.model", {}, "model"),
    ("config.model", None, "model"),
    ("config.model.name", [], "model"),
    ("config.model.dropout", "x", "model.dropout"),
    ("config.model.skip", "x", "model.skip"),
    ("config.model.skip", {}, "model.skip"),
    ("config.model.activation", "x", "model.activation"),
    ("config.model.in_channels", None, "model.in_channels"),
    ("config.resolution", {}, "resolution.scale"),
    ("config.resolution", "half", "resolution"),
    ("config.resolution", None, "resolution"),
    ("config.resolution", {"name": "half", "scale": 0}, "resolution.scale"),
    ("config.resolution", {"name": "half", "scale": -1}, "resolution.scale"),
    ("config.resolution", {"name": "half", "scale": "x"}, "resolution.scale"),
    ("config.resolution", {"name": 5, "scale": 1.0}, "resolution.name"),
    ("config.resolution", {"name": "half", "scale": 0.5, "trained_at": "x"}, "resolution.trained_at"),
    ("config.resolution", {"name": "half", "scale": 0.5, "trained_at": 0}, "resolution.trained_at"),
    ("classes", None, "classes"),
    ("classes", [], "classes"),
    ("classes.extra", 1, "classes"),
    ("classes.names", 5, "classes.names"),
    ("classes.names", [], "classes.names"),
    ("classes.names", [1] * 11, "classes.names"),
    ("classes.name", 5, "classes.name"),
    ("classes.colors", [[0, 0, 0]], "classes.colors"),
    ("classes.colors", [[0, 0]] * 11, "classes.colors"),
    ("classes.colors", [[0, 0, 256]] * 11, "classes.colors"),
    ("classes.file_values", list(range(290, 301)), "classes.file_values"),
    ("classes.file_values", [0] * 11, "classes.file_values"),
    ("classes.ignored_values", [-1], "classes.ignored_values"),
    ("classes.ignored_values", 11, "classes.ignored_values"),
    ("classes.categories", ["a"], "classes.categories"),
    ("classes.ignore_index", 3, "classes.ignore_index"),
]


def changed(content, place, value):
    """A copy of nested mappings with another value in one place."""
    key, _, rest = place.partition(".")
    inner = changed(content[key], rest, value) if rest else value
    return content | {key: inner}


@pytest.fixture(scope="module")
def network():
    return trained_network()


@pytest.fixture(scope="module")
def checkpoint():
    module = Segmentation(SEGMENTATION | {"data": {"dataset": "camvid"}}, CAMVID)
    content = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    return content


@pytest.mark.parametrize(("place", "value", "key"), WRONG)
def test_wrong_value_in_a_checkpoint_is_refused(checkpoint, tmp_path, place, value, key):
    path = tmp_path / "a.ckpt"
    torch.save(checkpoint | {META: changed(checkpoint[META], place, value)}, path)
    for load in (load_trained, Segmentation.from_checkpoint):
        with refused(key, path):
            load(path)


@pytest.mark.parametrize(("place", "value", "key"), WRONG)
def test_wrong_value_in_a_config_is_refused(network, tmp_path, place, value, key):
    folder = save_pretrained(tmp_path, network)
    content = json.loads((folder / "config.json").read_text())
    if "." not in place and not isinstance(value, dict):
        key = "checkpoint"
    (folder / "config.json").write_text(json.dumps(changed(content, place, value)))
    with refused(key, folder):
        load_trained(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, '{"config": 1e999}', "\0"])
def test_text_that_is_no_config_is_refused(network, tmp_path, text):
    folder = save_pretrained(tmp_path, network)
    (folder / "config.json").write_text(text)
    with refused("checkpoint", folder / "config.json"):
        load_trained(folder)


@pytest.mark.parametrize("state", [None, [], {"network.a": 5}])
def test_state_that_holds_no_tensors_is_refused(checkpoint, tmp_path, state):
    torch.save(checkpoint | {"state_dict": state}, tmp_path / "a.ckpt")
    with refused("state_dict", tmp_path / "a.ckpt"):
        load_trained(tmp_path / "a.ckpt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(checkpoint, tmp_path, value):
    state = {name: tensor.clone() for name, tensor in checkpoint["state_dict"].items()}
    state["network.classifier.3.bias"][2] = value
    torch.save(checkpoint | {"state_dict": state}, tmp_path / "a.ckpt")
    with refused("checkpoint", tmp_path / "a.ckpt", "network.classifier.3.bias"):
        Segmenter.from_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("classes", [None, {}, {"name": "x"}, {"name": "x", "names": 5}, {"name": "x", "names": []}])
def test_wrong_classes_of_a_classifier_are_refused(checkpoint, tmp_path, classes):
    content = changed(checkpoint[META], "config.data.dataset", "imagenet") | {"classes": classes}
    torch.save(checkpoint | {META: content}, tmp_path / "a.ckpt")
    with pytest.raises(Exception, match="classes") as error:
        Classification.from_checkpoint(tmp_path / "a.ckpt")
    assert error.value.key.startswith("classes")


def test_table_of_a_whole_checkpoint_is_the_one_that_was_saved(checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "a.ckpt")
    assert open_checkpoint(tmp_path / "a.ckpt").class_table() == CAMVID
    one = {"name": "x", "names": ["a"], "colors": [[1, 2, 3]], "file_values": [7], "ignored_values": []}
    assert class_table(one, "a.ckpt").num_classes == 1
