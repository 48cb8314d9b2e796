"""The layers of an exported graph that replace those which exporters get wrong at some sizes."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

Bins = tuple[int | None, int | None]
"""Bins along the height and the width; None keeps a side as it is."""


class BinAverages(nn.Module):
    """Adaptive average pooling to several sizes, as two matrix products for all of them.

    Exporters take `nn.AdaptiveAvgPool2d` only where the bins divide the map.

    Args:
        sizes: Bins along the height and the width of each pooling. None keeps a side as it is, in all of them.
    """

    def __init__(self, sizes: Sequence[Bins]) -> None:
        super().__init__()
        self.rows, self.columns = (_lines([size[side] for size in sizes]) for side in (0, 1))
        self.sizes = list(sizes)

    def forward(self, features: Tensor) -> list[Tensor]:
        """[B, C, h, w] to [B, C, rows, columns] of each pooling."""
        batch, channels, height, width = features.shape
        if self.columns is not None:
            # As a matrix of two dimensions: torch.export asks about sides of 1 otherwise.
            across = features.reshape(-1, width) @ self.columns(width).T
            features = across.view(batch, channels, height, len(self.columns.number))
        if self.rows is not None:
            planes = features.reshape(batch * channels, height, features.shape[3])
            down = self.rows(height).expand(batch * channels, len(self.rows.number), height)
            features = torch.bmm(down, planes).view(batch, channels, len(self.rows.number), features.shape[3])
        parts, top, left = [], 0, 0
        for rows, columns in self.sizes:
            down, across = slice(top, rows and top + rows), slice(left, columns and left + columns)
            parts.append(features[:, :, down, across])
            top, left = top + (rows or 0), left + (columns or 0)
        return parts


class LineAverages(nn.Module):
    """Averages of a line of values over several numbers of bins.

    The matrix is computed from the line's length inside the graph, so that one file serves all sizes; where the size is
    fixed it becomes a constant.

    Args:
        bins: Numbers of bins.
    """

    number: Tensor
    count: Tensor

    def __init__(self, bins: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("number", torch.tensor([[i] for n in bins for i in range(n)]))
        self.register_buffer("count", torch.tensor([[n] for n in bins for _ in range(n)]))

    def forward(self, length: int) -> Tensor:
        """The matrix that averages a line of `length` values over each number of bins; float32 [sum(bins), length]."""
        start, end = _window(self.number, self.count, length)
        place = torch.arange(length, device=self.number.device)
        inside = (place >= start) & (place < end)
        return inside.float() / (end - start).float()


def _lines(bins: Sequence[int | None]) -> LineAverages | None:
    """The averages along one side; None if it stays as it is."""
    numbers = [number for number in bins if number is not None]
    return LineAverages(numbers) if len(numbers) == len(bins) else None


class OneAverage(nn.Module):
    """`BinAverages` of one size, as a replacement of an `nn.AdaptiveAvgPool2d`."""

    def __init__(self, size: Any) -> None:
        super().__init__()
        self.averages = BinAverages([as_bins(size)])

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, h, w] to [B, C, rows, columns]."""
        averages: Tensor = self.averages(features)[0]
        return averages


class Function(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)


def as_bins(size: Any) -> Bins:
    """The output size of `nn.AdaptiveAvgPool2d` as bins along both sides."""
    rows, columns = (size, size) if size is None or isinstance(size, int) else size
    return rows, columns


def shrink(images: Tensor, side: int, scale: Fraction) -> Tensor:
    """`fastscnn.models.blocks.downscale` along one side (2 or 3), as a sum of picked rows or columns."""
    length = images.shape[side]
    count = scaled_length(length, scale)
    start, end = _window(torch.arange(count, device=images.device), count, length)
    shape = [-1 if dim == side else 1 for dim in range(4)]
    most = int(1.5 / scale) + 2  # pixels that one replaces
    total = images.new_zeros(())
    for offset in range(most):
        inside = (start + offset < end).float().view(shape)
        total = total + images.index_select(side, torch.minimum(start + offset, end - 1)) * inside
    return total / (end - start).float().view(shape)


def scaled_length(length: Any, scale: Fraction) -> Any:
    """`max(1, round(length * scale))` in whole numbers alone and without a branch.

    The length may be a symbol of the graph.
    """
    up, down = scale.numerator, scale.denominator
    twice = 2 * length * up + down
    count = twice // (2 * down)
    count = count - (1 // (twice % (2 * down) + 1)) * (count % 2)  # halves go to the even number, as round() does
    return count + 1 // (count + 1)  # at least 1


def _window(number: Tensor, count: Any, length: Any) -> tuple[Tensor, Tensor]:
    """The beginning and the end of bin `number` of `count` on a line, as in adaptive pooling."""
    start = torch.div(number * length, count, rounding_mode="floor")
    end = torch.div((number + 1) * length + count - 1, count, rounding_mode="floor")
    return start, end
