"""Run by test_depthwise_training_cuda.py: compile the Triton programs for an H100, which takes no GPU."""

import re
import sys

import triton
from resources import check_registers
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastscnn.kernels.cuda import depthwise_training as cuda_depthwise
from fastscnn.kernels.cuda import depthwise_training_kernels as programs


def compiled(name, dtype, **constants):
    """A program as a launch on a GPU has it: memory and channels are multiples of 16."""
    program = getattr(programs, name)
    warps = constants.pop("num_warps", 4)
    types = dict.fromkeys(("features", "gradient"), f"*{dtype}") | dict.fromkeys(("weight", "parts"), "*fp32")
    types |= {"out": "*fp32" if name == "together_program" else f"*{dtype}"} | dict.fromkeys(constants, "constexpr")
    signature = {argument: types.get(argument, "i32") for argument in program.arg_names}
    whole = [argument for argument, kind in signature.items() if kind.startswith("*") or argument == "channels"]
    aligned = {(program.arg_names.index(argument),): [["tt.divisibility", 16]] for argument in whole}
    return triton.compile(
        ASTSource(program, signature, constants, aligned),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": warps},
    )


def main():
    tiles = cuda_depthwise.shares(12, 384, 64, 128).constants()
    for name, dtype, constants in (
        ("convolve_program", "bf16", {"STRIDE": 1, "DILATION": 4, "FLIPS": True}),
        ("convolve_program", "fp32", {"STRIDE": 2, "DILATION": 1, "FLIPS": False}),
        ("spread_program", "bf16", {}),
        ("weight_gradient_program", "bf16", {"STRIDE": 1, "DILATION": 1}),
        ("weight_gradient_program", "fp32", {"STRIDE": 2, "DILATION": 1}),
    ):
        kernel = compiled(name, dtype, **constants, **tiles)
        check_registers(kernel, 3 if name == "weight_gradient_program" else 4)
        for moves in ("ld", "st") if "out" in kernel.src.signature else ("ld",):
            assert re.search(rf"{moves}\.global\S*\.v4\.b32", kernel.asm["ptx"]), f"{name}: not 16 bytes at a time"
        assert "atom" not in kernel.asm["ptx"]
    together = {"SPLITS": cuda_depthwise.PARTS[0], "SUMS": cuda_depthwise.PARTS[1]}
    check_registers(compiled("together_program", "bf16", **together), 1)


if __name__ == "__main__":
    sys.exit(main())
