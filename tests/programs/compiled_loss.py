"""Run by test_loss_cuda.py: compile the Triton programs of the loss for an H100, which takes no GPU."""

import collections
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastscnn.kernels.cuda import loss as cuda_loss
from fastscnn.kernels.cuda import loss_kernels as cuda_loss_programs
from fastscnn.kernels.cuda import sums_kernels

TYPES = {
    **dict.fromkeys(("logits", "weight", "difficulty", "threshold", "corners", "gradient"), "*fp32"),
    "sums": "*fp64",
    "smoothing": "fp32",
    **dict.fromkeys(("chosen", "counts"), "*i32"),
}
SWITCHES = ("WEIGHS", "SMOOTHS", "JUDGES", "CHOOSES", "DERIVES")


def compiled(program, types, warps, constants, **options):
    types = TYPES | types | dict.fromkeys(constants, "constexpr")
    return triton.compile(
        ASTSource(program, {name: types.get(name, "i32") for name in program.arg_names}, constants),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": warps, **options},
    )


def body_of_innermost_loop(kernel):
    """How often each instruction stands in the first loop that ends, the one over the pixels of a row."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        dump = [tool, "-sass", file.name]
        listing = subprocess.run(dump, capture_output=True, text=True, check=True, timeout=120).stdout
    found = [(int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", listing)]
    for at, text in found:
        jump = re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)
        if jump and int(jump[1], 16) < at:
            body = [
                re.sub(r"^@\S+ ", "", line).split(".")[0].split()[0] for a, line in found if int(jump[1], 16) <= a <= at
            ]
            return collections.Counter(body)
    raise AssertionError("no loop")


def check(labels, classes, *on):
    """Compile the loss, with what it does not read left out, as a launch leaves it out."""
    first, second = cuda_loss._parts(classes)
    sizes = {"FIRST": first, "SECOND": second, "CELLS": cuda_loss._cells(classes), "NVIDIA": True}
    switches = {name: name in on for name in SWITCHES}
    read = {
        "weight": "WEIGHS" in on,
        "difficulty": "JUDGES" in on or "CHOOSES" in on,
        "threshold": "CHOOSES" in on,
        "corners": "DERIVES" in on,
    }
    absent = {name: None for name, wanted in read.items() if not wanted}
    constants = sizes | switches | absent
    return compiled(cuda_loss_programs.loss_program, {"labels": labels}, 1, constants)


def main():
    kernel = check("*u8", 19, "DERIVES")
    assert "atom" not in kernel.asm["ptx"]
    pixel = body_of_innermost_loop(kernel)
    assert not {"STL", "STS", "SHFL", "BAR"} & pixel.keys(), "the values of a pixel stay in their thread"
    assert pixel["MUFU"] <= 23, "an exponential for each class, a logarithm and a division"
    check("*i64", 19, "DERIVES", "WEIGHS", "SMOOTHS", "CHOOSES")
    check("*u8", 19, "WEIGHS", "JUDGES")
    check("*u8", 256, "DERIVES")
    check("*u8", 1, "DERIVES")
    compiled(sums_kernels.gather_program, {}, 4, {"BLOCK": cuda_loss.GATHERED})
    digits = {"BLOCK": cuda_loss.BLOCK, "DIGITS": cuda_loss.DIGITS}
    for shift in cuda_loss.SHIFTS:
        compiled(sums_kernels.digits_program, {}, 4, digits | {"SHIFT": shift})


if __name__ == "__main__":
    sys.exit(main())
