"""Images of sizes that are whole on the coarsest feature map, for a network that knows no others.

Fast-SCNN computes its global features at 1/32 of what it sees, and resizes them to its fine ones at 1/8. Where a side
is no multiple of 32, the last coarse pixel is partly beyond the image, and resizing moves all of them against the fine
ones: a network that was trained on multiples of 32 has not learned that (`results/unaligned_sizes.md`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

TRAINED_AT = "trained_at"
"""Key of a `resolution` that is another than the training's: the scale of that."""
COARSEST = 32
"""Pixels of what Fast-SCNN sees, along a side, to one of its coarsest feature map."""


def padding_multiple(config: Mapping[str, Any]) -> int:
    """What height and width of images are padded to multiples of; 1 if they are not.

    They are for Fast-SCNN where all crops that it was trained on were such multiples.

    Args:
        config: Of the training: `model`, `data` and `resolution`.
    """
    data, resolution = config.get("data", {}), config.get("resolution", {})
    scale = float(resolution.get("scale", 1.0))
    crop = data.get("crop_size")
    if isinstance(crop, str):
        crop = data.get("frame_size")
    multiple = COARSEST / scale
    if config.get("model", {}).get("name") != "fast_scnn" or not _is_size(crop) or multiple != int(multiple):
        return 1
    trained_at = float(resolution.get(TRAINED_AT, scale))
    return int(multiple) if all(side * trained_at % COARSEST == 0 for side in crop) else 1


def padded(images: Tensor, multiple: int, value: int | None = None) -> Tensor:
    """Images [B, 3, H, W] or labels [B, H, W] with more rows and columns at the bottom and at the right.

    Args:
        images: Of any type.
        multiple: Of height and width of what comes back.
        value: Of the new pixels; None repeats the last row and column.
    """
    height, width = images.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not down and not right:
        return images
    if value is not None:
        return torch.nn.functional.pad(images, (0, right, 0, down), value=value)
    rows, columns = (
        torch.arange(side + more, device=images.device).clamp(max=side - 1)
        for side, more in ((height, down), (width, right))
    )
    return images.index_select(-2, rows).index_select(-1, columns)


def _is_size(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(isinstance(side, int) for side in value)
