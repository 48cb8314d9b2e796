"""How the heads' losses add up; the cross-entropy itself is tested with the kernels."""

import math

import pytest
import torch

from fastscnn.training.losses import SegmentationLoss


def test_auxiliary_heads_count_four_tenths_each():
    logits = [torch.zeros(1, classes, 2, 2) for classes in (4, 4, 4)]
    labels = torch.ones(1, 16, 16, dtype=torch.uint8)
    loss = SegmentationLoss()(logits[0], logits[1:], labels)
    assert float(loss) == pytest.approx((1 + 0.4 + 0.4) * math.log(4))


def test_without_auxiliary_heads_the_classifier_counts_alone():
    loss = SegmentationLoss(auxiliary_weight=0.0)(torch.zeros(1, 4, 2, 2), [], torch.ones(1, 4, 4, dtype=torch.uint8))
    assert float(loss) == pytest.approx(math.log(4))
