"""The other models of the paper's tables, from the library pytorchcv (MIT), with random weights."""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fastscnn.models.base import OnlyLogits, SegmentationNetwork
from fastscnn.models.blocks import check_batch
from fastscnn.utils.errors import RequestError


@dataclass(frozen=True)
class PeerInfo:
    """A model of the paper's Tables 4 and 6, and its source.

    Attributes:
        paper_name: Its name in the paper's tables.
        function: The function of pytorchcv that builds it.
        parameters: Millions, by the paper; None if the paper does not give them.
        note: How the library's variant differs from the paper's.
        multiple: The library's network takes multiples of this as height and width.
        stride: Pixels of the image to one of the logits before the last upsampling; 1 if there is no upsampling.
        upsampling: Name of the library's module that ends with the last upsampling, if there is one.
        any_channels: Whether it takes images of other than three channels.
        auxiliary: Names of modules that serve the library's auxiliary losses alone; they are left out, so that every
            parameter has a gradient, as distributed training needs it.
    """

    paper_name: str
    function: str
    parameters: float | None
    note: str
    multiple: int
    stride: int = 1
    upsampling: str | None = None
    any_channels: bool = False
    auxiliary: tuple[str, ...] = ()


PEERS = {
    "segnet": PeerInfo(
        "SegNet",
        "segnet_cityscapes",
        29.46,
        "The same: VGG-16's convolutions and their mirror image, with unpooling by indices.",
        multiple=32,
        any_channels=True,
    ),
    "enet": PeerInfo(
        "ENet",
        "enet_cityscapes",
        0.37,
        "The same blocks; slopes of the encoder's PReLU are shared by all channels of a layer.",
        multiple=8,
        any_channels=True,
    ),
    "icnet": PeerInfo(
        "ICNet",
        "icnet_resnetd50b_cityscapes",
        6.68,
        "A whole dilated ResNet-50 with PSPNet's pooling by concatenation, where ICNet's authors prune half of the "
        "channels of a ResNet-50 and add the pooled maps: several times the parameters.",
        multiple=32,
        stride=4,
        upsampling="final_block.up_x8",
        auxiliary=("final_block.cff_24.conv_cls", "final_block.cff_12.conv_cls"),
    ),
    "erfnet": PeerInfo(
        "ERFNet",
        "erfnet_cityscapes",
        2.1,
        "The same.",
        multiple=8,
        any_channels=True,
    ),
    "contextnet": PeerInfo(
        "ContextNet",
        "ctxnet_cityscapes",
        0.85,
        "The same as cn14 (deep branch at a quarter of the resolution), but for no dilation in the feature fusion, "
        "biases before its BatchNorms, and no padding in the first convolutions.",
        multiple=32,
        stride=8,
        upsampling="up",
        any_channels=True,
    ),
    "bisenet": PeerInfo(
        "BiSeNet",
        "bisenet_resnet18_celebamaskhq",
        5.8,
        "ResNet-18 instead of Xception39, and the backbone's features at 1/8 instead of a spatial path of its own.",
        multiple=32,
        stride=8,
        upsampling="up8",
    ),
    "pspnet": PeerInfo(
        "PSPNet",
        "pspnet_resnetd101b_cityscapes",
        65.7,
        "The same, on a dilated ResNet-101.",
        multiple=1,
        stride=8,
        upsampling="final_block",
    ),
    "deeplab": PeerInfo(
        "DeepLab-v2",
        "deeplabv3_resnetd101b_cityscapes",
        44.0,
        "DeepLab-v3 on a dilated ResNet-101: an atrous pyramid with image pooling and a head of two convolutions, "
        "where v2 adds up four atrous convolutions to the classes, sees the image at three scales and ends in a CRF.",
        multiple=1,
        stride=8,
        upsampling="final_block",
    ),
    "pytorchcv_fastscnn": PeerInfo(
        "Fast-SCNN",
        "fastscnn_cityscapes",
        1.11,
        "A user's Fast-SCNN: no padding in the first convolution, no dilation in the feature fusion, corners aligned "
        "wherever it upsamples.",
        multiple=32,
        stride=8,
        upsampling="up",
        any_channels=True,
    ),
}
"""Name of the model (`model=NAME`) to its description."""


