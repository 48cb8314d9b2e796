"""Weights that travel without pickles: what is saved comes back, damage is named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.export.export import export
from fastscnn.export.pretrained import push_to_hub, save_pretrained
from fastscnn.inference.hub import on_disk
from fastscnn.inference.loader import load_trained
from fastscnn.runs.safetensors import CONFIG, WEIGHTS
from helpers import refused, trained_network


@pytest.fixture(scope="module")
def network():
    return trained_network(0.5, activation="relu6")


@pytest.fixture
def folder(tmp_path, network):
    return save_pretrained(tmp_path / "net", network, metrics={"val/miou": 0.5, "val/iou/sky": float("nan")})


def test_round_trip_is_the_same_network(folder, network):
    for again in (load_trained(folder), load_trained(str(folder)), load_trained(folder / "model.safetensors")):
        images = torch.randn(1, 3, 40, 56)
        assert torch.equal(network.network(images), again.network(images))
        assert again.classes == CAMVID
        assert again.scale == 0.5
        assert not again.network.training
    assert load_trained(folder, skip="zero").network.feature_fusion.skip == "zero"


def test_folder_has_the_networks_tensors_and_a_plain_config_without_paths(tmp_path, network):
    config = {**network.config, "data": {"dataset": "camvid", "root": "/somewhere/private"}, "seed": 3}
    folder = save_pretrained(tmp_path, type(network)(network.network, CAMVID, config), metrics={"val/miou": 0.5})
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert load_file(folder / "model.safetensors").keys() == network.network.state_dict().keys()
    text = (folder / "config.json").read_text()
    content = json.loads(text)
    assert content["metrics"] == {"val/miou": 0.5}
    assert content["classes"]["names"] == list(CAMVID.names)
    assert "private" not in text


def test_metrics_that_are_no_numbers_stay_json(folder):
    assert json.loads((folder / "config.json").read_text())["metrics"]["val/iou/sky"] is None


@pytest.mark.parametrize("keep", [0, 10, 100_000])
def test_cut_weights_are_named(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with refused("checkpoint", "model.safetensors", "is damaged", fix="again"):
        load_trained(folder)


@pytest.mark.parametrize(
    ("change", "key", "fact"),
    [
        (lambda content: "{", "checkpoint", "JSON"),
        (lambda content: "[]", "checkpoint", "save_pretrained"),
        (lambda content: json.dumps(content | {"classes": {"names": []}}), "classes", "file_values"),
        (lambda content: json.dumps(content | {"normalization": {"mean": [0, 0, 0]}}), "checkpoint", "normalization"),
        (lambda content: json.dumps(content | {"config": {"model": {"name": "os.system"}}}), "model.name", "os.system"),
        (
            lambda content: json.dumps(content | {"classes": content["classes"] | {"names": ["a", "b"]}}),
            "classes.colors",
            "2 colors",
        ),
    ],
)
def test_config_that_is_wrong_is_refused(folder, change, key, fact):
    file = folder / "config.json"
    file.write_text(change(json.loads(file.read_text())))
    with refused(key, fact):
        load_trained(folder)


def test_lost_part_of_the_weights_is_no_weight(folder):
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
    file.write_bytes(data)
    with refused("checkpoint", file, "checksum", fix="Copy both again"):
        load_trained(folder)
    config = folder / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({key: value for key, value in content.items() if key != "weights_crc32"}))
    assert load_trained(folder).classes == CAMVID, "files of earlier versions have no checksum"


def test_missing_half_is_named(folder, tmp_path):
    (folder / "config.json").unlink()
    with refused("checkpoint", "config.json"):
        load_trained(folder)
    with refused("checkpoint", "no such folder"):
        load_trained(tmp_path / "no such folder" / "at all")


@pytest.mark.parametrize("name", ["checkpoints/best.ckpt", "here/net", "/somewhere/net", "a/b/c"])
def test_a_path_is_looked_for_on_no_hub(tmp_path, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **options: pytest.fail("asked the Hub"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert on_disk(name) == Path(name)


def test_hub_gives_the_two_files_at_the_revision(folder, network, monkeypatch):
    asked = []

    def download(repository, file, revision):
        asked.append((repository, file, revision))
        return str(folder / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    again = load_trained("someone/fast-scnn", revision="v1")
    assert asked == [("someone/fast-scnn", file, "v1") for file in ("model.safetensors", "config.json")]
    assert again.classes == CAMVID


def test_hub_that_cannot_be_reached_is_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with refused("checkpoint", "someone/no-such-network-here") as error:
        load_trained("someone/no-such-network-here")
    assert "\n" not in str(error.value)


def test_pushing_uploads_what_saving_writes(network, monkeypatch):
    uploaded = {}

    class Api:
        def create_repo(self, name, **settings):
            uploaded["repository"] = (name, settings["private"])

        def upload_folder(self, repo_id, folder_path):
            uploaded["network"] = load_trained(folder_path)
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert push_to_hub("me/net", network, private=True) == "https://hub/me/net"
    assert uploaded["repository"] == ("me/net", True)
    assert uploaded["network"].scale == 0.5


def test_export_writes_the_same_folder(tmp_path, network):
    done = export(network, tmp_path / "net", format="safetensors", metrics={"val/miou": 0.25})
    assert {file.name for file in done.files} == {WEIGHTS, CONFIG}
    assert json.loads((tmp_path / "net" / "config.json").read_text())["metrics"] == {"val/miou": 0.25}
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
