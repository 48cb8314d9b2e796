"""Run by test_norm_cuda.py with TRITON_INTERPRET=1: the Triton BatchNorm on the CPU, against torch in float64."""

import copy
import sys

import fused_networks
import quick_interpreter  # noqa: F401
import torch
from fused_networks import random_features
from guarded import guarded
from torch import nn

from fastscnn.kernels.cuda import depthwise_training as cuda_depthwise
from fastscnn.kernels.cuda import norm as cuda_norm

CASES = [
    # batch, channels, rows, columns; type; activation; mean and deviation of the features
    ((2, 32, 5, 7), torch.float32, nn.ReLU, (0, 1)),
    ((3, 5, 4, 3), torch.float32, nn.ReLU6, (0.3, 2)),
    ((2, 1, 1, 1), torch.float32, None, (0, 1)),  # two pixels, and one channel
    ((2, 70, 1, 3), torch.float32, nn.ReLU, (1, 1)),
    ((1, 3, 9, 11), torch.float32, None, (1000, 0.01)),
    ((1, 3, 9, 11), torch.float32, nn.ReLU, (-1e5, 1)),
    ((2, 17, 3, 5), torch.bfloat16, nn.ReLU6, (0.5, 1)),
    ((2, 8, 6, 6), torch.float16, nn.ReLU, (20, 0.5)),
]


def random_norm(channels, **options):
    norm = nn.BatchNorm2d(channels, **options)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)[::3] *= -1
        norm.bias.normal_(0.5)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return norm


def rounded(values, dtype):
    """As they are written; so is the gradient, which is of that type already."""
    return values.to(dtype).to(values.dtype)


def derived(call, norm, features, gradient):
    """Output, gradients of features, weight and bias, and the running statistics after it."""
    features = features.detach().requires_grad_()
    out = call(features, norm)
    gradients = torch.autograd.grad(out, [features, norm.weight, norm.bias], gradient.to(out.dtype))
    return [out.detach(), *gradients, norm.running_mean.clone(), norm.running_var.clone()]


def same_as(norm, dtype):
    copy = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    copy.load_state_dict(norm.state_dict())
    return copy.to(dtype)


def check(features, norm, activation=None, gradient=None, factor=4):
    """Compare with float64; torch's float32 may be `factor` times closer, where that is not below a type's rounding."""
    dtype = features.dtype
    gradient = torch.randn(features.shape).to(dtype) if gradient is None else gradient

    def plain(features, norm):
        out = rounded(norm(features), dtype)
        return out if activation is None else rounded(activation(out), dtype)

    exact = derived(plain, same_as(norm, torch.float64), features.double(), gradient)
    eager = derived(plain, same_as(norm, torch.float32), features.float(), gradient)
    own = derived(lambda features, norm: cuda_norm.compute(features, norm, activation), norm, features, gradient)
    assert own[0].dtype == own[1].dtype == dtype
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in own[:2])
    names = "output", "features", "weight", "bias", "running mean", "running variance"
    for name, found, expected, other in zip(names, own, exact, eager, strict=True):
        largest = expected.abs().max()
        rounding = torch.finfo(found.dtype).eps * largest
        allowed = max(factor * (other.double() - expected).abs().max(), 4 * rounding)
        error = (found.double() - expected).abs().max()
        assert error <= allowed, f"{name} of {tuple(features.shape)}, {dtype}: {error / largest} {allowed / largest}"
    assert norm.num_batches_tracked == 1
    return own


def check_cases():
    for shape, dtype, activation, about in CASES:
        check(random_features(shape, dtype, *about), random_norm(shape[1]), activation and activation())


def check_whole_tiles():
    """As on a GPU: 2048 values of a tile, two tiles and a part of one in the second program."""
    cuda_norm.PROGRAMS = 2
    check(random_features((2, 64, 7, 9), torch.float32), random_norm(64), nn.ReLU())


def check_first_tile_far_from_all_others():
    features = random_features((1, 2, 16, 16), torch.float32)
    features[0, :, :4] += 1000
    check(features, random_norm(2), nn.ReLU())


def check_ends():
    """Exactly 0 and 6 are the ends of ReLU6, whose gradient is 0 there."""
    norm = nn.BatchNorm2d(1, eps=0)
    norm.weight.data.fill_(3)
    norm.bias.data.fill_(3)
    features = torch.tensor([-1.0, 1, -1, 1]).reshape(4, 1, 1, 1)  # mean 0, deviation 1
    for activation, passed in ((nn.ReLU6(), 0), (nn.ReLU(), 2), (None, 4)):
        norm.zero_grad()
        out = cuda_norm.compute(features, norm, activation)
        assert out.flatten().tolist() == [0, 6, 0, 6]
        out.sum().backward()
        assert norm.bias.grad == passed, activation
    norm.zero_grad()
    norm.weight.data.fill_(2.995)  # 5.995 is written as 6
    cuda_norm.compute(features.bfloat16(), norm, nn.ReLU6()).sum().backward()
    assert norm.bias.grad == 2
    check(random_features((2, 3, 4, 4), torch.float32, 0, 3), random_norm(3), nn.ReLU6())


