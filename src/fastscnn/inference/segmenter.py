"""Labels and probabilities of images from a trained network, as fast as the machine allows."""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastscnn.data.datasets.classes import ClassTable
from fastscnn.inference.backends.backends import build_backend, torch_threads
from fastscnn.inference.backends.choose import choose
from fastscnn.inference.backends.cuda_graph import GraphRunner, NoProgramsError
from fastscnn.inference.backends.from_pixels import Engine, FromPixels
from fastscnn.inference.files.exported import ExportedFile, is_exported
from fastscnn.inference.loader import Trained, load_trained
from fastscnn.inference.preprocess import cut, enlarged, in_place, shrunk, shrunk_size, size_of
from fastscnn.inference.shipped import DEFAULT, shipped_folder
from fastscnn.utils.errors import RequestError
from fastscnn.utils.images import MAX_PIXELS, ImageFileError, read_rgb
from fastscnn.utils.memory import keep_freed_memory
from fastscnn.utils.values import check_number, check_whole

Array = npt.NDArray[Any]
AUTO = "auto"
BEYOND = 1.5
"""The longest side of what the network sees, as a share of that of the frames it was trained on; larger ones have
objects of a size that it does not know (`results/large_images.md`)."""
Images = Array | str | Path | Sequence[Array | str | Path]


