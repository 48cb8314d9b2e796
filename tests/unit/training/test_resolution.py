"""Other input resolutions (section 3.3): the input shrinks or grows, labels and predictions keep their size."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.transforms.normalize import normalize
from fastscnn.models.blocks import downscale
from fastscnn.training.segmentation import Segmentation

MODEL = {"name": "fast_scnn", "in_channels": 3, "activation": "relu", "skip": "keep", "dropout": 0.0}


def module(scale):
    torch.manual_seed(0)
    config = {"model": MODEL, "loss": {"auxiliary_weight": 0.4}, "optimizer": {}, "resolution": {"scale": scale}}
    return Segmentation(config, CITYSCAPES).eval()


def frames(*size):
    generator = torch.manual_seed(1)
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("factor", [2, 4])
def test_input_is_what_opencvs_area_resize_gives(factor):
    images = frames(64, 96)
    ours = downscale(images.float(), 1 / factor)[0].permute(1, 2, 0).numpy()
    theirs = cv2.resize(
        images[0].permute(1, 2, 0).numpy().astype(np.float32),
        (96 // factor, 64 // factor),
        interpolation=cv2.INTER_AREA,
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_full_resolution_is_left_alone_and_an_old_checkpoint_without_the_key_is_full():
    images = frames(32, 32).float()
    assert downscale(images, 1.0) is images
    config = {"model": MODEL, "loss": {"auxiliary_weight": 0.0}, "optimizer": {}}
    assert Segmentation(config, CITYSCAPES).scale == 1.0


@pytest.mark.parametrize("scale", [2.0, 1.5, 1.0, 0.5, 0.25])
@pytest.mark.parametrize("size", [(64, 128), (61, 97), (1, 3)])
def test_prediction_has_the_labels_size_and_is_upsampled_once_from_the_coarse_logits(scale, size):
    ours, images = module(scale), frames(*size)
    with torch.no_grad():
        small = images.float()
        scaled = [max(1, round(side * scale)) for side in size]
        if scale < 1:
            small = F.adaptive_avg_pool2d(small, scaled)
        elif scale > 1:
            small = F.interpolate(small, scaled, mode="bilinear", align_corners=False)
        coarse = ours.network.coarse_logits(normalize(small))
        expected = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)
        assert (ours.predict_labels(images) == expected.argmax(1)).float().mean() > 0.999


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_training_learns_from_labels_of_full_size(scale):
    ours = module(scale).train()
    ours._log_loss = lambda *_: None
    labels = torch.randint(0, 19, (2, 64, 128), dtype=torch.uint8)
    images = frames(64, 128)
    loss = ours.training_step({"image": images, "label": labels, "name": ["a", "b"]}, 0)
    features = ours.network.features(ours._input(images))
    heads = [head(x) for head, x in zip(ours.auxiliary, (features.detail, features.context), strict=True)]
    losses = [
        F.cross_entropy(F.interpolate(x, (64, 128), mode="bilinear", align_corners=False), labels.long())
        for x in (features.logits, *heads)
    ]
    assert loss.item() == pytest.approx((losses[0] + 0.4 * (losses[1] + losses[2])).item(), rel=0.05)
    loss.backward()


def test_same_weights_serve_every_resolution():
    assert module(0.5).load_state_dict(module(0.25).state_dict()).missing_keys == []
