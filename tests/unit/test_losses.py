"""The loss against a plain per-pixel formula in double precision."""

import math

import pytest
import torch
import torch.nn.functional as F
from fastscnn.training.losses import SegmentationLoss, upsampled_cross_entropy


def plain(logits, labels, smoothing=0.0):
    up = F.interpolate(logits.double(), labels.shape[-2:], mode="bilinear", align_corners=False)
    log_p = up - torch.logsumexp(up, 1, keepdim=True)
    total, count = 0.0, 0
    for b in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = int(labels[b, y, x])
                if label != 255:
                    pixel = log_p[b, :, y, x]
                    total -= (1 - smoothing) * float(pixel[label]) + smoothing * float(pixel.mean())
                    count += 1
    return total / count if count else 0.0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_the_plain_formula_and_leaves_ignored_pixels_out(smoothing):
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 3, 4)
    labels = torch.randint(0, 5, (2, 9, 13), dtype=torch.uint8)
    labels[:, :4] = 255
    ours = upsampled_cross_entropy(logits, labels, label_smoothing=smoothing)
    assert float(ours) == pytest.approx(plain(logits, labels, smoothing), rel=1e-5)


def test_only_ignored_pixels_give_zero_and_a_zero_gradient():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = upsampled_cross_entropy(logits, torch.full((1, 8, 8), 255, dtype=torch.uint8))
    loss.backward()
    assert float(loss) == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_auxiliary_heads_count_four_tenths_each():
    logits = [torch.zeros(1, classes, 2, 2) for classes in (4, 4, 4)]
    labels = torch.ones(1, 16, 16, dtype=torch.uint8)
    loss = SegmentationLoss()(logits[0], logits[1:], labels)
    assert float(loss) == pytest.approx((1 + 0.4 + 0.4) * math.log(4))


def test_without_auxiliary_heads_the_classifier_counts_alone():
    loss = SegmentationLoss(auxiliary_weight=0.0)(torch.zeros(1, 4, 2, 2), [], torch.ones(1, 4, 4, dtype=torch.uint8))
    assert float(loss) == pytest.approx(math.log(4))
