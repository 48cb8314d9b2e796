"""What evaluation predicts with: the trained network, its norms folded."""

import pytest
import torch
from torch import nn

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.training.segmentation import Segmentation


def build(**trainer):
    torch.manual_seed(0)
    config = {"model": {"name": "fast_scnn", "dropout": 0.1, "activation": "relu", "skip": "keep"}, "trainer": trainer}
    module = Segmentation(config | {"loss": {"auxiliary_weight": 0.4}}, CAMVID)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return module.eval()


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 72, 104), dtype=torch.uint8, generator=torch.manual_seed(1))


def plain(module, images):
    with torch.no_grad():
        return module(images).argmax(1)


def test_evaluation_predicts_what_the_network_does(images):
    module = build()
    names = set(module.state_dict())
    module.on_validation_epoch_start()
    with torch.no_grad():
        labels = module.predict_labels(images)
    assert (labels != plain(module, images)).float().mean() < 1e-3
    assert set(module.state_dict()) == names, "what is folded is saved nowhere"
    assert len(labels.unique()) > 1


def test_each_evaluation_has_the_weights_of_its_moment(images):
    module = build()
    module.on_test_epoch_start()
    before = plain(module, images)
    with torch.no_grad():
        for weights in module.network.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
        module.on_validation_epoch_start()
        labels = module.predict_labels(images)
    assert (labels != plain(module, images)).float().mean() < 1e-3
    assert (labels != before).float().mean() > 0.01


def test_a_compiled_network_is_left_as_it_is(images):
    module = build(compile=True)
    module.on_validation_epoch_start()
    with torch.no_grad():
        assert torch.equal(module.predict_labels(images), plain(module, images).to(torch.uint8))
