"""Run by test_loss_cuda.py with TRITON_INTERPRET=1: the Triton loss on the CPU, against torch in float64.

With the argument `many`: sums of a thousand pixels alone, which take long.
"""

import math
import sys

import quick_interpreter  # noqa: F401
import torch
import torch.nn.functional as F

from fastscnn.kernels.cuda import loss as cuda_loss
from fastscnn.kernels.reference import HardPixels

LAST = torch.channels_last
PLANES = torch.contiguous_format
CASES = [
    # batch, classes, rows, columns; labels' rows and columns; type; memory format
    ((1, 19, 2, 34), (4, 34), torch.float32, PLANES),  # two tiles of cells, and an edge of both
    ((2, 3, 1, 2), (4, 16), torch.float32, LAST),
    ((1, 5, 2, 1), (2, 32), torch.float32, PLANES),  # x32
    ((1, 3, 3, 3), (7, 8), torch.float32, PLANES),  # no whole scale
    ((1, 4, 3, 4), (3, 4), torch.float32, LAST),  # the same size
    ((1, 6, 13, 29), (3, 5), torch.float32, PLANES),  # down
    ((1, 2, 7, 2), (3, 9), torch.float32, PLANES),  # down and up
    ((1, 1, 3, 1), (5, 4), torch.float32, LAST),
    ((1, 140, 2, 5), (3, 6), torch.float32, PLANES),
    ((1, 7, 2, 3), (4, 6), torch.bfloat16, LAST),
    ((1, 7, 3, 2), (6, 4), torch.float16, PLANES),
]


def expected(logits, labels, ignore_index=255, weight=None, label_smoothing=0.0, hard=None):
    """As `upsample_cross_entropy`, in the logits' own type; the hard pixels by sorting them."""
    full = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
    targets = labels.long()
    parts = (targets != ignore_index).to(full.dtype)
    if hard is not None:
        difficulty = F.cross_entropy(full, targets, ignore_index=ignore_index, reduction="none").detach()
        ranked = difficulty[parts > 0].sort(descending=True).values
        least = math.ceil(hard.keep * len(ranked))
        parts *= difficulty > -math.log(hard.probability)
        if parts.sum() < least:
            last = ranked[least - 1]
            tied = (difficulty == last) & (targets != ignore_index)
            parts = (difficulty > last) + tied * (least - (ranked > last).sum()) / tied.sum()
    losses = F.cross_entropy(
        full, targets, weight, ignore_index=ignore_index, reduction="none", label_smoothing=label_smoothing
    )
    count = (parts * (1 if weight is None else weight[targets.clamp(max=len(weight) - 1)])).sum()
    return (losses * parts).sum() / (count if count > 0 else 1)


def random_labels(batch, size, classes, dtype=torch.uint8):
    labels = torch.randint(0, classes, (batch, *size))
    labels[torch.rand(labels.shape) < 0.2] = 255
    return labels.to(dtype)


def derived(loss, logits, labels, **settings):
    """The loss, float64, and the gradient of three times it."""
    logits = logits.detach().requires_grad_()
    value = loss(logits, labels, **settings)
    (gradient,) = torch.autograd.grad(value * 3, logits)
    assert gradient.dtype == logits.dtype
    return value.detach().double(), gradient.double()


def check(logits, labels, **settings):
    """Compare the loss and its gradient with float64's; eager float32 may be as far from it."""
    loss, gradient = derived(cuda_loss.upsample_cross_entropy, logits, labels, **settings)
    doubled = {key: value.double() if isinstance(value, torch.Tensor) else value for key, value in settings.items()}
    exact_loss, exact = derived(expected, logits.double(), labels, **doubled)
    eager_loss, eager = derived(expected, logits.float(), labels, **settings)
    assert abs(loss - exact_loss) <= max(1e-6 * exact_loss, 2 * abs(eager_loss - exact_loss))

    largest, error = exact.abs().max(), (gradient - exact).abs().max()
    rounding = 0 if logits.dtype == torch.float32 else torch.finfo(logits.dtype).eps / 2
    allowed = max(3e-7 * largest, (eager - exact).abs().max()) + rounding * largest
    assert error <= allowed, f"{tuple(logits.shape)} to {tuple(labels.shape)}: {error / largest}"
    return gradient


def check_sizes():
    for shape, size, dtype, memory_format in CASES:
        logits = (torch.randn(*shape) * 3).to(dtype).contiguous(memory_format=memory_format)
        check(logits, random_labels(shape[0], size, shape[1]))


def check_sums_of_many():
    """Where a logit has a thousand pixels that are all alike, each addition of floats errs to the same side."""
    for shape, size, smoothing in (((1, 5, 1, 1), (30, 40), 0.0), ((1, 19, 1, 2), (8, 16), 0.1)):
        check_closely(shape, size, smoothing)


