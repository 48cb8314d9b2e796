"""`timm.create_model("fast_scnn")` once fastscnn is imported: the image classifier of section 3.4, as one of timm's."""

import subprocess
import sys

import pytest
import timm
import torch

from fastscnn import _timm
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.models.image_classifier import ImageClassifier
from helpers import SOURCES, randomize_norms

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_it_is_registered_when_timm_is_imported_after_fastscnn():
    code = "import fastscnn, timm; assert timm.is_model('fast_scnn')"
    environment = {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], env=environment, check=True, timeout=120)


def test_it_is_registered_when_fastscnn_is_imported_after_timm(monkeypatch):
    monkeypatch.delitem(timm.models._registry._model_entrypoints, "fast_scnn")
    monkeypatch.delitem(sys.modules, _timm.OURS)
    assert not timm.is_model("fast_scnn")
    _timm.register()
    assert timm.create_model("fast_scnn", num_classes=3).get_classifier().out_features == 3


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "network."])
def test_classifier_takes_the_weights_of_a_pretraining(tmp_path, prefix):
    ours = randomize_norms(ImageClassifier(7)).eval()
    torch.save({"state_dict": {prefix + name: one for name, one in ours.state_dict().items()}}, tmp_path / "best.ckpt")
    theirs = timm.create_model("fast_scnn", num_classes=7, checkpoint_path=tmp_path / "best.ckpt").eval()
    assert torch.equal(theirs(IMAGES), ours(IMAGES))
    assert theirs.forward_head(theirs.forward_features(IMAGES), pre_logits=True).shape == (2, 128)


@torch.no_grad()
@pytest.mark.parametrize(("network", "prefix"), [(ImageClassifier(7), ""), (FastSCNN(5), "network.")])
def test_features_have_the_reductions_and_channels_that_they_name(tmp_path, network, prefix):
    randomize_norms(network)
    tensors = {prefix + name: one for name, one in network.state_dict().items()} | {"auxiliary.0.x": torch.zeros(1)}
    torch.save({"state_dict": tensors}, tmp_path / "best.ckpt")
    features = timm.create_model("fast_scnn", features_only=True, checkpoint_path=tmp_path / "best.ckpt").eval()
    assert features.feature_info.reduction() == [2, 4, 8, 16, 32]
    found = features(IMAGES)
    for one, reduction, channels in zip(
        found, features.feature_info.reduction(), features.feature_info.channels(), strict=True
    ):
        assert one.shape == (2, channels, 64 // reduction, 96 // reduction)
    detail = network.eval().learning_to_downsample(IMAGES)
    assert torch.equal(found[2], detail)
    assert torch.equal(found[4], network.global_feature_extractor(detail))


def test_features_without_a_weight_of_a_shared_part_are_refused(tmp_path):
    tensors = ImageClassifier(7).state_dict()
    del tensors["learning_to_downsample.0.0.weight"]
    torch.save(tensors, tmp_path / "weights.pt")
    with pytest.raises(RuntimeError, match=r"Missing key.*learning_to_downsample_0"):
        timm.create_model("fast_scnn", features_only=True, checkpoint_path=tmp_path / "weights.pt")


def test_settings_are_timms():
    network = timm.create_model("fast_scnn", num_classes=0, in_chans=4, drop_rate=0.3).eval()
    assert network(torch.randn(1, 4, 32, 32)).shape == (1, 128)
    assert network.dropout.p == 0.3
    network.reset_classifier(3)
    assert network(torch.randn(1, 4, 32, 32)).shape == (1, 3)
    assert network.get_classifier().out_features == 3
    data = timm.data.resolve_data_config(model=network)
    assert data["mean"] == timm.data.IMAGENET_DEFAULT_MEAN
    with pytest.raises(ValueError, match="global_pool=max"):
        timm.create_model("fast_scnn", global_pool="max")
    with pytest.raises(RuntimeError, match=r"(?i)pretrained"):
        timm.create_model("fast_scnn", pretrained=True)
