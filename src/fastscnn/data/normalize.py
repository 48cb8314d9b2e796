"""The one normalisation of images, used on the device by training and inference."""

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalize(images: Tensor) -> Tensor:
    """Scale RGB images of range 0 to 255 to the mean and deviation of ImageNet's.

    uint8 or float [B, 3, H, W] on any device, to float of the same shape; float32 from uint8, the float's own
    type otherwise. The input is left as it is. Statistics: torchvision, `IMAGENET1K` weights.
    """
    dtype = images.dtype if images.is_floating_point() else torch.float32
    mean = torch.tensor(MEAN, dtype=dtype, device=images.device).view(3, 1, 1) * 255
    std = torch.tensor(STD, dtype=dtype, device=images.device).view(3, 1, 1) * 255
    return (images.to(dtype) - mean) / std
