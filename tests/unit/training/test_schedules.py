"""How the learning rate rises and falls, against formulas and torch's own schedules."""

import math

import pytest
import torch

from fastscnn.training.schedules import build_schedule, check_schedule, endless_warm_up
from fastscnn.utils.errors import RequestError

OURS = "fastscnn.training.schedules"


def rates(name, steps=10, total=10, **settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.045)
    target = name if "." in name else f"{OURS}.{name}"
    schedule = build_schedule({"_target_": target, **settings}, optimizer, total)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def test_poly_is_its_formula_each_step_down_to_zero():
    assert rates("poly", power=0.9) == pytest.approx([0.045 * (1 - step / 10) ** 0.9 for step in range(10)] + [0.0])


def test_cosine_is_torchs():
    expected = rates("torch.optim.lr_scheduler.CosineAnnealingLR", T_max=10, eta_min=0.045 * 0.1)
    assert rates("cosine", final=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("total", [7, 10, 100])
def test_onecycle_is_torchs_without_its_momentum(total):
    expected = rates("torch.optim.lr_scheduler.OneCycleLR", total - 1, total, max_lr=0.045, cycle_momentum=False)
    assert rates("onecycle", total - 1, total, final=1 / 25 / 1e4) == pytest.approx(expected)


def test_onecycle_reaches_the_learning_rate_after_the_warm_up():
    found = rates("onecycle", warmup_steps=4)
    assert found[4] == pytest.approx(0.045)
    assert found[4] == max(found)


def test_constant_stays():
    assert rates("constant") == [0.045] * 11


@pytest.mark.parametrize("name", ["poly", "cosine", "constant"])
def test_warm_up_rises_linearly_to_the_curve(name):
    curve, warm = rates(name), rates(name, warmup_steps=4)
    assert warm == pytest.approx([rate * min(1, (step + 1) / 4) for step, rate in enumerate(curve)])
    assert warm[4:] == curve[4:]
    assert not math.isclose(warm[0], curve[0])


@pytest.mark.parametrize(("steps", "total", "warns"), [(3, 4, False), (4, 4, True), (0, 1, False), (None, 1, False)])
def test_warm_up_as_long_as_the_run_is_told_before_it(steps, total, warns):
    sentence = endless_warm_up({"warmup_steps": steps}, total)
    assert (sentence is not None) == warns
    if warns:
        assert f"scheduler.warmup_steps={steps}" in sentence


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"_target_": f"{OURS}.cosine", "power": 2}, "scheduler.power"),
        ({"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 3, "warmup_steps": 5}, "scheduler.warmup_steps"),
        ({"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau"}, "scheduler._target_"),
        ({"_target_": "my.Schedule"}, "scheduler._target_"),
        ({}, "scheduler"),
    ],
)
def test_what_a_schedule_cannot_be_or_take_is_named(settings, key):
    with pytest.raises(RequestError) as found:
        check_schedule(settings)
    assert found.value.key == key
    assert found.value.fix
