"""Folded and fused copies of the network against the network itself."""

import pytest
import torch
from torch import nn

from fastscnn.inference.backends.torch_fused import fused
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.models.folding import folded
from fastscnn.models.graph import CoarseLogits
from helpers import randomize_norms


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def logits_of(copy):
    return CoarseLogits(copy) if isinstance(copy, FastSCNN) else copy


@pytest.mark.parametrize("copied", [folded, fused])
@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("skip", ["keep", "zero"])
def test_copy_computes_what_the_network_does(copied, activation, skip):
    network = randomize_norms(FastSCNN(7, activation=activation, skip=skip))
    images = torch.randn(2, 3, 65, 97)
    with torch.inference_mode():
        expected = network.coarse_logits(images)
        for given in (images, images.contiguous(memory_format=torch.channels_last)):
            logits = logits_of(copied(network))(given)
            torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("copied", [folded, fused])
def test_no_batch_norm_is_left_and_the_network_stays_as_it_was(copied):
    network = randomize_norms(FastSCNN(3))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    copy = copied(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copy.modules())
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_the_operators_the_plain_layers_stay(monkeypatch):
    monkeypatch.setattr("fastscnn.inference.backends.torch_fused.available", lambda: False)
    network = randomize_norms(FastSCNN(3))
    images = torch.randn(1, 3, 40, 48)
    with torch.inference_mode():
        torch.testing.assert_close(fused(network)(images), network.coarse_logits(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrong", [TypeError, RuntimeError, None])
def test_operators_that_are_others_by_now_are_not_used(monkeypatch, wrong):
    """Another version of torch may change the arguments, or what comes out."""

    def forward(self, features):
        if wrong:
            raise wrong
        return torch.zeros(())

    monkeypatch.setattr("fastscnn.inference.backends.torch_fused.FusedConv.forward", forward)
    network = randomize_norms(FastSCNN(3))
    images = torch.randn(1, 3, 40, 48)
    with torch.inference_mode():
        torch.testing.assert_close(fused(network)(images), network.coarse_logits(images), rtol=1e-5, atol=1e-5)
