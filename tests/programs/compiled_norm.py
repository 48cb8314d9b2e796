"""Run by test_norm_cuda.py: compile the Triton programs of BatchNorm for an H100, which takes no GPU."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
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
REGISTERS = 80
"""Of a thread, so that six blocks of four warps fit into a multiprocessor."""


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


def resources(kernel):
    """Registers of a thread, and bytes that did not find room in them."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [tool, "--dump-resource-usage", file.name]
        listing = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", listing)}
    return found["REG"], found["STACK"] + found["LOCAL"]


def main():
    for channels, dtype, highest in ((384, "bf16", 6.0), (32, "fp32", float("inf"))):
        constants = cuda_norm.shares(12 * 64 * 128, channels).constants()
        for name in ("statistics_program", "normalise_program", "sums_program", "derive_program"):
            activates = {} if name == "statistics_program" else {"HIGHEST": highest}
            kernel = compiled(name, dtype, **constants, **activates)
            registers, spilled = resources(kernel)
            print(f"{name:20} {dtype} {registers:4} registers, {kernel.metadata.shared} bytes shared")
            assert spilled == 0 and registers <= REGISTERS, f"{name}: {registers} registers, {spilled} bytes spilled"
            for moves in ("ld", "st") if "out" in kernel.src.signature else ("ld",):
                assert re.search(rf"{moves}\.global\S*\.v4\.b32", kernel.asm["ptx"]), f"{name}: not 16 bytes at a time"
            assert "atom" not in kernel.asm["ptx"]
    together = {"SPLITS": cuda_norm.PARTS[0], "CHANNELS": cuda_norm.PARTS[1]}
    for cumulative in (False, True):
        kernel = compiled("moments_program", "bf16", ROWS=64, CUMULATIVE=cumulative, **together)
        assert resources(kernel)[1] == 0
    assert resources(compiled("affine_program", "bf16", **together))[1] == 0


if __name__ == "__main__":
    sys.exit(main())
