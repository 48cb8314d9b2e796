"""Run by test_norm_cuda.py: compile the Triton programs of BatchNorm for an H100, which takes no GPU."""

import re
import sys

import triton
from resources import check_registers
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastscnn.kernels.cuda import norm as cuda_norm
from fastscnn.kernels.cuda import norm_kernels as programs

FLOATS = ("mean", "inverse", "weight", "bias", "parts", "running_mean", "running_variance")
TYPES = {
    **dict.fromkeys((*FLOATS, "weight_gradient", "bias_gradient"), "*fp32"),
    **dict.fromkeys(("eps", "momentum"), "fp32"),
    "tracked": "*i64",
}
MULTIPLES = ("channels", "stride")
BLOCKS = 6
"""That fit into a multiprocessor, so that enough loads are under way."""


def compiled(name, dtype, **constants):
    """A program as a launch on a GPU has it: memory and counts of channels are multiples of 16."""
    program = getattr(programs, name)
    warps = constants.pop("num_warps", 4)
    types = TYPES | dict.fromkeys(("features", "gradient", "out"), f"*{dtype}") | dict.fromkeys(constants, "constexpr")
    signature = {argument: types.get(argument, "i32") for argument in program.arg_names}
    whole = [argument for argument, kind in signature.items() if kind.startswith("*") or argument in MULTIPLES]
    aligned = {(program.arg_names.index(argument),): [["tt.divisibility", 16]] for argument in whole}
    return triton.compile(
        ASTSource(program, signature, constants, aligned),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": warps},
    )


def main():
    for channels, dtype, highest in ((384, "bf16", 6.0), (32, "fp32", float("inf"))):
        constants = cuda_norm.shares(12 * 64 * 128, channels).constants()
        for name in ("statistics_program", "normalise_program", "sums_program", "derive_program"):
            activates = {} if name == "statistics_program" else {"HIGHEST": highest}
            kernel = compiled(name, dtype, **constants, **activates)
            check_registers(kernel, BLOCKS)
            for moves in ("ld", "st") if "out" in kernel.src.signature else ("ld",):
                assert re.search(rf"{moves}\.global\S*\.v4\.b32", kernel.asm["ptx"]), f"{name}: not 16 bytes at a time"
            assert "atom" not in kernel.asm["ptx"]
    together = {"SPLITS": cuda_norm.PARTS[0], "CHANNELS": cuda_norm.PARTS[1]}
    for cumulative in (False, True):
        check_registers(compiled("moments_program", "bf16", ROWS=64, CUMULATIVE=cumulative, **together), 1)
    check_registers(compiled("affine_program", "bf16", **together), 1)


if __name__ == "__main__":
    sys.exit(main())