def check_sums_of_a_piece():
    """The pixels of a piece are added up in float32: those of a row, and then the rows."""
    check_closely((1, 3, 1, 1), (8, 8), 0.0)
    check_closely((1, 3, 1, 2), (1, 16), 0.1)


def check_closely(shape, size, smoothing):
    logits, labels = torch.randn(*shape) * 3, random_labels(shape[0], size, shape[1])
    weight = torch.rand(shape[1]) if smoothing else None
    settings = {"weight": weight, "label_smoothing": smoothing}
    loss, gradient = derived(cuda_loss.upsample_cross_entropy, logits, labels, **settings)
    doubled = settings | {"weight": weight.double() if smoothing else None}
    exact_loss, exact = derived(expected, logits.double(), labels, **doubled)
    assert abs(loss - exact_loss) <= 1e-7 * exact_loss, f"{shape}: {float(abs(loss / exact_loss - 1))}"
    error = float((gradient - exact).abs().max() / exact.abs().max())
    assert error <= 2e-7, f"{shape}: {error}"


def check_sums_that_cancel():
    """Pixels of weight 1 between two whose huge weights cancel: float32 would lose them.

    In one piece, where only the loss and the weights are added up in float64; in pieces beside each other, which a
    program adds up; and in pieces below each other, of a program each.
    """
    weight = torch.tensor([1.0, 2.0**30, -(2.0**30), 1.0])
    logits = torch.tensor([0.5, 0.0, 0.0, 0.25]).reshape(1, 4, 1, 1)
    for size, first, last in (((1, 8), 1, 7), ((1, 24), 8, 16), ((24, 1), 8, 16)):
        labels = torch.full((1, size[0] * size[1]), 255, dtype=torch.uint8)
        labels[:, first:last] = 0
        labels[:, 0], labels[:, -1] = 1, 2
        labels = labels.reshape(1, *size)
        loss, gradient = derived(cuda_loss.upsample_cross_entropy, logits, labels, weight=weight)
        exact_loss, exact = derived(expected, logits.double(), labels, weight=weight.double())
        torch.testing.assert_close(loss, exact_loss, rtol=1e-6, atol=0)
        if size[0] * size[1] > 8:
            torch.testing.assert_close(gradient, exact, rtol=1e-6, atol=0)


def check_settings():
    logits, labels = torch.randn(2, 5, 1, 2) * 2, random_labels(2, (2, 5), 5, torch.int64)
    weight = torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0])
    hard = HardPixels(0.3, 0.4)
    check(logits, labels, weight=weight)
    check(logits, labels, label_smoothing=0.1)
    check(logits, labels, weight=weight, label_smoothing=0.2)
    check(logits, labels % 5, ignore_index=-100)
    check(logits, (labels % 5).byte(), ignore_index=-100)
    check(logits, labels % 5, ignore_index=1)
    check(logits, labels, weight=weight, label_smoothing=0.2, hard=hard)


def check_hard_pixels():
    """Where the probability decides, where the share does, and where neither leaves any out."""
    logits, labels = torch.randn(2, 4, 1, 2) * 3, random_labels(2, (3, 4), 4)
    gradients = [
        check(logits, labels, hard=HardPixels(*rule)) for rule in ((0.9, 0.1), (0.1, 0.7), (0.5, 1.0), (0.4, 0.0))
    ]
    torch.testing.assert_close(gradients[2], check(logits, labels))
    even = torch.zeros(1, 2, 1, 2)
    even[:, 0] = 20
    labels = torch.tensor([[[0, 1, 0, 0, 0, 1]]])
    check(even, labels, hard=HardPixels(0.5, 0.6))  # of four pixels that tie, two have place
    check(even, labels, weight=torch.tensor([3.0, 0.1]), label_smoothing=0.1, hard=HardPixels(0.5, 0.6))
    assert cuda_loss.upsample_cross_entropy(even, labels * 0, hard=HardPixels(0.5, 0.0)) == 0


def check_without_a_gradient():
    logits, labels = torch.randn(1, 5, 2, 9), random_labels(1, (4, 20), 5)
    loss = cuda_loss.upsample_cross_entropy(logits, labels)
    assert loss.dtype == torch.float32 and loss.shape == () and not loss.requires_grad
    torch.testing.assert_close(loss, expected(logits, labels), rtol=1e-6, atol=0)
    with torch.no_grad():
        assert cuda_loss.upsample_cross_entropy(logits.requires_grad_(), labels) == loss


