"""Triton's interpreter, without what it does in vain: imported first by the programs that run with TRITON_INTERPRET=1.

At each call of a helper it looks through the whole language for what to replace, which the launch has replaced already.
At each operation of whole numbers it computes whether it overflows, and forgets the answer outside of Triton's debug
mode. Together they take more than half of its time. And it cuts numbers off where they become bfloat16, which a GPU
rounds to the nearest even one.
"""

import dataclasses
import inspect

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

replaced: set[str] = set()
"""Names of the modules of the language that the launch has replaced."""
seen_by: dict[str, set[str]] = {}
"""Name of a helper's module to the modules of the language that it sees."""


def launched(self, *args, **kwargs):
    replaced.clear()
    return launch(self, *args, **kwargs)


def replace_once(function):
    if function.__module__ not in seen_by:
        modules = [value for value in function.__globals__.values() if inspect.ismodule(value)]
        seen_by[function.__module__] = {module.__name__ for module in modules if module in (tl, tl.core)}
    new = seen_by[function.__module__] - replaced
    replaced.update(new)
    return replace(function) if new else None


def cast_rounding(self, source, kind):
    pair = source.dtype.scalar, kind.scalar
    if pair == (tl.float32, tl.bfloat16):
        bits = np.ascontiguousarray(source.data).view(np.uint32).astype(np.uint64)
        nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        data = np.where(bits & 0x7FFFFFFF > 0x7F800000, 0x7FC0, nearest).astype(np.uint16)
    elif pair == (tl.bfloat16, tl.float32):
        data = (np.ascontiguousarray(source.data).astype(np.uint32) << 16).view(np.float32)
    else:
        return cast(self, source, kind)
    return interpreter.TensorHandle(data.reshape(source.data.shape), kind.scalar)


if hasattr(interpreter.InterpreterBuilder, "cast_impl"):
    cast, interpreter.InterpreterBuilder.cast_impl = interpreter.InterpreterBuilder.cast_impl, cast_rounding
if hasattr(interpreter, "_patch_lang"):  # no other version of Triton was looked at
    launch, replace = interpreter.GridExecutor.__call__, interpreter._patch_lang
    interpreter.GridExecutor.__call__, interpreter._patch_lang = launched, replace_once
options = interpreter.interpreter_builder.options
if getattr(options, "sanitize_overflow", False) and not options.debug:
    interpreter.interpreter_builder.options = dataclasses.replace(options, sanitize_overflow=False)
