"""The image classifier that pre-trains Fast-SCNN's first two parts (section 3.4 of the paper)."""

from torch import Tensor, nn

from fastscnn.models.blocks import check_arguments, check_batch
from fastscnn.models.fast_scnn import GlobalFeatureExtractor, LearningToDownsample

SHARED = ("learning_to_downsample", "global_feature_extractor")
"""The parts that `ImageClassifier` and `FastSCNN` have in common, under these names."""


class ImageClassifier(nn.Module):
    """Fast-SCNN with average pooling for the feature fusion and one softmax layer for the classifier.

    With 1,000 classes 1,201,752 parameters, 129,000 of them in the softmax layer.

    Args:
        num_classes: Number of classes, 1 or more.
        in_channels: Channels of the image.
        activation: `relu` (the paper's choice) or `relu6`.
        dropout: Share of the pooled features dropped in training, just before the softmax layer (section 3.1).

    Raises:
        ValueError: An argument is outside these.
    """

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, activation: str = "relu", dropout: float = 0.1
    ) -> None:
        super().__init__()
        check_arguments(num_classes, in_channels, activation)
        self.num_classes = num_classes
        self.learning_to_downsample = LearningToDownsample(in_channels, activation)
        self.global_feature_extractor = GlobalFeatureExtractor(activation)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = nn.Dropout(dropout)
        self.fc: nn.Module = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float [B, in_channels, H, W], normalised, any H and W from 1 up, to logits [B, num_classes].

        Raises:
            ValueError: Training with a single image: the 1x1 pooled map has no batch statistics.
        """
        check_batch(images, self.training)
        context = self.global_feature_extractor(self.learning_to_downsample(images))
        logits: Tensor = self.fc(self.dropout(self.pool(context)))
        return logits