def check_weights():
    """What the mean divides by, with and without a gradient."""
    logits, labels = torch.randn(1, 4, 1, 2), random_labels(1, (2, 4), 4)
    labelled = int((labels != 255).sum())
    weight = torch.tensor([1.0, 0.5, 2.0, 0.0])
    weighed = float(weight[labels[labels != 255].long()].sum())
    for settings, count in (
        ({}, labelled),
        ({"weight": weight, "label_smoothing": 0.1}, weighed),
        ({"hard": HardPixels(0.0, 0.5)}, math.ceil(0.5 * labelled)),
        ({"ignore_index": 0, "labels": labels * 0}, 0),
    ):
        for gradient in (False, True):
            called = {"labels": labels} | settings
            mean, found = cuda_loss.upsample_cross_entropy_and_weight(logits.requires_grad_(gradient), **called)
            assert abs(float(found) - count) < 1e-5 and not found.requires_grad
            assert mean == cuda_loss.upsample_cross_entropy(logits, **called)


def check_nothing_that_counts():
    """Where no pixel is labelled, and where those that are have a class that weighs nothing."""
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    nothing, last = (torch.full((1, 2, 2), label, dtype=torch.uint8) for label in (255, 2))
    smoothed = {"weight": torch.ones(3), "label_smoothing": 0.1}
    weightless = smoothed | {"weight": torch.tensor([1.0, 1.0, 0.0])}
    hard = HardPixels(0.7, 0.1)
    for labels, settings in (
        *((nothing, {}), (nothing, smoothed), (nothing, {"hard": hard})),
        *((last, weightless), (last, weightless | {"hard": hard})),
    ):
        loss = cuda_loss.upsample_cross_entropy(logits, labels, **settings)
        assert loss == 0
        (gradient,) = torch.autograd.grad(loss, logits)
        assert (gradient == 0).all()


def check_no_such_class():
    logits = torch.randn(1, 3, 1, 2, requires_grad=True)
    labels = torch.zeros(1, 1, 2, dtype=torch.int64)
    for wrong in (3, 200, -1, 2**32):
        labels[0, 0, 0] = wrong
        assert cuda_loss.upsample_cross_entropy(logits.detach(), labels).isnan(), wrong
    for settings in ({}, {"weight": torch.ones(3)}, {"hard": HardPixels(0.7, 0.1)}):
        loss = cuda_loss.upsample_cross_entropy(logits, labels, **settings)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isnan() and gradient[0, :, 0, 0].isnan().all(), settings


def check_what_is_not_finite():
    """An undefined logit of ignored pixels alone does no harm; any other makes the loss undefined."""
    logits = torch.randn(1, 3, 4, 4)
    logits[0, 1, 0, 0] = torch.nan
    labels = torch.ones(1, 8, 8, dtype=torch.uint8)
    assert cuda_loss.upsample_cross_entropy(logits, labels).isnan()
    labels[0, :3, :3] = 255
    finite = logits.nan_to_num()
    torch.testing.assert_close(
        cuda_loss.upsample_cross_entropy(logits, labels), expected(finite, labels), rtol=1e-6, atol=0
    )


def check_large_logits():
    check(torch.randn(1, 5, 2, 2) * 200, random_labels(1, (4, 6), 5))


def check_sliced_logits():
    check((torch.randn(2, 4, 6, 16) * 2)[:, ::2, 1::2, 3:8], random_labels(2, (6, 5), 2))
    check(torch.randn(2, 4, 1, 3).expand(2, 4, 2, 3), random_labels(2, (3, 6), 4))


def check_under_autocast():
    logits = (torch.randn(1, 3, 2, 3) * 2).bfloat16()
    labels = random_labels(1, (4, 6), 3)
    with torch.autocast("cpu", torch.bfloat16):
        check(logits, labels, hard=HardPixels(0.5, 0.3))


def check_thresholds():
    """The share's last pixel, wherever it lies among the digits, and with others as difficult."""
    for _ in range(20):
        count = int(torch.randint(1, 3000, ()))
        difficulty = torch.rand(count) ** 8 * 10 ** torch.randint(-9, 3, (count,)).float()
        difficulty[torch.rand(count) < 0.3] = -1
        difficulty[torch.rand(count) < 0.2] = 0.5
        keep = float(torch.rand(()))
        ranked = difficulty[difficulty >= 0].sort(descending=True).values
        wanted = math.ceil(keep * len(ranked))
        threshold, part = cuda_loss._threshold(difficulty, HardPixels(0.0, keep))
        assert threshold == (ranked[wanted - 1] if wanted else math.inf)
        counted = (ranked > threshold).sum() + (ranked == threshold).sum() * part
        torch.testing.assert_close(counted, torch.tensor(float(wanted)))


CHECKS = (
    *(check_sums_of_a_piece, check_sums_that_cancel, check_sizes),
    *(check_large_logits, check_sliced_logits, check_under_autocast),
    *(check_settings, check_without_a_gradient, check_weights, check_nothing_that_counts),
    *(check_hard_pixels, check_thresholds, check_no_such_class, check_what_is_not_finite),
)


def main(many=False):
    for check_part in [check_sums_of_many] if many else CHECKS:
        torch.manual_seed(0)
        check_part()


if __name__ == "__main__":
    sys.exit(main(many=sys.argv[1:] == ["many"]))