class Peer(SegmentationNetwork):
    """A network of the library pytorchcv, randomly initialised, under the contract of every network here.

    The library's networks upsample to the image with aligned corners, and `forward` keeps that: it is what the
    library's users run. `coarse_logits` stop before it; training, evaluation and inference upsample these with
    half-pixel centres, as they do for Fast-SCNN. SegNet, ENet and ERFNet end at full size: their coarse logits are it.

    An image whose size is no multiple of what the network takes (`PeerInfo.multiple`) is padded with zeros at the right
    and at the bottom, and its logits are cropped. Where `PeerInfo.stride` does not divide the size, the last row and
    column of the coarse logits reach past the image's edge.

    Args:
        name: A key of `PEERS`.
        num_classes: Number of classes, 1 or more.
        in_channels: Channels of the image; 3 for those with a classification backbone.

    Raises:
        ValueError: An argument is outside these.
        RequestError: pytorchcv is not installed.
    """

    def __init__(self, name: str, num_classes: int = 19, in_channels: int = 3) -> None:
        super().__init__()
        if name not in PEERS:
            raise ValueError(f"{name} is no peer: it is one of {', '.join(PEERS)}")
        info = PEERS[name]
        if num_classes < 1 or in_channels < 1:
            raise ValueError(f"num_classes={num_classes} and in_channels={in_channels} must be 1 or more")
        if in_channels != 3 and not info.any_channels:
            raise ValueError(f"in_channels={in_channels}, but {name} takes images of 3 channels")
        self.num_classes = num_classes
        self.info = info
        self.stride = info.stride
        self.body = library_network(name, num_classes, in_channels)
        for unused in info.auxiliary:
            self.body.set_submodule(unused, nn.Identity())
        if info.upsampling:
            self.body.set_submodule(info.upsampling, _WithoutUpsampling(self.body.get_submodule(info.upsampling)))

    def features(self, images: Tensor) -> OnlyLogits:
        """Run the network up to its coarse logits, [B, num_classes, ceil(H / stride), ceil(W / stride)].

        Raises:
            ValueError: Training with a single image: the 1x1 pooled maps have no batch statistics.
        """
        height, width = (-(-side // self.info.stride) for side in images.shape[-2:])
        return OnlyLogits(self._logits(images)[..., :height, :width])

    def forward(self, images: Tensor) -> Tensor:
        """[B, in_channels, H, W] to logits [B, num_classes, H, W], upsampled with aligned corners."""
        height, width = images.shape[-2:]
        logits = self._logits(images)
        if self.info.upsampling:
            size = [_up(side, self.info.multiple) for side in (height, width)]
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=True)
        return logits[..., :height, :width]

    def _logits(self, images: Tensor) -> Tensor:
        """Coarse logits of the padded image."""
        check_batch(images, self.training)
        height, width = images.shape[-2:]
        down, right = _up(height, self.info.multiple) - height, _up(width, self.info.multiple) - width
        logits: Tensor = self.body(F.pad(images, (0, right, 0, down)) if down or right else images)
        return logits


class _WithoutUpsampling(nn.Module):
    """The layers of a library's module that ends with an upsampling, without it; none for a bare upsampling."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for name, layer in module.named_children():
            self.add_module(name, layer)

    def forward(self, features: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        for layer in self.children():
            features = layer(features)
        return features


def library_network(name: str, num_classes: int = 19, in_channels: int = 3) -> nn.Module:
    """The library's own network of that name: no auxiliary heads, any size that it can take, random weights.

    Raises:
        RequestError: pytorchcv is not installed.
    """
    network: nn.Module = require_library(name).get_model(
        PEERS[name].function,
        pretrained=False,
        aux=False,
        fixed_size=False,
        num_classes=num_classes,
        in_channels=in_channels,
    )
    return network


def require_library(name: str) -> Any:
    """The library's module that the network of that name comes from.

    Raises:
        RequestError: pytorchcv is not installed.
    """
    try:
        from pytorchcv import model_provider
    except ImportError:
        raise RequestError(
            f"model.name={name} needs the package pytorchcv, which is not installed.",
            key="model.name",
            fix="Run pip install pytorchcv.",
        ) from None
    return model_provider


def _up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple
