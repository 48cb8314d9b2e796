"""The image classifier as a model of timm: `timm.create_model("fast_scnn")` once `fastscnn` is imported.

It knows no pre-trained weights; `checkpoint_path=FILE` takes a checkpoint of `experiment=imagenet_pretrain`, or for
`features_only=True` of any training.
"""

from collections.abc import Mapping
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import FeatureListNet, build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from fastscnn.models.blocks import check_batch
from fastscnn.models.image_classifier import SHARED, ImageClassifier

FEATURES = 128
"""Channels of the last feature map."""
PREFIX = "network."
"""Before the names of the network's tensors in a checkpoint of `train.py`."""

default_cfgs = generate_default_cfgs(
    {
        "fast_scnn": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "learning_to_downsample.0.0",
            "classifier": "fc",
            "license": "apache-2.0",
        }
    }
)


class TimmClassifier(ImageClassifier):
    """`ImageClassifier` with the names that timm uses.

    Args:
        num_classes: Number of classes; 0 for the pooled features, [B, 128].
        in_chans: Channels of the image.
        drop_rate: Share of the pooled features dropped in training.
        global_pool: `avg`.
        activation: `relu` or `relu6`.

    Raises:
        ValueError: An argument is outside these.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.1,
        global_pool: str = "avg",
        activation: str = "relu",
    ) -> None:
        super().__init__(max(num_classes, 1), in_chans, activation, drop_rate)
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = FEATURES
        self.feature_info = [
            {"num_chs": 32, "reduction": 2, "module": "learning_to_downsample.1"},
            {"num_chs": 48, "reduction": 4, "module": "learning_to_downsample.2"},
            {"num_chs": 64, "reduction": 8, "module": "learning_to_downsample.3"},
            {"num_chs": 64, "reduction": 16, "module": "global_feature_extractor.2"},
            {"num_chs": FEATURES, "reduction": 32, "module": "global_feature_extractor.9"},
        ]
        self.reset_classifier(num_classes, global_pool)
        self.register_load_state_dict_pre_hook(_without_prefix)  # type: ignore[no-untyped-call]

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by one for another number of classes; 0 for none.

        Raises:
            ValueError: `global_pool` is not `avg`.
        """
        if global_pool not in (None, "avg"):
            raise ValueError(f"global_pool={global_pool}: fast_scnn has avg alone")
        if num_classes != self.num_classes:
            self.num_classes = num_classes
            self.fc = nn.Linear(FEATURES, num_classes) if num_classes else nn.Identity()

    def forward_features(self, images: Tensor) -> Tensor:
        """Images [B, in_chans, H, W] to the last feature map, [B, 128, ceil(H / 32), ceil(W / 32)]."""
        check_batch(images, self.training)
        features: Tensor = self.global_feature_extractor(self.learning_to_downsample(images))
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The last feature map to logits; with `pre_logits` to the pooled features, [B, 128]."""
        pooled: Tensor = self.dropout(self.pool(features))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """As `ImageClassifier`."""
        return self.forward_head(self.forward_features(images))


class TimmFeatures(FeatureListNet):
    """The feature maps of `TimmClassifier`; takes the weights of any network of ours with these parts."""

    def __init__(self, model: nn.Module, **settings: Any) -> None:
        super().__init__(model, **settings)
        self.register_load_state_dict_pre_hook(_of_the_shared_parts)  # type: ignore[no-untyped-call]


@register_model
def fast_scnn(pretrained: bool = False, **settings: Any) -> nn.Module:
    """Fast-SCNN's image classifier (section 3.4 of the paper), 1.2 M parameters with 1,000 classes."""
    features = {"feature_cls": TimmFeatures, "flatten_sequential": True}
    network: nn.Module = build_model_with_cfg(TimmClassifier, "fast_scnn", pretrained, feature_cfg=features, **settings)
    return network


def _without_prefix(module: nn.Module, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
    _rename(state_dict, {name: name.removeprefix(PREFIX) for name in state_dict if name.startswith(PREFIX)})


def _of_the_shared_parts(module: nn.Module, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
    """Rename `learning_to_downsample.0.…` as timm's list of modules has it, and leave all other parts out."""
    _without_prefix(module, state_dict, prefix)
    own = module.state_dict()
    _rename(state_dict, {name: name.replace(".", "_", 1) for name in state_dict if name.startswith(SHARED)})
    for name in set(state_dict) - set(own):
        del state_dict[name]


def _rename(state_dict: dict[str, Any], names: Mapping[str, str]) -> None:
    for old, new in names.items():
        state_dict[new] = state_dict.pop(old)
