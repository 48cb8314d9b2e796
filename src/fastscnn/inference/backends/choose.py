"""Which backend runs a network, on which device, and in which precision."""

from typing import NamedTuple

import torch

from fastscnn.inference.backends.triton import obstacle
from fastscnn.utils.errors import RequestError
from fastscnn.utils.values import check_choice

BACKENDS = ("auto", "torch", "compile", "triton", "onnx", "openvino")
"""The values of `backend`."""
ON_GPU = ("auto", "torch", "compile", "triton")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
ON_CPU = {"torch": ("float32", "bfloat16"), "compile": ("float32", "bfloat16"), "openvino": ("float32", "bfloat16")}
"""The precisions of a backend on the CPU; other backends compute in float32 alone."""


class Choice(NamedTuple):
    """The backend, device and precision of a network.

    Attributes:
        backend: One of `BACKENDS`; `auto` on a GPU alone, where it means `triton` if the programs fit the network, and
            `torch` if not.
        device: `cpu` or `cuda`.
        precision: One of `PRECISIONS`, but not `auto`.
    """

    backend: str
    device: str
    precision: str


def choose(backend: str = "auto", device: str = "auto", precision: str = "auto") -> Choice:
    """Decide the settings that are `auto`.

    Args:
        backend: One of `BACKENDS`.
        device: `auto` (a CUDA GPU if there is one and the backend runs on it), `cpu` or `cuda`.
        precision: `auto` is float32 on the CPU and float16 on a GPU.

    Raises:
        RequestError: A value is unknown, or it cannot run here.
    """
    check_choice("backend", backend, BACKENDS)
    check_choice("device", device, DEVICES)
    check_choice("precision", precision, PRECISIONS)
    if device == "cuda" and backend not in ON_GPU:
        raise RequestError(
            f"device=cuda is not for backend={backend}, which runs on the CPU.",
            key="device",
            fix="Leave one of them out.",
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise RequestError("device=cuda, but this machine has no CUDA GPU.", key="device", fix="Leave device out.")
    if device != "cpu" and backend in ON_GPU and torch.cuda.is_available():
        reason = obstacle(torch.device("cuda")) if backend == "triton" else None
        if reason is not None:
            raise RequestError(f"backend=triton does not run here: {reason}.", key="backend", fix="Set backend=auto.")
        return Choice(backend, "cuda", "float16" if precision == "auto" else precision)
    if backend == "triton":
        reason = "device=cpu" if device == "cpu" else "there is none here"
        raise RequestError(f"backend=triton runs on a GPU, and {reason}.", key="backend", fix="Set backend=auto.")
    backend = "torch" if backend == "auto" else backend
    precision = "float32" if precision == "auto" else precision
    possible = ON_CPU.get(backend, ("float32",))
    if precision not in possible:
        raise RequestError(
            f"precision={precision} is not for backend={backend} on the CPU.",
            key="precision",
            fix=f"Set precision={' or '.join(possible)}.",
        )
    return Choice(backend, "cpu", precision)
