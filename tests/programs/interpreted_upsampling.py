"""Run by test_kernels_cuda.py with TRITON_INTERPRET=1: the Triton programs on the CPU, against plain torch."""

import sys

import quick_interpreter  # noqa: F401
import torch
import torch.nn.functional as F

from fastscnn.inference.backends.gpu_choices import OPEN
from fastscnn.kernels import reference
from fastscnn.kernels.cuda import labels as cuda
from fastscnn.kernels.cuda.choice import Choice, chosen

LAST = torch.channels_last
CASES = [
    # batch, classes, rows, columns; size; type; memory format
    ((1, 19, 2, 17), (12, 132), torch.float32, torch.contiguous_format),
    ((1, 19, 2, 5), (9, 40), torch.float16, LAST),
    ((2, 1, 3, 5), (7, 9), torch.float32, LAST),
    ((2, 50, 13, 17), (2, 6), torch.float32, torch.contiguous_format),
    ((1, 7, 11, 7), (9, 1), torch.bfloat16, torch.contiguous_format),
    ((2, 5, 1, 1), (3, 30), torch.float32, torch.contiguous_format),
    ((1, 11, 8, 20), (8, 20), torch.float32, LAST),
    ((1, 70, 3, 3), (2, 7), torch.float32, LAST),
]


def full(logits, size):
    return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)


def smooth(batch, classes, rows, columns):
    return F.interpolate(torch.randn(batch, classes, 2, 3) * 4, (rows, columns), mode="bicubic")


def close_calls(batch, classes, rows, columns):
    return torch.randn(batch, 1, rows, columns) * 100 + torch.randn(batch, classes, rows, columns) * 1e-3


def check_labels(logits, size):
    labels = cuda.upsample_labels(logits, size)
    expected = full(logits, size)
    chosen = expected.gather(1, labels[:, None].long())[:, 0]
    assert labels.dtype == torch.uint8
    assert (expected.amax(1) - chosen).max() <= 1e-6 * expected.abs().max(), "another class was higher"
    return labels, (labels != expected.argmax(1)).sum().item()


def check_probabilities(logits, size):
    out = torch.full((*logits.shape[:2], *size), torch.nan)
    assert cuda.upsample_probabilities(logits, size, out) is out
    error = (out - full(logits, size).softmax(1)).abs().max()
    assert error <= 1e-6, f"{tuple(logits.shape)} to {size}: {error}"


def check_confidence(logits, size, expected_labels):
    labels, confidence = cuda.upsample_confidence(logits, size)
    assert torch.equal(labels, expected_labels)
    error = (confidence - full(logits, size).softmax(1).amax(1)).abs().max()
    assert error <= 1e-6, f"{tuple(logits.shape)} to {size}: {error}"


def check_what_is_not_finite():
    logits = torch.randn(1, 7, 6, 20)
    logits[0, 2, 3, 3] = torch.nan
    logits[0, 1, 0, 0] = torch.inf
    logits[0, 4, 5, 19] = -torch.inf
    logits[0, :, 0, 10:14] = -torch.inf
    logits[0, 6, 2, 12] = torch.nan
    logits[0, 5] = -50
    logits[0, 5, 5, 1] = -torch.inf  # 0 times infinity at the pixels before it, though the class is low elsewhere
    for size in ((9, 30), (4, 7)):
        expected = full(logits, size)
        assert torch.equal(cuda.upsample_labels(logits, size).long(), expected.argmax(1)), size
        out = cuda.upsample_probabilities(logits, size, torch.empty(1, 7, *size))
        torch.testing.assert_close(out, expected.softmax(1), equal_nan=True, rtol=0, atol=1e-6)


def check_tiles():
    """The labels are the same with every tile."""
    logits, size = smooth(1, 5, 4, 17), (18, 130)
    for tile in OPEN["label_tile"][1:]:
        with chosen(Choice(label_tile=tile)):
            labels, _ = check_labels(logits, size)
            assert torch.equal(labels, reference.upsample_labels(logits, size)), tile


def check_ties():
    logits = torch.zeros(1, 7, 4, 5)
    logits[:, 3:5] = 1
    assert (cuda.upsample_labels(logits, (8, 40)) == 3).all()
    assert (cuda.upsample_labels(torch.zeros(1, 3, 2, 2), (5, 5)) == 0).all()


def check_sliced_logits():
    logits = torch.randn(2, 4, 8, 16)
    wide = logits.repeat(1, 1, 1, 2)[..., :16]
    assert not wide.is_contiguous()
    assert torch.equal(cuda.upsample_labels(wide, (8, 33)), reference.upsample_labels(logits, (8, 33)))


def main():
    torch.manual_seed(0)
    differing = 0
    for shape, size, dtype, memory_format in CASES:
        logits, even = (
            kind(*shape).to(dtype).contiguous(memory_format=memory_format) for kind in (torch.randn, smooth)
        )
        (_, of_random), (labels, of_even) = check_labels(logits, size), check_labels(even, size)
        differing += of_random + of_even
        check_probabilities(logits, size)
        check_confidence(even, size, labels)
    check_confidence(torch.zeros(1, 19, 2, 2), (5, 5), torch.zeros(1, 5, 5, dtype=torch.uint8))
    assert differing <= 2
    check_labels(close_calls(1, 9, 3, 5), (24, 40))
    check_probabilities(torch.randn(1, 3, 4, 4) * 30, (8, 32))
    check_what_is_not_finite()
    check_tiles()
    check_ties()
    check_sliced_logits()


if __name__ == "__main__":
    sys.exit(main())
