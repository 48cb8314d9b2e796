"""Half the memory of a training step: what BatchNorm and its activation gave is computed again when it is needed."""

import weakref
from types import TracebackType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

ACTIVATIONS = (nn.ReLU, nn.ReLU6)
LARGE = 2 * 1024 * 1024
"""Pixels of a batch above which memory is worth more than 3% of the time."""


class _Normalised:
    """The output of a BatchNorm, and of the activation that took its place; known by what it is computed from."""

    def __init__(self, output: Tensor, images: Tensor, norm: nn.BatchNorm2d, mean: Tensor, inverse: Tensor) -> None:
        self.alive = weakref.ref(output)
        self.version = version_of(output) or 0
        self.activation: nn.Module | None = None
        self.uses = 0
        self._input, self._norm, self._mean, self._inverse = images.detach(), norm, mean, inverse
        self._value: Tensor | None = None

    def is_still(self, saved: Tensor) -> bool:
        """Whether a tensor is this output, unchanged but for the activation."""
        output = self.alive()
        return output is not None and version_of(output) == self.version and saved.shape == output.shape

    def value(self) -> Tensor:
        """The output, kept from its first use in the backward pass to its last."""
        value = self._value
        if value is None:
            variance = self._inverse.pow(-2) - self._norm.eps
            weight, bias = self._norm.weight, self._norm.bias
            value = F.batch_norm(self._input, self._mean, variance, weight, bias, eps=self._norm.eps)
            if self.activation is not None:
                value = self.activation.forward(value)
        self.uses -= 1
        self._value = value if self.uses > 0 else None
        return value


class Recomputed:
    """Inside its block the graph keeps of a BatchNorm, and of the in-place activation after it, the input alone.

    The convolution before has that input as its output, and BatchNorm needs it in any case; the output would be
    as large, and is needed once by the activation and once by the next convolution. It is computed again from the
    input and the batch's statistics, an element at a time, which takes no longer than the page faults that it saves.
    Gradients differ by rounding alone. All else is kept as ever, as are the outputs of a BatchNorm that is synchronised
    over devices.

    Args:
        module: All of whose BatchNorms are meant; it gets hooks for good, which do nothing outside of the block.
    """

    def __init__(self, module: nn.Module) -> None:
        self._known: dict[int, _Normalised] = {}
        self._hooks: saved_tensors_hooks | None = None
        for part in module.modules():
            if type(part) is nn.BatchNorm2d:
                part.register_forward_hook(self._normalised)
            elif isinstance(part, ACTIVATIONS) and part.inplace:
                part.register_forward_pre_hook(self._activates)

    def __enter__(self) -> None:
        self._hooks = saved_tensors_hooks(self._pack, self._unpack)
        self._hooks.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._hooks is not None
        self._hooks.__exit__(kind, error, trace)
        self._hooks = None
        self._known.clear()

    def _normalised(self, norm: nn.BatchNorm2d, inputs: tuple[Tensor], output: Tensor) -> None:
        statistics = saved_statistics(output) if self._hooks and norm.training else None
        if statistics is not None and version_of(output) is not None:
            self._known[_place(output)] = _Normalised(output, inputs[0], norm, *statistics)

    def _activates(self, activation: nn.Module, inputs: tuple[Tensor]) -> None:
        known = self._known.get(_place(inputs[0]))
        if self._hooks and known and known.alive() is inputs[0] and known.activation is None:
            known.activation = activation
            known.version += 1

    def _pack(self, saved: Tensor) -> Tensor | _Normalised:
        known = self._known.get(_place(saved))
        if known is None or not known.is_still(saved):
            return saved
        known.uses += 1
        return known

    @staticmethod
    def _unpack(packed: Tensor | _Normalised) -> Tensor:
        return packed.value() if isinstance(packed, _Normalised) else packed


def saved_statistics(output: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and inverse deviation of the batch that gave a BatchNorm's output, as autograd saved them.

    None for other nodes, such as that of a synchronised BatchNorm, and in a version of torch that names them otherwise:
    nothing is recomputed then.
    """
    node: Any = output.grad_fn
    if not hasattr(node, "_saved_result2"):
        return None
    return node._saved_result1.detach(), node._saved_result2.detach()


def version_of(tensor: Tensor) -> int | None:
    """How often a tensor was changed in place; None in a version of torch that does not say so."""
    version: int | None = getattr(tensor, "_version", None)
    return version


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def choose_keep_memory(setting: bool | str, pixels: int) -> bool:
    """Whether a process keeps the memory that it frees; `auto` does up to two million pixels a batch.

    It saves page faults, 6% of a step; what is kept lies in pieces, and of a large batch that is hundreds of megabytes.

    Args:
        setting: `trainer.keep_memory`.
        pixels: Of a batch on one device.
    """
    return pixels <= LARGE if setting == "auto" else bool(setting)


def choose_recompute(setting: bool | str, images: Tensor, *, compiled: bool, scale: float = 1.0) -> bool:
    """Whether to recompute; `auto` does on a CPU, for batches of more than two million pixels.

    It takes 3% more time, and below that size a step needs less than a gigabyte in any case. A compiled network decides
    for itself what it keeps.

    Args:
        setting: `trainer.recompute`.
        images: A batch, [B, C, H, W].
        compiled: Whether the network is.
        scale: Height and width of what the network sees, as a share of the images'.
    """
    batch, _, height, width = images.shape
    large = images.device.type == "cpu" and batch * height * width * scale**2 > LARGE
    return not compiled and (large if setting == "auto" else bool(setting))
