"""The network against the paper: sizes, costs, and the outputs of an independent re-statement of its tables."""

import pytest
import torch
import torch.nn.functional as F

from fastscnn.models.blocks import AuxiliaryHead
from fastscnn.models.build import build_network
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.models.flops import count_parameters, network_cost
from helpers import refused


class Restated:
    """Tables 1 to 3 as plain functional calls that take the weights one after another, in the order of the tables."""

    def __init__(self, network: torch.nn.Module, activation: str = "relu", skip: str = "keep") -> None:
        state = network.state_dict()
        self.tensors = iter([(k, v) for k, v in state.items() if not k.endswith("num_batches_tracked")])
        self.f = {"relu": lambda x: x.clamp(min=0), "relu6": lambda x: x.clamp(0, 6)}[activation]
        self.skip = skip

    def take(self) -> torch.Tensor:
        return next(self.tensors)[1]

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias, mean, var = (self.take()[:, None, None] for _ in range(4))
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def conv(self, x, stride=1, dilation=1, depthwise=False):
        weight = self.take()
        padding = dilation * (weight.shape[-1] // 2)
        groups = x.shape[1] if depthwise else 1
        return self.norm(F.conv2d(x, weight, None, stride, padding, dilation, groups))

    def dsconv(self, x, stride=1):
        return self.f(self.conv(self.conv(x, stride, depthwise=True)))

    def bottleneck(self, x, stride):
        y = self.f(self.conv(x))
        y = self.f(self.conv(y, stride, depthwise=True))
        y = self.conv(y)
        return x + y if y.shape == x.shape and stride == 1 else y

    def upsample(self, x, like):
        return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        # learning to downsample
        x = self.f(self.conv(images, 2))
        x = self.dsconv(x, 2)
        high = self.dsconv(x, 2)
        # global feature extractor: t, c, n, s of Table 1
        x = high
        for repeats, stride in ((3, 2), (3, 2), (3, 1)):
            for n in range(repeats):
                x = self.bottleneck(x, stride if n == 0 else 1)
        pooled = [x]
        for bins in (1, 2, 3, 6):
            pooled.append(self.upsample(self.f(self.conv(F.adaptive_avg_pool2d(x, bins))), x))
        low = self.f(self.conv(torch.cat(pooled, 1)))
        # feature fusion, Table 3
        high = self.conv(high)
        low = self.conv(self.f(self.conv(self.upsample(low, high), dilation=4, depthwise=True)))
        x = self.f(low if self.skip == "zero" else high + low)
        # classifier
        x = self.dsconv(self.dsconv(x))
        x = F.conv2d(x, self.take(), self.take())
        assert next(self.tensors, None) is None, "a weight was not used"
        return self.upsample(x, images)


def random_network(**arguments) -> FastSCNN:
    """A network whose BatchNorm statistics are not the trivial ones."""
    torch.manual_seed(0)
    network = FastSCNN(**arguments).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return network


@pytest.mark.parametrize("size", [(64, 128), (97, 131), (33, 200)])
@pytest.mark.parametrize(("activation", "skip"), [("relu", "keep"), ("relu6", "keep"), ("relu", "zero")])
def test_outputs_equal_a_restatement_of_the_tables(size, activation, skip):
    network = random_network(activation=activation, skip=skip)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        ours, theirs = network(images), Restated(network, activation, skip)(images)
    assert ours.shape == (2, 19, *size)
    assert ours.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_parameters_are_those_of_the_design_part_by_part():
    network = FastSCNN()
    costs = {cost.name: cost for cost in network_cost(network)}
    pyramid = count_parameters(network.global_feature_extractor[-1])[0]
    assert costs["learning_to_downsample"].parameters == 6_640
    assert costs["global_feature_extractor"].parameters - pyramid == 1_016_448
    assert pyramid == 49_664
    assert costs["feature_fusion"].parameters == 26_496
    assert costs["classifier"].parameters == 38_547
    assert sum(cost.parameters for cost in costs.values()) == 1_137_795
    assert sum(cost.parameters - cost.norm_parameters for cost in costs.values()) == 1_114_115


def test_multiply_adds_are_those_of_the_layers_as_table_1_lists_them():
    costs = {cost.name: cost.macs for cost in network_cost(FastSCNN())}
    half, quarter, eighth = 512 * 1024, 256 * 512, 128 * 256
    separable = {"48": 9 * 32 + 32 * 48, "64": 9 * 48 + 48 * 64, "128": 9 * 128 + 128 * 128}
    downsample = half * 27 * 32 + quarter * separable["48"] + eighth * separable["64"]
    assert costs["learning_to_downsample"] == downsample
    assert costs["feature_fusion"] == eighth * (separable["128"] + 64 * 128)
    assert costs["classifier"] == eighth * (2 * separable["128"] + 128 * 19)
    assert sum(costs.values()) == 6_709_649_408


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (5, 3), (31, 17), (32, 32), (100, 65)])
def test_any_size_from_one_up_gives_logits_of_that_size(size):
    network = FastSCNN(num_classes=3).eval()
    assert network(torch.randn(1, 3, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize(("classes", "channels", "batch"), [(1, 1, 3), (64, 4, 1), (255, 2, 2)])
def test_any_classes_channels_and_batch(classes, channels, batch):
    network = FastSCNN(num_classes=classes, in_channels=channels).eval()
    assert network(torch.randn(batch, channels, 40, 56)).shape == (batch, classes, 40, 56)


def test_coarse_logits_are_at_an_eighth():
    assert FastSCNN().eval().coarse_logits(torch.randn(1, 3, 65, 129)).shape == (1, 19, 9, 17)


def test_training_with_one_image_says_why_it_cannot():
    with pytest.raises(ValueError, match="no batch statistics at the 1x1 pooled map"):
        FastSCNN().train()(torch.randn(1, 3, 64, 64))


def test_training_with_two_images_gives_every_parameter_a_gradient_even_without_the_skip():
    for skip in ("keep", "zero"):
        network = FastSCNN(skip=skip).train()
        network(torch.randn(2, 3, 64, 64)).square().mean().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


def test_nothing_of_the_high_resolution_branch_reaches_the_output_with_skip_zero():
    outputs = {}
    for skip in ("keep", "zero"):
        network = random_network(skip=skip)
        images = torch.randn(1, 3, 64, 64, generator=torch.manual_seed(1))
        features = network.features(images)
        for parameter in network.feature_fusion.high.parameters():
            torch.nn.init.normal_(parameter)
        other_branch = network.feature_fusion(torch.randn_like(features.detail), features.context)
        outputs[skip] = (network.feature_fusion(features.detail, features.context), other_branch)
    assert torch.equal(*outputs["zero"])
    assert not torch.equal(*outputs["keep"])


def test_no_convolution_before_a_batchnorm_has_a_bias():
    biased = [name for name, m in FastSCNN().named_modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None]
    assert biased == ["classifier.3"]


def test_auxiliary_head_keeps_the_resolution():
    assert AuxiliaryHead(64, 5).eval()(torch.randn(1, 64, 9, 7)).shape == (1, 5, 9, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"activation": "gelu"}, "relu, relu6"), ({"skip": "half"}, "keep, zero"), ({"num_classes": 0}, "1 or more")],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        FastSCNN(**arguments)


def test_unknown_model_name_is_refused():
    with refused("model.name", "os.system"):
        build_network({"name": "os.system"}, 19)


def test_setting_that_the_network_has_not_is_refused():
    with refused("model.depth", "model.depth=3", "model=fast_scnn"):
        build_network({"name": "fast_scnn", "depth": 3}, 19)


def test_features_hold_what_the_auxiliary_heads_need():
    network = FastSCNN(5).eval()
    features = network.features(torch.randn(1, 3, 64, 64))
    assert [feature.shape[1] for feature in features.inner] == list(network.auxiliary_channels) == [64, 128]
    assert features.inner == (features.detail, features.context)
