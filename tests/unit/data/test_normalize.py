"""The normalisation of images."""

import pytest
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from fastscnn.data.transforms.normalize import normalize

IMAGES = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_images_are_scaled_as_the_pretrained_networks_of_timm_expect():
    mean, std = torch.tensor(IMAGENET_DEFAULT_MEAN), torch.tensor(IMAGENET_DEFAULT_STD)
    expected = ((IMAGES.permute(0, 2, 3, 1).double() / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(normalize(IMAGES), expected.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_float_image_of_the_same_range_gives_the_same_and_is_left_as_it_was(dtype):
    images = IMAGES.to(dtype)
    normalized = normalize(images)
    assert normalized.dtype == dtype
    torch.testing.assert_close(normalized.float(), normalize(IMAGES))
    assert torch.equal(images, IMAGES.to(dtype))


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (64, 33)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_channels_last_is_another_order_in_memory_of_the_same_values(size, layout, dtype):
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8).to(dtype).contiguous(memory_format=layout)
    before = images.clone()
    ordered = normalize(images, channels_last=True)
    assert ordered.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(ordered, normalize(images))
    assert torch.equal(images, before)


def test_an_image_that_is_learned_gets_its_gradient_also_after_inference():
    with torch.inference_mode():
        normalize(IMAGES)
    images = IMAGES.float().requires_grad_()
    normalize(images, channels_last=True).sum().backward()
    expected = 1 / (255 * torch.tensor(IMAGENET_DEFAULT_STD)).view(3, 1, 1).expand_as(images)
    torch.testing.assert_close(images.grad, expected)