class Segmenter:
    """A trained network that takes images of any size, as arrays or files, and gives labels.

    Safe to call from several threads: its buffers are shared, so that calls wait for one another.

    Attributes:
        classes: The classes; `classes.names[label]` is the name of a label.
        device: The device that computes.
        threads: Threads of a call on the CPU; None for torch's own number.
        max_pixels: Pixels of the largest image file that is decoded.
        smallest_side: The smallest height and width that the network takes, in pixels; a smaller image is enlarged
            to it by repeating its last row and column, and the output is cropped to the image. Above 1 only for int8
            files.
        longest_side: The longest side at which the network sees an image, in pixels; None for any.
        multiple: What height and width of an image are brought to multiples of, as for `smallest_side`.
    """

    def __init__(
        self,
        engine: Engine,
        classes: ClassTable,
        *,
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        longest_side: int | None = None,
        multiple: int = 1,
    ) -> None:
        self.classes = classes
        self.multiple = multiple
        self.longest_side = longest_side
        self.device = engine.device
        self.threads = threads
        self.max_pixels = max_pixels
        self.smallest_side = engine.smallest_side
        self._engine = engine
        self._lock = threading.Lock()

    @classmethod
    def from_checkpoint(
        cls,
        source: str | Path,
        *,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        longest_side: int | str | None = AUTO,
        trust: str | Sequence[str] | None = None,
    ) -> "Segmenter":
        """Load a trained network.

        Args:
            source: What `load_trained` takes; or a file that `export.py` wrote for ONNX Runtime (`.onnx`) or OpenVINO
                (`.xml`), float32 or int8, which runs on the CPU as it is.
            backend: See `from_trained`.
            device: See `from_trained`.
            precision: See `from_trained`.
            threads: Threads of a call on the CPU; None for torch's own number.
            max_pixels: Pixels of the largest image file that is decoded, so that a small file that unpacks to
                gigabytes is refused.
            longest_side: See `from_trained`.
            trust: As `open_checkpoint` takes it.

        Raises:
            RequestError: The file is no checkpoint, a package is missing, or the choices do not go together.
        """
        check_whole("threads", threads, 1, words=(None,))
        check_whole("max_pixels", max_pixels, 1)
        check_whole("longest_side", longest_side, 1, words=(None, AUTO))
        if is_exported(source):
            keep_freed_memory()
            file = ExportedFile(source, backend=backend, device=device, precision=precision, threads=threads)
            longest = longest_of(longest_side, file.frame_size)
            sees: dict[str, Any] = {"longest_side": longest, "multiple": file.multiple}
            return cls(file, file.classes, threads=threads, max_pixels=max_pixels, **sees)
        choose(backend, device, precision)  # a wrong choice is named before a file is read
        return cls.from_trained(
            load_trained(source, trust=trust),
            backend=backend,
            device=device,
            precision=precision,
            threads=threads,
            max_pixels=max_pixels,
            longest_side=longest_side,
        )

    @classmethod
    def from_pretrained(cls, name: str = DEFAULT, **settings: Any) -> "Segmenter":
        """Load a network that comes with the package; no network connection is needed.

        Args:
            name: A name of `fastscnn.inference.shipped.NETWORKS`, such as `camvid`.
            settings: As `from_checkpoint` takes them.

        Raises:
            RequestError: There is no such network, or as `from_checkpoint`.
        """
        return cls.from_checkpoint(shipped_folder(name), **settings)

    @classmethod
    def from_trained(
        cls,
        trained: Trained,
        *,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        longest_side: int | str | None = AUTO,
    ) -> "Segmenter":
        """Make a loaded network ready to run.

        Args:
            trained: The network.
            backend: `auto`: on a GPU the Triton layers if they can run, on the CPU torch. Or `torch`; `compile`
                (`torch.compile`: the first image of each size takes a minute); `triton` (a GPU); `onnx` (ONNX Runtime)
                or `openvino`, which are faster on a CPU.
            device: `auto` (a CUDA GPU if there is one and the backend runs on it), `cpu` or `cuda`.
            precision: `auto` is float32 on the CPU and float16 on a GPU; `float32`, `bfloat16`, `float16`.
            threads: Threads of a call on the CPU; None for torch's own number.
            max_pixels: Pixels of the largest image file that is decoded.
            longest_side: The longest side at which the network sees an image, in pixels. A larger image is shrunk to it
                first; its output has the image's size all the same. `auto` is 1.5 times that of the frames that the
                network was trained on, where its file says this, and else None, which shrinks nothing.

        Raises:
            RequestError: A package is missing, or the choices do not go together.
        """
        check_whole("longest_side", longest_side, 1, words=(None, AUTO))
        taken: dict[str, Any] = {
            "max_pixels": max_pixels,
            "longest_side": longest_of(longest_side, trained.frame_size),
            "multiple": trained.multiple,
        }
        choice = choose(backend, device, precision)
        sees: dict[str, Any] = {"scale": trained.scale, "temperature": trained.temperature}
        if choice.device == "cuda":
            dtype = getattr(torch, choice.precision)
            try:
                runner = GraphRunner(trained.network, dtype=dtype, engine=choice.backend, **sees)
            except NoProgramsError as error:
                raise RequestError(f"backend={backend}: {error}.", key="backend", fix="Set backend=auto.") from None
            if backend == "auto" and runner.fallback:
                print(f"backend=auto takes torch: {runner.fallback}.", file=sys.stderr)
            return cls(runner, trained.classes, **taken)
        keep_freed_memory()
        ready = build_backend(trained, choice.backend, precision=choice.precision, threads=threads)
        return cls(FromPixels(ready, **sees), trained.classes, threads=threads, **taken)

    def __call__(self, images: Images, *, unknown_below: float | None = None) -> Any:
        """Train ids of each pixel.

        Args:
            images: RGB, uint8 [H, W, 3], or a batch [B, H, W, 3]; a file, which is turned upright by its EXIF
                orientation; or a list of such images and files, of any sizes.
            unknown_below: Pixels whose label has a lower probability than this get `classes.ignore_index`.

        Returns:
            uint8 [H, W] of one image, [B, H, W] of a batch, a list of [H, W] of a list.

        Raises:
            RequestError: `unknown_below` is not from 0 to 1, or the network is an exported file that gives labels only;
                a file cannot be read, or has more than `max_pixels` pixels.
            ValueError: An array is no RGB image of uint8.
        """
        if isinstance(images, list | tuple):
            return [self(image, unknown_below=unknown_below) for image in images]
        if unknown_below is not None:
            check_number("unknown_below", unknown_below, minimum=0, maximum=1)
            labels, confidence = self.confidence(images)
            return self.known(labels, confidence, unknown_below)
        given, one = self._batch(images)
        batch, size = self._seen(given)
        with self._lock, torch_threads(self.threads), torch.inference_mode():
            labels = self._engine(batch, size).cpu().numpy()
        labels = cut(labels, size_of(given))
        return labels[0] if one else labels

    def confidence(self, images: Images) -> Any:
        """Train ids of each pixel, and the probability of each.

        Computed together in one fused step: the probabilities of the other classes are not kept.

        Args:
            images: As `__call__` takes them.

        Returns:
            The labels of `__call__`, and float32 of the same shape; a list of such pairs of a list.

        Raises:
            RequestError: The network is an exported file that gives labels alone; or as `__call__`.
            ValueError: As `__call__`.
        """
        if isinstance(images, list | tuple):
            return [self.confidence(image) for image in images]
        given, one = self._batch(images)
        batch, size = self._seen(given)
        with self._lock, torch_threads(self.threads), torch.inference_mode():
            pair = self._engine.confidence(batch, size)
            labels, confidence = (cut(part.cpu().numpy(), size_of(given)) for part in pair)
        return (labels[0], confidence[0]) if one else (labels, confidence)

    def check_probabilities(self) -> None:
        """Check that the network gives more than labels.

        Raises:
            RequestError: It is an exported file that gives labels alone.
        """
        if isinstance(self._engine, ExportedFile):
            self._engine.check_probabilities()

    def known(self, labels: Array, confidence: Array, unknown_below: float) -> Array:
        """Labels with `classes.ignore_index` where their probability is below a limit."""
        marked: Array = np.where(confidence < unknown_below, np.uint8(self.classes.ignore_index), labels)
        return marked

    def probabilities(self, images: Images, out: Array | None = None) -> Any:
        """Probability of each class at each pixel.

        Args:
            images: As `__call__` takes them.
            out: float32 of the result's shape to write into, which saves the page faults of a fresh one (159 MB at
                1024x2048 with 19 classes); not for a list.

        Returns:
            float32 [C, H, W] of one image, [B, C, H, W] of a batch, a list of [C, H, W] of a list.

        Raises:
            RequestError: A file cannot be read, or has more than `max_pixels` pixels.
            ValueError: An array is no RGB image of uint8, or `out` does not fit.
        """
        if isinstance(images, list | tuple):
            if out is not None:
                raise ValueError("out is for one image or one batch, not for a list")
            return [self.probabilities(image) for image in images]
        given, one = self._batch(images)
        batch, size = self._seen(given)
        with self._lock, torch_threads(self.threads), torch.inference_mode():
            target = None if out is None else torch.from_numpy(out[None] if one else out)
            height, width = size_of(given)
            if size == (height, width):
                found = self._engine.probabilities(batch, size, out=target)
            else:
                found = in_place(self._engine.probabilities(batch, size)[..., :height, :width], target)
            probabilities = found.cpu().contiguous().numpy()
        if out is not None:
            return out
        return probabilities[0] if one else probabilities

    def seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The height and width at which the network sees an image of a size: its own, or less of a large one."""
        return shrunk_size(size, self.longest_side, self.smallest_side)

    def _seen(self, given: Array) -> tuple[Tensor, tuple[int, int]]:
        """What the network sees of a batch, and the size of the output, of which that of the batch is the beginning."""
        own = size_of(given)
        seen = shrunk(given, self.seen_size(own))
        batch = enlarged(seen, self.smallest_side, self.multiple)
        height, width = (
            round(side * whole / part) for side, whole, part in zip(own, size_of(batch), size_of(seen), strict=True)
        )
        return torch.from_numpy(np.require(batch, requirements=["C", "W"])), (height, width)

    def _batch(self, images: Any) -> tuple[Array, bool]:
        """An image or a batch as a batch; and whether it was one image."""
        if isinstance(images, str | Path):
            try:
                images = read_rgb(images, upright=True, max_pixels=self.max_pixels)
            except ImageFileError as error:
                raise RequestError(f"{error.path} {error.found}", key=error.setting, fix=error.fix) from None
        array = images.numpy(force=True) if isinstance(images, Tensor) else np.asarray(images)
        if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3 or 0 in array.shape:
            raise ValueError(
                f"an image is RGB, uint8 [H, W, 3] of 0 to 255 (a batch [B, H, W, 3]), and this is {array.dtype} "
                f"{list(array.shape)}: convert it first"
            )
        return (array[None], True) if array.ndim == 3 else (array, False)


def longest_of(given: int | str | None, frame_size: tuple[int, int] | None) -> int | None:
    """The longest side of what the network sees.

    Args:
        given: A number, None or `auto`, see `Segmenter.from_trained`.
        frame_size: Height and width of the frames that it was trained on; None where that is not known.
    """
    if not isinstance(given, str):
        return given
    return None if frame_size is None else round(BEYOND * max(frame_size))
