"""Networks whose layers are computed by our programs in Triton's interpreter; used by interpreted_norm.py."""

import contextlib
import copy
from unittest import mock

import torch
import triton
from own_blocks import shallow
from torch import nn

from fastscnn.kernels.cuda import depthwise_training as cuda_depthwise
from fastscnn.kernels.cuda import norm as cuda_norm
from fastscnn.models.blocks import AuxiliaryHead, ConvBN, DWConvBN
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.training.layer_programs import LayerPrograms


def random_features(shape, dtype, mean=0.0, deviation=1.0):
    features = torch.randn(shape) * deviation + mean
    return features.to(dtype).contiguous(memory_format=torch.channels_last)


class Heads(nn.Module):
    """Fast-SCNN with few bottlenecks, and an auxiliary head."""

    def __init__(self):
        super().__init__()
        with shallow():
            self.network = FastSCNN(3, dropout=0)
        self.head = AuxiliaryHead(64, 3, dropout=0)

    def forward(self, images):
        features = self.network.features(images)
        return features.logits, self.head(features.detail)


def trained(module, block=None):
    """The losses of two steps, and all that they changed."""
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    losses = []
    for step in range(2):
        torch.manual_seed(step)
        images = random_features((3, 3, 64, 64), torch.float32).to(next(module.parameters()).dtype)
        with block or contextlib.nullcontext():
            logits = module(images)
        loss = sum((output - 1).square().mean() for output in logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses), module.state_dict()


def furthest(states, exact):
    """The largest difference of a tensor, as a share of its size."""
    floats = {name: tensor for name, tensor in exact.items() if tensor.is_floating_point()}
    return max(float((states[name] - tensor).norm() / tensor.norm()) for name, tensor in floats.items())


def one_tile(rows, channels):
    """As small as can be, which the interpreter is quick with."""
    return cuda_norm._Shares(1, 1, triton.next_power_of_2(rows), triton.next_power_of_2(channels))


def check_a_network():
    """All BatchNorms of Fast-SCNN, as near to float64 as torch's; the same network before and after."""
    launched = []
    launch = cuda_norm.launch

    def counted(program, *rest, **constants):
        launched.append(program)
        launch(program, *rest, **constants)

    torch.manual_seed(0)
    plain = Heads().train().to(memory_format=torch.channels_last)
    module = copy.deepcopy(plain)
    ours = LayerPrograms(module, [cuda_norm])
    with mock.patch.multiple(cuda_norm, shares=one_tile, PARTS=(1, 256), launch=counted):
        losses, states = trained(module, ours)
    norms = sum(type(part) is nn.BatchNorm2d for part in module.modules())
    assert (
        launched.count("derive_program")
        == launched.count("normalise_program")
        == 2 * norms
        == 2 * ours.count(cuda_norm)
    )
    _, exact = trained(copy.deepcopy(plain).double())
    eager_losses, eager = trained(copy.deepcopy(plain))
    torch.testing.assert_close(losses, eager_losses, rtol=1e-4, atol=0)
    assert states.keys() == eager.keys()
    assert furthest(states, exact) <= 3 * furthest(eager, exact) + 1e-6


def check_under_autocast():
    """The convolutions give bfloat16, and weights and running statistics are float32."""
    plain = nn.Sequential(ConvBN(3, 8, 3), nn.ReLU6(), DWConvBN(8), ConvBN(8, 2), nn.ReLU())
    plain.to(memory_format=torch.channels_last)
    fused, images = copy.deepcopy(plain), random_features((2, 3, 8, 8), torch.float32)
    outputs = []
    programs = [cuda_norm, cuda_depthwise]
    for module, block in ((plain, contextlib.nullcontext()), (fused, LayerPrograms(fused, programs))):
        with torch.autocast("cpu", torch.bfloat16), block:
            outputs.append(module(images))
        outputs[-1].float().square().mean().backward()
    assert outputs[1].dtype == torch.bfloat16 and "_BatchNorm" in type(outputs[1].grad_fn).__name__
    torch.testing.assert_close(*outputs, rtol=0.02, atol=0.02)
    assert all(weight.grad.dtype == torch.float32 for weight in fused.parameters())
    found, expected = (torch.cat([weight.grad.flatten() for weight in part.parameters()]) for part in (fused, plain))
    assert (found - expected).norm() < 0.05 * expected.norm()
