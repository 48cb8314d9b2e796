"""A training step's forward and backward pass as one CUDA graph: small crops are bound by launches, not by arithmetic.

The optimizer, clipping and callbacks stay outside: they see the gradients as ever. What a step draws is as without a
graph, for each replay takes the seed that the device's generator has then, and the draws keep their order.
"""

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from fastscnn.utils.progress import say

WARM_UPS = 3
MOST = 4
"""Shapes of batches that have a graph of their own; all others go without."""

Compute = Callable[[], list[Tensor]]
Record = Callable[[Compute], tuple[Callable[[], None], list[Tensor]]]
"""Computes once or more, and returns what computes anew into the same tensors, and these."""


class _Recorded(NamedTuple):
    replay: Callable[[], None]
    inputs: list[Tensor]
    loss: Tensor
    gradients: list[Tensor | None]
    parameters: list[nn.Parameter]
    places: tuple[int, ...]
    """Where the weights and buffers lay: a graph knows them by their addresses."""


class StepGraph:
    """Computes the loss of a batch and the gradients of a module, replayed from a graph for each shape of a batch.

    Recording changes neither weights nor batch statistics nor what is drawn later.

    Args:
        record: Makes the graph; another than the GPU's own to test all else without one.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._record = record or record_on_gpu
        self._recorded: dict[Any, _Recorded] = {}
        self.failed = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "StepGraph":
        """A copy of a module records its own."""
        return StepGraph(self._record)

    def __call__(self, module: nn.Module, objective: Callable[..., Tensor], *inputs: Tensor) -> Tensor | None:
        """Set the gradients of a batch's loss.

        Args:
            module: Whose parameters.
            objective: From the inputs to a scalar.
            inputs: Tensors of a batch, on the module's device.

        Returns:
            The loss; every parameter's `grad` is that of this batch, and written over by the next call. None where it
            cannot be recorded: nothing is changed then, and why is printed once.
        """
        key = module.training, *((tensor.shape, tensor.stride(), tensor.dtype) for tensor in inputs)
        recorded = self._recorded.get(key)
        if recorded is not None and recorded.places != _places(module):
            recorded = self._recorded.pop(key) and None
        if recorded is None:
            if self.failed or len(self._recorded) >= MOST:
                return None
            try:
                recorded = self._new(module, objective, inputs)
            except Exception as error:
                self.failed = True
                self._recorded.clear()
                say(f"The step cannot be a CUDA graph ({_first(error)}), and is computed without one")
                return None
            self._recorded[key] = recorded
        for static, tensor in zip(recorded.inputs, inputs, strict=True):
            static.copy_(tensor, non_blocking=True)
        recorded.replay()
        for parameter, gradient in zip(recorded.parameters, recorded.gradients, strict=True):
            parameter.grad = gradient
        return recorded.loss.clone()

    def _new(self, module: nn.Module, objective: Callable[..., Tensor], inputs: Sequence[Tensor]) -> _Recorded:
        kind = inputs[0].device.type
        static = [torch.empty_like(tensor).copy_(tensor) for tensor in inputs]
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        derived: list[bool] = []

        def compute() -> list[Tensor]:
            _forget(parameters)
            # A weight in the cache of autocast would be that of the recording in every replay.
            with _autocast(kind):
                loss = objective(*static)
            with torch.autocast(kind, enabled=False):
                loss.backward()  # type: ignore[no-untyped-call]
            gradients = [parameter.grad for parameter in parameters]
            derived[:] = [gradient is not None for gradient in gradients]
            _forget(parameters)
            return [loss.detach(), *(gradient for gradient in gradients if gradient is not None)]

        with _unchanged(module, inputs[0].device):
            try:
                replay, (loss, *found) = self._record(compute)
            finally:
                _forget(parameters)
        rest = iter(found)
        gradients = [_as(next(rest), one) if has else None for one, has in zip(parameters, derived, strict=True)]
        return _Recorded(replay, static, loss, gradients, parameters, _places(module))


def why_not(settings: Mapping[str, Any], trainer: pl.Trainer) -> str | None:
    """Why a step cannot be a graph in this run, as the end of a sentence; None where it can be.

    Args:
        settings: The `trainer` group.
        trainer: The run's.
    """
    plugin: Any = trainer.precision_plugin
    reasons = {
        "there is no GPU": trainer.strategy.root_device.type != "cuda",
        "several devices share a batch": trainer.world_size > 1,
        "trainer.accumulate_grad_batches computes it in parts": trainer.accumulate_grad_batches > 1,
        "float16's loss scale changes on the way": getattr(plugin, "scaler", None) is not None,
        "trainer.profile_steps tells its parts apart": bool(settings.get("profile_steps")),
        "trainer.recompute=true computes parts of it again": settings.get("recompute") is True,
        "trainer.detect_anomaly looks into it": bool(settings.get("detect_anomaly")),
        "trainer.compile has its own programs (trainer.cuda_graph=true puts them into one)": bool(
            settings.get("compile") and settings.get("cuda_graph") is not True
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def choose_step_graph(settings: Mapping[str, Any], trainer: pl.Trainer | None) -> StepGraph | None:
    """The graph of a run's step, by `trainer.cuda_graph`: `auto` has one on a GPU, true says why where it cannot."""
    setting = settings.get("cuda_graph", "auto")
    if setting is False or trainer is None:
        return None
    if (reason := why_not(settings, trainer)) is None:
        return StepGraph()
    if trainer.is_global_zero and (setting is True or trainer.strategy.root_device.type == "cuda"):
        say(f"The step is no CUDA graph: {reason}")
    return None


