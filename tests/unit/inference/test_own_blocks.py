"""Blocks of a user's own are one edit: trained, folded, exported and run in every backend without another line."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from own_blocks import SizedFusion, edited, shallow
from torch import nn

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.data.transforms.normalize import normalize
from fastscnn.export.export import export
from fastscnn.inference.backends.backends import TorchBackend
from fastscnn.inference.backends.from_pixels import FromPixels
from fastscnn.inference.backends.torch_fused import FusedConvAdd, fused
from fastscnn.inference.deployed import deployed
from fastscnn.inference.files.runtimes import SUFFIXES
from fastscnn.inference.loader import load_trained
from fastscnn.inference.segmenter import Segmenter
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.models.folding import folded
from fastscnn.models.graph import CoarseLogits
from fastscnn.training.segmentation import Segmentation
from helpers import SEGMENTATION, camvid_frames, randomize_norms

pytestmark = pytest.mark.usefixtures("forked_runtimes")
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of a network with these blocks, trained for two steps."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    with edited(), shallow():
        module = Segmentation(SEGMENTATION, CAMVID)
        before = module.network.feature_fusion.high.weight.clone()
        quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", default_root_dir=folder, enable_progress_bar=False, **quiet
        )
        trainer.fit(module, camvid_frames())
        assert not torch.equal(module.network.feature_fusion.high.weight, before)
        for norm in module.network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.normal_(0, 0.3)
                norm.weight.data.uniform_(0.5, 1.5)
        trainer.save_checkpoint(folder / "own.ckpt")
    return folder / "own.ckpt"


@pytest.fixture(scope="module")
def trained(checkpoint):
    with edited(), shallow():
        return load_trained(checkpoint)


def pictures(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def assert_agrees(segmenter, network):
    for batch in (pictures(2, 33, 75), pictures(1, 64, 96), pictures(1, 1, 1)):
        with torch.inference_mode():
            expected = network(normalize(torch.from_numpy(batch).permute(0, 3, 1, 2))).softmax(1)
        np.testing.assert_allclose(segmenter.probabilities(batch), expected.numpy(), atol=1e-4)
        chosen = expected.gather(1, torch.from_numpy(segmenter(batch)).long()[:, None])[:, 0]
        assert (expected.amax(1) - chosen).max() < 1e-4


def test_every_norm_is_folded(trained):
    network = folded(trained.network)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    # That of the pooling follows three convolutions, so that it stays a layer of its own.
    assert norms == [network.global_feature_extractor[-1].norm]
    images = torch.randn(1, 3, 40, 56)
    torch.testing.assert_close(network.coarse_logits(images), trained.network.coarse_logits(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_segmenter_takes_the_checkpoint_in_every_backend(checkpoint, trained, backend):
    pytest.importorskip(PACKAGES.get(backend, backend))
    with edited(), shallow():
        segmenter = Segmenter.from_checkpoint(checkpoint, backend=backend, device="cpu", threads=1)
    assert_agrees(segmenter, trained.network)


@pytest.mark.parametrize("format", list(PACKAGES))
def test_exported_file_agrees_and_the_segmenter_takes_it(trained, tmp_path, format):
    pytest.importorskip(PACKAGES[format])
    file = tmp_path / f"own{SUFFIXES[format]}"
    export(trained, file, format=format, write="logits")
    assert_agrees(Segmenter.from_checkpoint(file, threads=1), trained.network)


def test_code_that_cannot_be_traced_stays_as_it_is_and_the_rest_is_fused():
    with edited(SizedFusion):
        network = randomize_norms(FastSCNN(5))
    graph = fused(network)
    assert any(isinstance(module, SizedFusion) for module in graph.modules())
    assert any(isinstance(module, FusedConvAdd) for module in graph.modules())
    assert_agrees(Segmenter(FromPixels(TorchBackend(network)), CAMVID), network)


class Deciding(nn.Module):
    """Code that tracing gets wrong: it takes another way where it is traced."""

    def forward(self, high, low):
        return high * 2 if isinstance(high, torch.Tensor) else high


def test_code_that_tracing_gets_wrong_is_not_traced():
    network = randomize_norms(FastSCNN(5))
    network.feature_fusion = Deciding()
    network.classifier = nn.Conv2d(64, 5, 1)
    graph = deployed(CoarseLogits(network))
    images = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        torch.testing.assert_close(graph(images), network.coarse_logits(images))
