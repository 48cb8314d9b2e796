"""Exported files as networks: from pixels to labels, by the description in the file."""

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fastscnn.inference.backends.backends import Backend, OnnxBackend, OpenVinoBackend
from fastscnn.inference.contents import class_table, frame_size
from fastscnn.inference.files.interface import Interface, network_input
from fastscnn.inference.files.runtimes import NAMES, has_bfloat16, openvino_core, read_description, value
from fastscnn.inference.preprocess import in_place, size_of
from fastscnn.kernels import upsample_confidence, upsample_labels, upsample_probabilities
from fastscnn.utils.errors import RequestError
from fastscnn.utils.plain_files import DamagedFile

FORMATS = {".onnx": "onnx", ".xml": "openvino"}
"""The format of a file, by its suffix."""


def is_exported(path: str | Path) -> bool:
    """Whether a path is that of an exported file for ONNX Runtime or OpenVINO, by its name."""
    return Path(path).suffix in FORMATS


class ExportedFile:
    """An exported file that is ready to run on the CPU.

    Args:
        path: A `.onnx` file, or a `.xml` file with its `.bin` beside it; float32 or int8.
        backend: `auto`, or the name of the file's own runtime.
        device: `auto` or `cpu`.
        precision: `auto`: that of the file, or float32 where this processor does not compute in it; `float32` of a file
            whose precision is bfloat16.
        threads: Threads of a call; None for torch's own number.

    Attributes:
        classes: The classes of the labels.
        frame_size: Height and width of the frames that the network was trained on; None where that is not known.
        precision: `float32`, `bfloat16` or `int8`, in which it is computed.
        smallest_side: The smallest height and width of images, in pixels.
        multiple: What height and width of images are best multiples of.

    Raises:
        RequestError: It is missing, was not written by `export.py`, or a setting is not for exported files.
        Crash: It is an int8 file of another processor, and crashes on images of any size on this one.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        path: str | Path,
        *,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        format = FORMATS[self.path.suffix]
        for name, given, possible in (
            ("backend", backend, ("auto", format)),
            ("device", device, ("auto", "cpu")),
            ("precision", precision, ("auto", "float32") if format == "openvino" else ("auto",)),
        ):
            if given not in possible:
                raise RequestError(
                    f"{name}={given} is for checkpoints, and checkpoint={path} is an exported file, which runs in "
                    f"{NAMES[format]} on the CPU as it was written.",
                    key=name,
                    fix=f"Leave {name} out.",
                )
        for part in {self.path, self.path.with_suffix(".bin") if format == "openvino" else self.path}:
            if not part.is_file():
                raise RequestError(
                    f"checkpoint={path}: there is no {part}.", key="checkpoint", fix="Set checkpoint=FILE."
                )
        described = read_description(self.path)
        if "class_table" not in described:
            raise RequestError(
                f"checkpoint={path} does not describe its classes, as files of this version of export.py do.",
                key="checkpoint",
                fix="Export the network again, or name a checkpoint.",
            )
        try:
            table = value(described, "class_table")
            self.interface = Interface.described(described)
            self.multiple = self.interface.multiple
            self.frame_size = frame_size(value(described, "frame_size")) if "frame_size" in described else None
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            problem = f"{path}: what it says about itself is damaged ({type(error).__name__}: {error})."
            raise DamagedFile(problem, key="checkpoint", fix="Copy it again, or export the network again.") from None
        self.classes = class_table(table, path)
        self.precision = self._precision(described.get("precision", "float32"), precision)
        if format == "onnx":
            self._run: Backend = OnnxBackend(self.path, threads)
        else:
            hint = "bfloat16" if self.precision == "bfloat16" else "float32"
            self._run = OpenVinoBackend(self.path, hint, threads)
        scale = 1.0 if self.interface.input == "uint8" else self.interface.scale
        self.smallest_side = math.ceil(self._run.smallest_side / scale)

    def _precision(self, of_the_file: str, wanted: str) -> str:
        """In what the file is computed: bfloat16 where it was measured, can be computed and is not declined."""
        if wanted == "float32" and of_the_file == "int8":
            raise RequestError(
                f"precision=float32, but checkpoint={self.path} is an int8 file.",
                key="precision",
                fix="Leave precision out, or name a float32 file.",
            )
        if of_the_file != "bfloat16" or wanted == "float32":
            return of_the_file if wanted == "auto" else wanted
        if has_bfloat16(openvino_core()):
            return "bfloat16"
        print("precision=auto takes float32: OpenVINO does not compute in bfloat16 on this processor.", file=sys.stderr)
        return "float32"

    def __call__(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """RGB, uint8 [B, H, W, 3], to train ids, uint8 [B, H, W], or of another `size` (height and width)."""
        output = self._output(images)
        if self.interface.output == "labels":
            return _resized(output[:, None], size, "nearest-exact")[:, 0]
        if self.interface.output == "probabilities":
            return _resized(output, size, "bilinear").argmax(1).to(torch.uint8)
        return upsample_labels(output, size or size_of(images))

    def probabilities(
        self, images: Tensor, size: tuple[int, int] | None = None, *, out: Tensor | None = None
    ) -> Tensor:
        """RGB, uint8 [B, H, W, 3], to the probability of each class, float32 [B, C, H, W]; `size` as `__call__`.

        They are written into `out` where one is given.

        Raises:
            RequestError: The file gives labels.
        """
        self.check_probabilities()
        output = self._output(images)
        if self.interface.output == "probabilities":
            return in_place(_resized(output, size, "bilinear"), out)
        return upsample_probabilities(output, size or size_of(images), out)

    def confidence(self, images: Tensor, size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """RGB, uint8 [B, H, W, 3], to train ids, uint8 [B, H, W], and the probability of each, float32 [B, H, W].

        `size` as `__call__`.

        Raises:
            RequestError: The file gives labels.
        """
        self.check_probabilities()
        output = self._output(images)
        if self.interface.output == "probabilities":
            confidence, labels = _resized(output, size, "bilinear").max(1)
            return labels.to(torch.uint8), confidence
        return upsample_confidence(output, size or size_of(images))

    def check_probabilities(self) -> None:
        """Check that the file gives more than labels.

        Raises:
            RequestError: It does not.
        """
        if self.interface.output == "labels":
            raise RequestError(
                f"checkpoint={self.path} gives labels, not probabilities.",
                key="checkpoint",
                fix="Export it with write=logits or write=probabilities.",
            )

    def _output(self, images: Tensor) -> Tensor:
        planar = images.permute(0, 3, 1, 2)
        return self._run(planar if self.interface.input == "uint8" else network_input(planar, self.interface.scale))


def _resized(output: Tensor, size: tuple[int, int] | None, mode: str) -> Tensor:
    """Labels or probabilities [B, C, H, W], which a file gives at the size of its images, at another."""
    if size is None or size == tuple(output.shape[-2:]):
        return output
    return F.interpolate(output, size, mode=mode)
