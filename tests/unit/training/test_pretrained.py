"""Pre-trained weights: from which file, what is taken, what is refused."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from fastscnn.data.datasets.images import ImageClasses
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.models.image_classifier import SHARED, ImageClassifier
from fastscnn.training.classification import Classification
from fastscnn.training.transfer import Weights, find_weights, load_pretrained, newest_pretraining, read_tensors
from helpers import CLASSIFICATION, refused


@pytest.fixture(scope="module")
def source():
    """A classifier whose BatchNorm statistics have seen images."""
    torch.manual_seed(0)
    module = Classification(CLASSIFICATION, ImageClasses("ImageNet", tuple(f"n{number:08d}" for number in range(7))))
    module.network.train()(torch.randn(4, 3, 64, 64))
    return module


def shared(tensors):
    return {name: tensor for name, tensor in tensors.items() if name.startswith(SHARED)}


def write_run(folder, *, status="finished", finished="2026-01-01T00:00:00+00:00", **choices):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").touch()
    record = {
        "id": folder.name,
        "status": status,
        "finished": finished,
        "choices": {"data": "imagenet", **choices},
        "checkpoints": {"best": "checkpoints/best.ckpt", "last": None},
        "metrics": {"best": {}, "last": {}},
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize("form", ["ours", "bare", "timm", "ema", "model_state", "ddp", "compiled", "safetensors"])
def test_weights_and_batch_statistics_arrive_from_every_form_of_file(form, source, tmp_path):
    state = source.network.state_dict()
    file = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    elif form == "ours":
        content = {"state_dict": source.state_dict(), "epoch": 3}
        source.on_save_checkpoint(content)
        torch.save(content, file)
    else:
        zeros = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        wrapped = {"ddp": "module.", "compiled": "module._orig_mod."}
        content = {
            "bare": state,
            "timm": {"state_dict": state, "arch": "fast_scnn", "epoch": 1},
            "ema": {"state_dict": zeros, "state_dict_ema": state},
            "model_state": {"model_state": state, "optimizer": {}},
        }
        torch.save(
            content.get(form) or {"model": {wrapped[form] + name: tensor for name, tensor in state.items()}}, file
        )
    network = FastSCNN(11)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    transfer = load_pretrained(network, find_weights({"name": "imagenet", "checkpoint": str(file)}, tmp_path))
    after = network.state_dict()
    assert len(transfer.taken) == len(shared(before))
    for name in before:
        assert torch.equal(after[name], state[name] if name in shared(before) else before[name]), name
    statistics = [name for name in transfer.taken if name.endswith("running_mean")]
    assert statistics
    assert not any(torch.equal(after[name], before[name]) for name in statistics)
    assert sorted(transfer.ignored) == ["fc.bias", "fc.weight"]


def test_what_was_taken_and_what_was_not_is_told(source, tmp_path):
    tensors = dict(source.network.state_dict())
    del tensors["learning_to_downsample.0.0.weight"]
    tensors["global_feature_extractor.0.layers.0.0.weight"] = torch.zeros(1, 2, 1, 1)
    network = FastSCNN(11)
    transfer = load_pretrained(network, Weights(tmp_path / "a.pth", "c0ffee", tensors))
    total = len(shared(network.state_dict()))
    text = str(transfer)
    assert f"{total - 2} of {total} tensors of learning_to_downsample and global_feature_extractor taken" in text
    assert "a.pth" in text
    assert "fc.weight, fc.bias" in text
    assert "learning_to_downsample.0.0.weight" in text
    assert "feature_fusion (" in text
    assert "global_feature_extractor.0.layers.0.0.weight (1x2x1x1 in the file, 384x64x1x1 here)" in text
    assert transfer.record()["run"] == "c0ffee"
    assert transfer.record()["taken"] == total - 2
    json.dumps(transfer.record())


def test_a_segmentation_checkpoint_gives_the_two_parts_alone():
    first, second = FastSCNN(11), FastSCNN(11)
    before = second.feature_fusion.state_dict()["high.0.weight"].clone()
    transfer = load_pretrained(second, Weights("x", None, first.state_dict()))
    assert all(name.startswith(SHARED) for name in transfer.taken)
    assert torch.equal(second.feature_fusion.state_dict()["high.0.weight"], before)


def test_a_file_of_another_network_is_refused_with_names_of_both_sides():
    with refused("pretrain.checkpoint", "stem.weight", "learning_to_downsample.0.0.weight"):
        load_pretrained(FastSCNN(11), Weights("x", None, {"stem.weight": torch.zeros(3)}))


def test_files_that_cannot_be_read_are_refused_in_one_sentence(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (print, ("executed",))

    (tmp_path / "harmful.pth").write_bytes(pickle.dumps(Harmful()))
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    for name, text in (
        ("nothing.pth", "there is no such file"),
        (".", "is a folder, not a file"),
        ("pipe.pth", "is a named pipe, not a file"),
        ("harmful.pth", "cannot be read safely"),
        ("broken.safetensors", "is damaged or is not a safetensors file"),
        ("empty.pth", "holds no tensors"),
    ):
        with refused("pretrain.checkpoint", text) as caught:
            read_tensors(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_the_newest_finished_pretraining_run_is_taken(tmp_path):
    write_run(tmp_path / "imagenet" / "a", finished="2026-01-01T00:00:00+00:00")
    newest = write_run(tmp_path / "imagenet-activation_relu6" / "b", finished="2026-01-02T00:00:00+00:00")
    write_run(tmp_path / "imagenet" / "c", finished="2026-01-03T00:00:00+00:00", debug="one_batch")
    write_run(tmp_path / "imagenet" / "d", finished="2026-01-04T00:00:00+00:00", status="failed")
    write_run(tmp_path / "fine" / "e", finished="2026-01-05T00:00:00+00:00", data="fine")
    write_run(tmp_path / "imagenet" / "f", finished="2026-01-06T00:00:00+00:00").unlink()
    (tmp_path / "imagenet" / "g").mkdir()
    (tmp_path / "imagenet" / "g" / "run.json").write_text("{")
    assert newest_pretraining(tmp_path) == newest


def test_without_a_pretraining_run_the_command_to_run_is_told(tmp_path):
    with refused("pretrain", "outputs", fix="experiment=imagenet_pretrain data.root=DIR"):
        find_weights({"name": "imagenet", "checkpoint": None}, tmp_path / "outputs")
    assert find_weights({"name": "none"}, tmp_path) is None


def test_half_precision_weights_are_taken_as_float32():
    network = FastSCNN(11)
    half = {name: t.half() if t.is_floating_point() else t for name, t in ImageClassifier(5).state_dict().items()}
    load_pretrained(network, Weights("x", None, half))
    assert network.learning_to_downsample[0][0].weight.dtype == torch.float32
