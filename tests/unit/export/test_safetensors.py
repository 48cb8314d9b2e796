"""Weights that travel without pickles: what is saved comes back, damage is named."""

import json

import pytest
import torch
from safetensors.torch import load_file

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.export.export import export
from fastscnn.inference import hub
from fastscnn.inference.hub import from_pretrained, push_to_hub, save_pretrained
from fastscnn.inference.loader import load_trained
from fastscnn.utils.errors import RequestError
from helpers import refused, trained_network


@pytest.fixture(scope="module")
def network():
    return trained_network(0.5, activation="relu6")


@pytest.fixture
def folder(tmp_path, network):
    return save_pretrained(tmp_path / "net", network, metrics={"val/miou": 0.5, "val/iou/sky": float("nan")})


def test_round_trip_is_the_same_network(folder, network):
    for again in (from_pretrained(folder), load_trained(folder), load_trained(folder / "model.safetensors")):
        images = torch.randn(1, 3, 40, 56)
        assert torch.equal(network.network(images), again.network(images))
        assert again.classes == CAMVID
        assert again.scale == 0.5
        assert not again.network.training
    assert from_pretrained(folder, skip="zero").network.feature_fusion.skip == "zero"


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
    with refused("checkpoint", "model.safetensors", fix="save_pretrained"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "key", "fact"),
    [
        (lambda content: "{", "checkpoint", "JSON"),
        (lambda content: "[]", "checkpoint", "save_pretrained"),
        (lambda content: json.dumps(content | {"classes": {"names": []}}), "checkpoint", "classes"),
        (lambda content: json.dumps(content | {"normalization": {"mean": [0, 0, 0]}}), "checkpoint", "normalization"),
        (lambda content: json.dumps(content | {"config": {"model": {"name": "os.system"}}}), "model.name", "os.system"),
        (
            lambda content: json.dumps(content | {"classes": content["classes"] | {"names": ["a", "b"]}}),
            "checkpoint",
            "own config",
        ),
    ],
)
def test_config_that_is_wrong_is_refused(folder, change, key, fact):
    file = folder / "config.json"
    file.write_text(change(json.loads(file.read_text())))
    with refused(key, fact):
        from_pretrained(folder)


def test_missing_half_is_named(folder, tmp_path):
    (folder / "config.json").unlink()
    with refused("checkpoint", "config.json"):
        load_trained(folder)
    with pytest.raises(RequestError, match="OWNER/NAME"):
        from_pretrained(tmp_path / "no such folder" / "at all")


def test_hub_gives_the_two_files_at_the_revision(folder, network, monkeypatch):
    asked = []

    def download(repository, file, revision):
        asked.append((repository, file, revision))
        return str(folder / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    again = from_pretrained("someone/fast-scnn", revision="v1")
    assert asked == [("someone/fast-scnn", file, "v1") for file in ("model.safetensors", "config.json")]
    assert again.classes == CAMVID


def test_hub_that_cannot_be_reached_is_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RequestError, match="someone/no-such-network-here is no folder here") as error:
        from_pretrained("someone/no-such-network-here")
    assert "\n" not in str(error.value)


def test_pushing_uploads_what_saving_writes(network, monkeypatch):
    uploaded = {}

    class Api:
        def create_repo(self, name, **settings):
            uploaded["repository"] = (name, settings["private"])

        def upload_folder(self, repo_id, folder_path):
            uploaded["network"] = from_pretrained(folder_path)
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert push_to_hub("me/net", network, private=True) == "https://hub/me/net"
    assert uploaded["repository"] == ("me/net", True)
    assert uploaded["network"].scale == 0.5


def test_export_writes_the_same_folder(tmp_path, network):
    done = export(network, tmp_path / "net", format="safetensors", metrics={"val/miou": 0.25})
    assert {file.name for file in done.files} == {hub.WEIGHTS, hub.CONFIG}
    assert json.loads((tmp_path / "net" / "config.json").read_text())["metrics"] == {"val/miou": 0.25}
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
