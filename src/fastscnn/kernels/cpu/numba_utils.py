"""What the CPU kernels are made of: functions that vectorise, and the threads that run them."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fastscnn.utils.compiling import compiled

ONE, ZERO, HALF, SMALLEST = np.float32(1), np.float32(0), np.float32(0.5), np.float32(-126)
LOG2_E = np.float32(1.4426950408889634)
# 2**f on -0.5 to 0.5, interpolated at Chebyshev's nodes: a relative error of 1e-7.
C0, C1, C2, C3, C4, C5 = (
    np.float32(c) for c in (1.00000008, 0.69314721, 0.24022107, 0.05550327, 0.00967604, 0.00134004)
)

# (ln(1 + x) - x + x**2 / 2) / x**3 from 0.7071 - 1 to 1.4142 - 1, as in the Cephes library's logf.
L0, L1, L2, L3, L4, L5, L6, L7, L8 = (
    np.float32(c)
    for c in (
        3.3333331174e-1,
        -2.4999993993e-1,
        2.0000714765e-1,
        -1.6668057665e-1,
        1.4249322787e-1,
        -1.2420140846e-1,
        1.1676998740e-1,
        -1.1514610310e-1,
        7.0376836292e-2,
    )
)
ROOT_HALF_BITS = 0x3F3504F3


@intrinsic
def _two_to_the(typing: Any, exponent: Any) -> Any:
    """2 to an integer power from -126 to 127, by setting the bits of the exponent: int32 to float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = ir.IntType(32)
        bits = builder.shl(builder.add(arguments[0], ir.Constant(integer, 127)), ir.Constant(integer, 23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.int32), generate


@compiled
def exp2(power: np.float32) -> Any:
    """2 to a power from -126 to 127, float32; a loop over it vectorises."""
    whole = np.rint(power)
    f = power - whole
    return (C0 + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * C5))))) * _two_to_the(np.int32(whole))  # type: ignore[call-arg]


def power_of_two(power: Any) -> Any:
    """2 to a power, in the type of the power: float32 as `exp2`, or float64."""
    raise NotImplementedError("for compiled functions")


@overload(power_of_two, strict=False)
def _power_of_two(power: Any) -> Callable[..., Any]:
    return (lambda power: exp2(power)) if power == types.float32 else (lambda power: np.exp2(power))


@intrinsic
def _exponent(typing: Any, value: Any) -> Any:
    """The integer e for which a positive number is 2^e times 0.7071 to 1.4142: float32 to float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = ir.IntType(32)
        beyond = builder.sub(builder.bitcast(arguments[0], integer), ir.Constant(integer, ROOT_HALF_BITS))
        return builder.sitofp(builder.ashr(beyond, ir.Constant(integer, 23)), ir.FloatType())

    return types.float32(types.float32), generate


@intrinsic
def _mantissa(typing: Any, value: Any) -> Any:
    """A positive number divided by that power of two: 0.7071 to 1.4142; float32 to float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = ir.IntType(32)
        bits = builder.bitcast(arguments[0], integer)
        beyond = builder.sub(bits, ir.Constant(integer, ROOT_HALF_BITS))
        power = builder.and_(beyond, ir.Constant(integer, -(1 << 23)))
        return builder.bitcast(builder.sub(bits, power), ir.FloatType())

    return types.float32(types.float32), generate


@compiled
def _log2(value: np.float32) -> Any:
    """Logarithm to base 2 of a positive normal number, float32, within 1e-7; a loop over it vectorises."""
    x = _mantissa(value) - ONE  # type: ignore[call-arg]
    p = L0 + x * (L1 + x * (L2 + x * (L3 + x * (L4 + x * (L5 + x * (L6 + x * (L7 + x * L8)))))))
    return _exponent(value) + LOG2_E * (x + x * x * (x * p - HALF))


def log2(value: Any) -> Any:
    """Logarithm to base 2 of a positive normal number, in its own type: float32 or float64."""
    raise NotImplementedError("for compiled functions")


@overload(log2, strict=False)
def _log2_of(value: Any) -> Callable[..., Any]:
    return (lambda value: _log2(value)) if value == types.float32 else (lambda value: np.log2(value))


@intrinsic
def quotient(typing: Any, dividend: Any, divisor: Any) -> Any:
    """Quotient of two numbers of one type, without the check for zero of `/`; a loop over it vectorises."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fdiv(*arguments)

    return dividend(dividend, divisor), generate


@intrinsic
def stream_product(typing: Any, first: Any, second: Any, out: Any, eights: Any) -> Any:
    """Multiply two rows of float32 with non-temporal stores: the output is not read into the caches first.

    Args: the addresses of the rows, that of the output a multiple of 32; and the number of groups of eight values.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), 8)
        one, other, target = (builder.inttoptr(address, vector.as_pointer()) for address in arguments[:3])
        non_temporal = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        with cgutils.for_range(builder, arguments[3]) as loop:
            values = [builder.load(builder.gep(row, [loop.index]), align=4) for row in (one, other)]
            store = builder.store(builder.fmul(*values), builder.gep(target, [loop.index]), align=32)
            store.set_metadata("nontemporal", non_temporal)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), generate


def parallel(function: Callable[..., Any], jobs: Iterable[Any]) -> list[Any]:
    """Call a function on each job, on as many threads as torch has; results in the order of the jobs."""
    threads = torch.get_num_threads()
    if threads == 1:
        return [function(job) for job in jobs]
    return list(_pool(threads, os.getpid()).map(function, jobs))


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """The threads of a process: a forked process does not have its parent's."""
    return ThreadPoolExecutor(threads)
