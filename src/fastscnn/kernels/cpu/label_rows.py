"""The two inner loops of the labels, written in vectors of the compiler's own: what wins stays in registers.

A loop over pixels that numba compiles passes the highest blend and its class through the first-level cache for every
class; here they stay in registers until the last class is compared. On processors with AVX-512 the vectors are whole
registers, which numba's own loops do not use; elsewhere the compiler splits them.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES, VECTORS = 16, 2
GROUP = LANES * VECTORS
"""Pixels that `label_row` computes at a time."""
SCALE = 8
"""The scale of `expand_row`: the output stride of the network."""

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_CONTRACT = ["contract"]


def _splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """A vector that holds one value everywhere."""
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
    zeros = ir.Constant(ir.VectorType(_INT, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def _weighted(builder: ir.IRBuilder, shares: Sequence[ir.Value], values: Sequence[ir.Value]) -> ir.Value:
    """The sum of products, from the first to the last."""
    total = builder.fmul(shares[0], values[0], flags=_CONTRACT)
    for share, value in zip(shares[1:], values[1:], strict=True):
        total = builder.fadd(total, builder.fmul(share, value, flags=_CONTRACT), flags=_CONTRACT)
    return total


@intrinsic
def label_row(
    typing: Any,
    upper: Any,
    lower: Any,
    stride: Any,
    classes: Any,
    count: Any,
    high: Any,
    low: Any,
    out: Any,
    groups: Any,
) -> Any:
    """The class whose blend of two rows is the highest, the first of equal ones, for each pixel of a row.

    Args: the addresses of the upper and the lower rows, float32 [C, stride], and that stride; the address of the
    classes to compare, int64, and how many there are, at least one; the shares of the upper and the lower row; the
    address of the labels, uint8, and the number of groups of `GROUP` pixels.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        upper, lower, stride, classes, count, high, low, out, groups = arguments
        word = stride.type
        floats, ints = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
        labels = ir.VectorType(ir.IntType(8), LANES)
        shares = [_splat(builder, share, LANES) for share in (high, low)]
        names = builder.inttoptr(classes, word.as_pointer())
        highest = [cgutils.alloca_once(builder, floats) for _ in range(VECTORS)]  # type: ignore[no-untyped-call]
        winner = [cgutils.alloca_once(builder, ints) for _ in range(VECTORS)]  # type: ignore[no-untyped-call]

        def each(index: ir.Value, group: ir.Value) -> tuple[ir.Value, list[ir.Value]]:
            """The class of an index, and the blends of its pixels."""
            c = builder.load(builder.gep(names, [index]))
            first = builder.add(builder.mul(c, stride), builder.mul(group, ir.Constant(word, GROUP)))
            blends = []
            for j in range(VECTORS):
                place = builder.mul(builder.add(first, ir.Constant(word, j * LANES)), ir.Constant(word, 4))
                rows = [builder.inttoptr(builder.add(row, place), floats.as_pointer()) for row in (upper, lower)]
                blends.append(_weighted(builder, shares, [builder.load(row, align=4) for row in rows]))
            return _splat(builder, builder.trunc(c, _INT), LANES), blends

        with cgutils.for_range(builder, groups) as group:
            name, blends = each(ir.Constant(word, 0), group.index)
            for j in range(VECTORS):
                builder.store(blends[j], highest[j])
                builder.store(name, winner[j])
            with cgutils.for_range(builder, builder.sub(count, ir.Constant(word, 1))) as other:
                name, blends = each(builder.add(other.index, ir.Constant(word, 1)), group.index)
                for j in range(VECTORS):
                    best = builder.load(highest[j])
                    better = builder.fcmp_ordered(">", blends[j], best)
                    builder.store(builder.select(better, blends[j], best), highest[j])
                    builder.store(builder.select(better, name, builder.load(winner[j])), winner[j])
            for j in range(VECTORS):
                place = builder.add(builder.mul(group.index, ir.Constant(word, GROUP)), ir.Constant(word, j * LANES))
                target = builder.inttoptr(builder.add(out, place), labels.as_pointer())
                builder.store(builder.trunc(builder.load(winner[j]), labels), target, align=1)
        return context.get_dummy_value()

    address, share = types.intp, types.float32
    return types.void(address, address, types.intp, address, types.intp, share, share, address, types.intp), generate


@intrinsic
def expand_row(typing: Any, line: Any, out: Any, count: Any) -> Any:
    """Interpolate a row to eight times its width, half-pixel centres.

    Args: the address of the values with a neighbour at each end, float32 [count + 2]; that of the output, float32
    [8 count]; and count.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line, out, count = arguments
        eight = ir.VectorType(_FLOAT, SCALE)
        # The first four outputs of a value lie between the one before and itself, the others between it and the next.
        far = [0.5 - (phase + 0.5) / SCALE for phase in range(SCALE // 2)]
        before, after = [*far, *[0.0] * len(far)], [*[0.0] * len(far), *reversed(far)]
        own = [1 - b - a for b, a in zip(before, after, strict=True)]
        shares = [ir.Constant(eight, [ir.Constant(_FLOAT, value) for value in part]) for part in (before, own, after)]
        source = builder.inttoptr(line, _FLOAT.as_pointer())
        target = builder.inttoptr(out, eight.as_pointer())
        with cgutils.for_range(builder, count) as loop:
            places = [builder.add(loop.index, ir.Constant(count.type, j)) for j in range(3)]
            values = [_splat(builder, builder.load(builder.gep(source, [place])), SCALE) for place in places]
            builder.store(_weighted(builder, shares, values), builder.gep(target, [loop.index]), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate
