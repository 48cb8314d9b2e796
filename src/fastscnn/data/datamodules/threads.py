"""A loader whose threads cut frames straight into the batches: nothing passes between processes."""

import copy
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from fastscnn.data.datasets.frame_dataset import BatchInParts, FrameDataset, Key

SWITCH_SECONDS = 0.0005
"""How long a thread waits at most for the interpreter while another computes in Python; Python's own 5 ms are longer
than the work on a small frame."""
AHEAD = 2
"""Batches that are read ahead, or more of them where the threads have less than two frames each."""


class ThreadLoader(DataLoader[dict[str, Any]]):
    """Batches of a data set of frames, each frame read by one of several threads.

    OpenCV, numba and the reading of files leave the interpreter to the other threads. A frame is the same whichever
    thread reads it, because its random numbers are its own; each thread has its own copy of what holds their state.
    On a machine with a GPU the batches lie in pinned memory.

    Args:
        dataset: The frames.
        threads: How many read.
        options: Those of a DataLoader.
    """

    def __init__(self, dataset: FrameDataset, threads: int, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.threads = threads
        self._pinned = torch.cuda.is_available()

    def __iter__(self) -> Any:
        """The batches of an epoch, in the order of the sampler.

        Raises:
            Exception: What reading a frame raises, such as a `DataError`.
        """
        return self._batches(iter(self.batch_sampler))  # type: ignore[arg-type]

    def _batches(self, keys: Iterator[Sequence[Key]]) -> Iterator[dict[str, Any]]:
        pool = ThreadPoolExecutor(self.threads, "data")
        own = threading.local()
        pending: deque[tuple[BatchInParts, list[Future[None]]]] = deque()
        opencv, interval = cv2.getNumThreads(), sys.getswitchinterval()
        cv2.setNumThreads(0)  # its own threads would compete with ours
        sys.setswitchinterval(min(interval, SWITCH_SECONDS))
        try:
            while True:
                frames = sum(len(jobs) for _, jobs in pending)
                while len(pending) < AHEAD or frames < 2 * self.threads:
                    if (chosen := next(keys, None)) is None:
                        break
                    batch = BatchInParts(len(chosen), pinned=self._pinned)
                    jobs = [pool.submit(self._put, own, batch, *job) for job in enumerate(chosen)]
                    pending.append((batch, jobs))
                    frames += len(jobs)
                if not pending:
                    return
                batch, jobs = pending.popleft()
                for job in jobs:
                    job.result()
                yield batch.finished()
        finally:
            pool.shutdown(cancel_futures=True)
            cv2.setNumThreads(opencv)
            sys.setswitchinterval(interval)

    def _put(self, own: threading.local, batch: BatchInParts, place: int, key: Key) -> None:
        """Read a frame into its place in a batch, with this thread's copy of the data set."""
        if not hasattr(own, "dataset"):
            own.dataset = copied(self.dataset)
        batch.put(place, *own.dataset.arrays(key))


def copied(dataset: Any) -> Any:
    """A copy that shares the frames, and nothing that reading or augmenting one changes."""
    one = copy.copy(dataset)
    one.augment, one.read = copy.deepcopy(dataset.augment), copy.copy(dataset.read)
    return one
