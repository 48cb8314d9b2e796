"""A step that is replayed trains as one that is computed; here a replay computes anew what was recorded."""

import copy

import pytest
import torch
import trained_in_parts as parts
from torch import nn

from fastscnn.training import step_graph
from fastscnn.training.step_graph import StepGraph


def computed_anew(compute):
    """In place of a CUDA graph, as `record_on_gpu` uses one: into the same tensors at each replay."""
    for _ in range(step_graph.WARM_UPS):
        compute()
    outputs = compute()

    def replay():
        for static, new in zip(outputs, compute(), strict=True):
            static.copy_(new)

    return replay, outputs


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 2, 1),
    ).to(memory_format=torch.channels_last)


def batches(count, size=(4, 3, 6, 8)):
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(size, generator=draw).contiguous(memory_format=torch.channels_last) for _ in range(count)]


def train(module, images, graph=None, **autocast):
    """Losses of some steps; what each draws comes from its own seed, as in a run."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    losses = []
    for step, batch in enumerate(images):
        torch.manual_seed(step)
        with torch.autocast("cpu", torch.bfloat16, **{"enabled": False} | autocast):

            def objective(batch):
                return module(batch).float().square().mean()

            loss = graph(module, objective, batch) if graph else None
            replayed = loss is not None
            loss = objective(batch) if loss is None else loss
        if not replayed:
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


@pytest.mark.parametrize("autocast", [{}, {"enabled": True}, {"enabled": True, "cache_enabled": False}])
def test_steps_of_a_graph_give_the_same_weights_losses_and_batch_statistics(autocast):
    eager, graphed = network(), network()
    expected = train(eager, batches(10), **autocast)
    losses = train(graphed, batches(10), StepGraph(computed_anew), **autocast)
    assert torch.equal(torch.stack(losses), torch.stack(expected)), "also not one tensor that each step writes over"
    for name, tensor in graphed.state_dict().items():
        assert torch.equal(tensor, eager.state_dict()[name]), name


def test_each_shape_has_a_graph_and_too_many_go_without():
    sizes = [(4, 3, side, 8) for side in range(4, 11)]
    images = [batch for size in sizes + sizes[::-1] for batch in batches(1, size)]
    eager, graphed = network(), network()
    made = []

    def record(compute):
        made.append(1)
        return computed_anew(compute)

    expected = train(eager, images)
    losses = train(graphed, images, StepGraph(record))
    assert torch.equal(torch.stack(losses), torch.stack(expected))
    assert len(made) == step_graph.MOST


def test_a_step_that_cannot_be_recorded_is_computed_and_says_why_once(capsys):
    def record(compute):
        compute()
        try:
            raise RuntimeError("operation not permitted\nmore of it")
        except RuntimeError:
            raise RuntimeError("capture was invalidated")  # noqa: B904 - as the end of a capture does after what went wrong

    eager, graphed = network(), network()
    expected = train(eager, batches(5))
    losses = train(graphed, batches(5), StepGraph(record))
    assert torch.equal(torch.stack(losses), torch.stack(expected))
    assert all(torch.equal(one, other) for one, other in zip(eager.buffers(), graphed.buffers(), strict=True))
    said = capsys.readouterr().out
    assert said.count("cannot be a CUDA graph (operation not permitted)") == 1 and "more" not in said


def test_weights_that_move_are_recorded_anew():
    made = []

    def record(compute):
        made.append(1)
        return computed_anew(compute)

    module, graph = network(), StepGraph(record)
    train(module, batches(2), graph)
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    train(module, batches(2), graph)
    assert len(made) == 2


def test_gradients_have_the_strides_of_their_weights_which_fused_optimizers_ask_for():
    module = network()
    train(module, batches(1), StepGraph(computed_anew))
    for name, parameter in module.named_parameters():
        assert parameter.grad.stride() == parameter.stride(), name


def test_gradients_of_eager_steps_are_given_these_strides_too():
    module = network()
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape)
    before = [parameter.grad.clone() for parameter in module.parameters()]
    step_graph.same_strides(module.parameters())
    for parameter, gradient in zip(module.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, gradient)
        same = parameter.dim() < 4 or 1 in (parameter.shape[1], parameter.shape[2])
        assert (parameter.grad.stride() == parameter.stride()) == same


def test_a_copy_of_a_module_has_graphs_of_its_own():
    module = network()
    module.graph = StepGraph(computed_anew)
    train(module, batches(1), module.graph)
    assert copy.deepcopy(module).graph._recorded == {}


def test_a_run_with_a_graph_takes_the_steps_of_one_without(tmp_path, monkeypatch):
    """Lightning's own loop, with clipping: neither zeroes what the graph wrote, nor derives it once more."""
    settings = {"gradient_clip_val": 0.1}
    module = parts.build()
    expected = parts.train(tmp_path, module, **settings)
    monkeypatch.setattr(step_graph, "record_on_gpu", computed_anew)
    monkeypatch.setattr(step_graph, "why_not", lambda settings, trainer: None)
    graphed = parts.build()
    recorded = parts.train(tmp_path, graphed, **settings)
    assert recorded.losses == expected.losses and len(recorded.losses) == 2
    for name, tensor in graphed.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[name]), name
    assert graphed._derived and not module._derived


def test_a_graph_that_is_asked_for_where_there_is_no_gpu_is_answered_with_the_reason(tmp_path, capsys):
    module = parts.build()
    module.config["trainer"] = {"cuda_graph": True}
    parts.train(tmp_path, module)
    assert "no CUDA graph: there is no GPU" in capsys.readouterr().out