def record_on_gpu(compute: Compute) -> tuple[Callable[[], None], list[Tensor]]:
    """Run a few times aside, so that all is compiled, chosen and allocated; then capture (torch's notes on CUDA).

    All on one stream: what autograd keeps of a parameter remembers the stream that it was made on.
    """
    current = torch.cuda.current_stream()
    side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            compute()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads (that read frames into pinned memory, say) may go on while this one captures.
        with _no_collection(), torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            outputs = compute()
    except BaseException:
        torch.cuda.set_stream(current)
        _end_capture()
        raise
    current.wait_stream(side)
    return graph.replay, outputs


def _end_capture() -> None:
    """After a capture that failed torch's generator counts as captured still, until another capture ends well."""
    with contextlib.suppress(RuntimeError):
        torch.cuda.synchronize()
    with contextlib.suppress(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local"):
        torch.zeros((), device="cuda").add_(1)


@contextmanager
def _no_collection() -> Iterator[None]:
    """What is garbage is collected before, and nothing within: the end of a GPU object is no part of a graph."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _unchanged(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Afterwards the buffers, and the generator of the device, are as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    generator = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        if device.type == "cuda":
            torch.cuda.set_rng_state(generator, device)
        else:
            torch.set_rng_state(generator)


def _autocast(kind: str) -> torch.autocast:
    """What is on already, without the cache."""
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    return torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False)


def _first(error: BaseException) -> str:
    """What went wrong first: what ends a capture fails after it."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def same_strides(parameters: Iterable[nn.Parameter]) -> None:
    """Give each gradient the strides of its parameter, where the memory is the same."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = _as(parameter.grad, parameter)


def _as(gradient: Tensor, parameter: Tensor) -> Tensor:
    """A gradient with its parameter's strides, where these differ in sides of length one alone: the same memory.

    Optimizers compute all weights in one kernel only where the strides are equal.
    """
    strides = parameter.stride()
    same = all(
        size == 1 or own == other for size, own, other in zip(parameter.shape, gradient.stride(), strides, strict=True)
    )
    return gradient.as_strided(parameter.shape, strides) if same and gradient.stride() != strides else gradient


def _places(module: nn.Module) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensors in (module.parameters(), module.buffers()) for tensor in tensors)
