"""What is computed again instead of kept: the same gradients, in half the memory."""

import contextlib

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from fastscnn.models.blocks import AuxiliaryHead, ConvBN
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.training.recompute import Recomputed, choose_keep_memory, choose_recompute


class Heads(nn.Module):
    """Fast-SCNN with an auxiliary head."""

    def __init__(self, activation="relu"):
        super().__init__()
        self.network = FastSCNN(5, activation=activation)
        self.head = AuxiliaryHead(64, 5, activation=activation)

    def forward(self, images):
        features = self.network.features(images)
        return features.logits, self.head(features.detail)


class Changed(nn.Module):
    """A BatchNorm whose output is changed in place and used twice, and one that another follows at once."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = ConvBN(3, 4, 3), ConvBN(4, 4), nn.BatchNorm2d(4)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, images):
        output = self.first(images)
        output.mul_(2)
        output = self.activation(self.second(output)) * output
        return (self.third(self.first[1](output)).exp(),)


def gradients(module, recompute, *, images=None, autocast=False):
    """Gradients of one step from the same weights and random numbers; the outputs."""
    torch.manual_seed(1)
    dtype = next(module.parameters()).dtype
    images = torch.randn(2, 3, 64, 96, dtype=dtype) if images is None else images
    module.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        with Recomputed(module) if recompute else contextlib.nullcontext():
            outputs = module(images)
        loss = sum(output.float().square().mean() for output in outputs)
    loss.backward()
    return [parameter.grad.clone() for parameter in module.parameters()], outputs


def assert_same(module, tolerance, **settings):
    plain, outputs = gradients(module, False, **settings)
    again, same = gradients(module, True, **settings)
    assert all(torch.equal(one, other) for one, other in zip(outputs, same, strict=True))
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_the_same_to_rounding(activation, layout):
    torch.manual_seed(0)
    assert_same(Heads(activation).double().train().to(memory_format=layout), 1e-10)


def test_gradients_are_the_same_in_float32_and_under_autocast():
    torch.manual_seed(0)
    assert_same(Heads().train(), 1e-4)
    torch.manual_seed(0)
    assert_same(Heads().train(), 2e-2, autocast=True)


def test_running_statistics_move_once_a_step():
    torch.manual_seed(0)
    module = Heads().train()
    gradients(module, True)
    norm = module.network.learning_to_downsample[0][1]
    assert int(norm.num_batches_tracked) == 1


def test_statistics_that_are_frozen_are_left_alone():
    torch.manual_seed(0)
    assert_same(Heads().double().eval(), 1e-10)


def test_output_that_was_changed_or_is_no_longer_there_is_not_mistaken_for_another():
    torch.manual_seed(0)
    module = Changed().double().train()
    for _ in range(3):
        assert_same(module, 1e-10, images=torch.randn(2, 3, 16, 16, dtype=torch.float64))


def test_outputs_of_batchnorm_are_let_go_of():
    freed = {}
    for recompute in (False, True):
        torch.manual_seed(0)
        module, kept = Heads().train(), []
        norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
        for norm in norms:
            norm.register_forward_hook(lambda *call, kept=kept: kept.append(StorageWeakRef(call[2].untyped_storage())))
        with Recomputed(module) if recompute else contextlib.nullcontext():
            outputs = module(torch.randn(2, 3, 64, 96))
        freed[recompute] = sum(storage.expired() for storage in kept)
        assert len(kept) == len(norms)
        assert outputs
    assert freed[True] - freed[False] > 0.7 * len(norms)


def test_gradients_can_be_asked_for_twice():
    torch.manual_seed(0)
    module = Heads().double().train()
    with Recomputed(module):
        loss = sum(output.square().mean() for output in module(torch.randn(2, 3, 32, 32, dtype=torch.float64)))
    first = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(module.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("setting", "shape", "device", "compiled", "expected"),
    [
        ("auto", (2, 3, 1024, 2048), "cpu", False, True),
        ("auto", (2, 3, 512, 1024), "cpu", False, False),
        ("auto", (12, 3, 1024, 2048), "meta", False, False),
        (True, (1, 3, 8, 8), "meta", False, True),
        (False, (2, 3, 1024, 2048), "cpu", False, False),
        (True, (2, 3, 1024, 2048), "cpu", True, False),
    ],
)
def test_automatic_choice(setting, shape, device, compiled, expected):
    images = torch.empty(1, device=device).expand(shape)
    assert choose_recompute(setting, images, compiled=compiled) is expected


def test_automatic_choice_goes_by_what_the_network_sees():
    chosen = [choose_recompute("auto", torch.empty(8, 1, 240, 320), compiled=False, scale=s) for s in (1.0, 2.0)]
    assert chosen == [False, True]


@pytest.mark.parametrize(
    ("setting", "pixels", "expected"),
    [("auto", 6 * 256 * 512, True), ("auto", 2 * 1024 * 2048, False), (True, 10**8, True), (False, 1, False)],
)
def test_memory_is_kept_where_little_of_it_is_needed(setting, pixels, expected):
    assert choose_keep_memory(setting, pixels) is expected
