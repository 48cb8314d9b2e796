"""How the launches of the network's layers are shared out; on any machine."""

import itertools
from collections import Counter

import pytest
import torch

from fastscnn.inference.backends.triton import TritonNetwork
from fastscnn.kernels.cuda import depthwise, layers, pyramid, separable
from fastscnn.kernels.cuda.choice import Choice, chosen
from fastscnn.models.fast_scnn import FastSCNN


@pytest.mark.parametrize("kilobytes", [64, 99, 163, 227], ids=["T4", "RTX 3090", "A100", "H100"])
def test_what_a_product_loads_ahead_fits_into_a_block(monkeypatch, kilobytes):
    monkeypatch.setattr(separable, "_shared_memory", lambda device: kilobytes << 10)
    for inputs, outputs, beside in itertools.product((128, 384, 768), (64, 128, 256), (False, True)):
        shares = separable.product_shares(64 * 128, inputs)
        stages = separable._stages(torch.empty(1), shares, 2, outputs, beside)
        a_stage = (shares.block + outputs) * shares.chunk * 2
        assert stages * a_stage < (kilobytes << 10) or stages == 1
        assert stages == 4 or kilobytes < 227 or inputs == 128 or outputs == 256, "as it was measured"


def test_blocks_that_walk_are_as_long_as_fills_a_gpu():
    shapes = [(128 * 256, 128), (64 * 128, 384), (32 * 64, 768), (32 * 64, 384), (16 * 32, 576), (30, 16)]
    assert not any(depthwise.form_of(*shape, 1, 1).walks for shape in shapes), "as long as it was not measured"
    with chosen(Choice(walks=True)):
        assert not depthwise.form_of(*shapes[0], 2, 2).walks
        forms = [depthwise.form_of(*shape, 1, 1) for shape in shapes]
    for (pixels, inputs), form in zip(shapes, forms, strict=True):
        blocks = pixels / (form.rows * form.columns) * inputs / form.channels
        assert form.walks and (blocks >= layers.WAVE or form.rows == 4)
    assert [form.rows for form in forms] == [16, 16, 8, 4, 4, 4]


def test_a_frame_takes_as_many_launches_as_it_did(monkeypatch):
    launched = []
    for module in (layers, separable, depthwise, pyramid):
        monkeypatch.setattr(module, "_launch", lambda program, *_, **__: launched.append(program))
        monkeypatch.setattr(module, "_programs", lambda: None)
    TritonNetwork(FastSCNN(19).eval())(torch.zeros(1, 64, 128, 3, dtype=torch.uint8))
    one_each = ["stem_program", "pool_program", "context_program", "project_program", "upsample_program"]
    bottlenecks, others = 9, 4  # with their depthwise convolution in a launch of its own
    assert Counter(launched) == {
        "pointwise_program": bottlenecks,
        "depthwise_program": bottlenecks + others,
        "depthwise_pointwise_program": bottlenecks + others + 1,
        **dict.fromkeys(one_each, 1),
    }
