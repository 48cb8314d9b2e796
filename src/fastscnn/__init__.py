"""Fast-SCNN: the network, its exact fused upsampling, and trained networks at work.

    from fastscnn import Segmenter

    labels = Segmenter.from_checkpoint("best.ckpt")(image)

A name is imported when it is first used: importing the package loads neither torch nor a runtime. Where timm is used,
`timm.create_model("fast_scnn")` builds the image classifier.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastscnn import _timm

if TYPE_CHECKING:
    from fastscnn.inference.segmenter import Segmenter
    from fastscnn.kernels import upsample_cross_entropy, upsample_labels, upsample_probabilities
    from fastscnn.models.fast_scnn import FastSCNN

    __version__: str

__all__ = [
    "FastSCNN",
    "Segmenter",
    "__version__",
    "upsample_cross_entropy",
    "upsample_labels",
    "upsample_probabilities",
]
_MODULES = {
    "FastSCNN": "fastscnn.models.fast_scnn",
    "Segmenter": "fastscnn.inference.segmenter",
    "upsample_cross_entropy": "fastscnn.kernels",
    "upsample_labels": "fastscnn.kernels",
    "upsample_probabilities": "fastscnn.kernels",
}

_timm.register()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    elif name == "__version__":
        from importlib import metadata  # its import takes a while

        value = metadata.version("fastscnn")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
