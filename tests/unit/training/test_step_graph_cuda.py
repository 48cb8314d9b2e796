"""A captured step on a GPU against an eager one."""

import pytest
import torch
import torch.nn.functional as F

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.training.segmentation import Segmentation
from fastscnn.training.step_graph import StepGraph

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
SIZE = (96, 128)
TOLERANCE = {"32-true": 1e-3, "bf16-mixed": 2e-2}
"""Of losses and weights after ten steps, relative to the largest; or as far as two eager runs lie apart, several times:
some of torch's kernels add in any order, and batch statistics of few values make it more."""
APART = 4


def build():
    torch.manual_seed(0)
    model = {"name": "fast_scnn", "dropout": 0.1, "activation": "relu", "skip": "keep"}
    module = Segmentation({"model": model, "trainer": {}, "loss": {"auxiliary_weight": 0.4}}, CAMVID)
    return module.cuda().train()


def train(module, precision, graph=None, steps=10):
    """As Lightning does: each step draws from its own seed."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    draw = torch.Generator().manual_seed(1)
    losses, replays = [], 0
    for step in range(steps):
        images = torch.randint(0, 256, (4, 3, *SIZE), generator=draw, dtype=torch.uint8)
        images = (images // 4 + torch.tensor([0, 60, 120, 180], dtype=torch.uint8).view(4, 1, 1, 1)).cuda()
        labels = torch.randint(0, 11, (4, SIZE[0] // 16, SIZE[1] // 16), generator=draw, dtype=torch.uint8)
        labels = F.interpolate(labels[:, None].float(), SIZE)[:, 0].to(torch.uint8).cuda()
        images = images.contiguous(memory_format=torch.channels_last)
        torch.manual_seed(step)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False):
            loss = graph(module, module.objective, images, labels) if graph else None
            if loss is None:
                optimizer.zero_grad()
                loss = module.objective(images, labels)
                with torch.autocast("cuda", enabled=False):
                    loss.backward()
            else:
                replays += 1
        optimizer.step()
        losses.append(loss.detach())
    assert replays == (steps if graph else 0)
    return torch.stack(losses).cpu()


def largest(one, other):
    """The largest difference of two runs' weights, and of their losses."""
    names = [name for name, _ in build().named_parameters()]
    weights = max((one[1][name] - other[1][name]).abs().max().item() for name in names)
    return weights, (one[0] - other[0]).abs().max().item()


@pytest.mark.parametrize("precision", TOLERANCE)
def test_ten_captured_steps_give_the_weights_of_ten_eager_ones(precision):
    runs = []
    for graph in (None, None, StepGraph()):
        module = build()
        runs.append((train(module, precision, graph), module.state_dict()))
    eager, repeated, captured = runs
    before = eager[0] * 0, build().state_dict()
    changed, loss = largest(eager, before)
    noise, found = largest(eager, repeated), largest(eager, captured)
    print(precision, "changed", changed, loss, "two eager runs", noise, "captured", found)
    assert found[0] <= max(TOLERANCE[precision] * changed, APART * noise[0])
    assert found[1] <= max(TOLERANCE[precision] * loss, APART * noise[1])
    for name, tensor in captured[1].items():
        if "num_batches_tracked" in name:
            assert torch.equal(tensor, eager[1][name]), name


def test_dropout_is_that_of_the_seed_of_each_step():
    module, graph = build(), StepGraph()
    images = (
        torch.randint(0, 256, (4, 3, *SIZE), dtype=torch.uint8).cuda().contiguous(memory_format=torch.channels_last)
    )
    labels = torch.randint(0, 11, (4, *SIZE), dtype=torch.uint8).cuda()
    found = []
    for seed in (1, 2, 1, 2):
        torch.manual_seed(seed)
        found.append(float(graph(module, module.objective, images, labels)))
    assert found[0] == pytest.approx(found[2], rel=1e-5) and found[1] == pytest.approx(found[3], rel=1e-5)
    assert found[0] != found[1]
    torch.manual_seed(1)
    eager = float(module.objective(images, labels))
    assert eager == pytest.approx(found[0], rel=1e-3)


def test_a_step_that_waits_for_the_gpu_falls_back_and_the_gpu_goes_on(capsys):
    module, graph = build(), StepGraph()
    images = torch.zeros(4, 3, *SIZE, dtype=torch.uint8, device="cuda")
    labels = torch.zeros(4, *SIZE, dtype=torch.uint8, device="cuda")

    def waits(images, labels):
        loss = module.objective(images, labels)
        return loss * float(loss.item() > -1)

    assert graph(module, waits, images, labels) is None and graph.failed
    assert "cannot be a CUDA graph" in capsys.readouterr().out
    module.objective(images, labels).backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters() if parameter.grad is not None)
    torch.cuda.synchronize()
