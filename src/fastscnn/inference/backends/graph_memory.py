"""The memory of captured CUDA graphs, which nothing else in the process may reuse."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

CAPTURING = threading.Lock()
"""Captures of several threads take turns: the workspaces below belong to the whole process."""


class GraphMemory:
    """One pool of memory and one stream for all graphs of one owner, which never run at the same time.

    A graph keeps addresses, not tensors. Two of torch's habits take the memory behind them away:

    - A pool that no graph uses is given back, and cannot be used a second time while a tensor of it is alive. A graph
      of nothing keeps ours in use from the beginning to the end.
    - cuBLAS has one workspace for each stream, which torch allocates from the pool that happens to be captured into
      then, and keeps for later captures, those into other pools too. When the first pool is given back, or when
      torch.compile's own CUDA graphs clear all workspaces, graphs of other pools still write there. So each of our
      captures starts without a workspace and leaves none behind: what its graph uses lies in its own pool.
    """

    def __init__(self, device: torch.device) -> None:
        with torch.cuda.device(device):
            self.stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self.pool: Any = torch.cuda.graph_pool_handle()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The CUDA Graph is empty")
                self._anchor, _ = self.capture(lambda: None)

    def capture(self, compute: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
        """Capture what a function does on the GPU; the graph, and what the function returned."""
        graph = torch.cuda.CUDAGraph()
        # Other threads (that read frames into pinned memory, say) may go on while this one captures.
        captured = torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local")
        with CAPTURING, own_workspaces(), captured:
            result = compute()
        return graph, result

    def run_aside(self, compute: Callable[[], Any], times: int) -> None:
        """Run a function on the stream of the captures, so that all is compiled and allocated."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(times):
                compute()
        torch.cuda.current_stream().wait_stream(self.stream)


@contextmanager
def own_workspaces() -> Iterator[None]:
    """As torch's own graphs do it (torch/_inductor/cudagraph_trees.py, `clear_cublas_manager`).

    torch has no public name for this; without the private one, the workspaces are not cleared.
    """
    clear: Callable[[], None] = getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)
    clear()
    try:
        yield
    finally:
        clear()