def check_undefined():
    """What torch makes NaN is NaN: no activation hides it."""
    for value in (torch.nan, torch.inf):
        features = random_features((2, 3, 2, 2), torch.float32)
        features[0, 1, 0, 0] = value
        for activation in (nn.ReLU(), nn.ReLU6()):
            norm = random_norm(3)
            out, *gradients, mean, variance = derived(
                lambda features, norm, activation=activation: cuda_norm.compute(features, norm, activation),
                *(norm, features, torch.ones_like(features)),
            )
            assert out[:, 1].isnan().all() and gradients[0][:, 1].isnan().all() and variance[1].isnan()
            assert not any(tensor[[0, 2]].isnan().any() for tensor in (out.transpose(0, 1), mean, variance))


def check_running_statistics():
    for momentum in (0.3, 1, None):
        norm = random_norm(5, momentum=momentum)
        plain = copy.deepcopy(norm)
        for step in range(3):
            features = random_features((2, 5, 3, 3), torch.float32, step)
            cuda_norm.compute(features, norm)
            plain(features)
        for name, buffer in norm.named_buffers():
            torch.testing.assert_close(buffer, plain.get_buffer(name), rtol=1e-6, atol=1e-7)


def check_gradients_however_they_lie():
    """Of a part of concatenated channels, of a mean, with channels apart, of one pixel an image, of one image."""
    features, norm = random_features((2, 6, 3, 4), torch.float32), random_norm(6)
    many = random_features((2, 16, 3, 4), torch.float32)
    for gradient in (many[:, 4:10], many[:, :6].contiguous(), torch.tensor(2.0).expand(2, 6, 3, 4), many[:, :12:2]):
        norm.reset_running_stats()
        check(features, norm, nn.ReLU(), gradient)
    assert cuda_norm._as_rows(many[:, 4:10])[0].data_ptr() == many[:, 4:10].data_ptr(), "taken as it is"
    for shape in ((7, 6, 1, 1), (1, 6, 1, 9), (1, 6, 9, 1)):
        wide = random_features((shape[0], 8, *shape[2:]), torch.float32)
        assert cuda_norm._as_rows(wide[:, 1:7])[1] == 8
        check(random_features(shape, torch.float32), random_norm(6), nn.ReLU(), wide[:, 1:7])


def check_gradient_of_a_gradient_is_refused():
    features = random_features((2, 3, 2, 2), torch.float32).requires_grad_()
    out = cuda_norm.compute(features, random_norm(3), nn.ReLU())
    (gradient,) = torch.autograd.grad(out.square().sum(), features, create_graph=True)
    try:
        gradient.sum().backward()
    except RuntimeError as error:
        assert "once_differentiable" in str(error)
    else:
        raise AssertionError


def refused(name, launch):
    """A launch of all programs but one."""

    def launch_others(program, *rest, **constants):
        assert program != name
        launch(program, *rest, **constants)

    return launch_others


def check_without_gradients_of_the_features():
    features, norm = random_features((2, 3, 2, 2), torch.float32), random_norm(3)
    expected = check(features, norm)
    launch, cuda_norm.launch = cuda_norm.launch, refused("derive_program", cuda_norm.launch)
    cuda_norm.compute(features, norm).backward(torch.ones_like(features))
    cuda_norm.launch = launch
    assert norm.weight.grad.shape == expected[2].shape
    with torch.no_grad():
        assert not cuda_norm.compute(features, norm).requires_grad


CHECKS = (
    *(check_cases, check_first_tile_far_from_all_others, check_ends, check_undefined, check_running_statistics),
    *(check_gradients_however_they_lie, check_gradient_of_a_gradient_is_refused),
    *(check_without_gradients_of_the_features, fused_networks.check_under_autocast),
)


def main():
    cuda_norm._runs_on = cuda_depthwise._runs_on = lambda device: True
    fused_networks.check_a_network()
    cuda_norm.launch = guarded(cuda_norm.launch)
    torch.manual_seed(0)
    check_whole_tiles()
    # A few pixels are many tiles, in many parts that are put together a few at a time.
    cuda_norm.VALUES, cuda_norm.MOST_CHANNELS, cuda_norm.PROGRAMS, cuda_norm.PARTS = 128, 16, 5, (4, 16)
    for check_part in CHECKS:
        torch.manual_seed(0)
        check_part()


if __name__ == "__main__":
    sys.exit(main())
