"""Run by test_loss_cuda.py: compile the Triton programs of the loss for an H100, which takes no GPU."""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastscnn.kernels.cuda import loss as cuda_loss
from fastscnn.kernels.cuda import loss_kernels as cuda_loss_programs

TYPES = {
    **dict.fromkeys(("weight", "difficulty", "threshold", "gradient", "sums"), "*fp32"),
    **dict.fromkeys(("scale_y", "scale_x", "smoothing"), "fp32"),
    **dict.fromkeys(("chosen", "counts"), "*i32"),
}
SWITCHES = ("WEIGHS", "SMOOTHS", "JUDGES", "CHOOSES", "DERIVES", "ADDS")


def compiled(program, types, warps, constants):
    types = TYPES | types | dict.fromkeys(constants, "constexpr")
    return triton.compile(
        ASTSource(program, {name: types.get(name, "i32") for name in program.arg_names}, constants),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": warps},
    )


def check(logits, labels, classes, *on):
    """Compile the loss, with what it does not read left out, as a launch leaves it out."""
    sizes = {"CHUNK": classes, "CELLS": min(cuda_loss.CELLS, cuda_loss.VALUES // classes)}
    switches = {name: name in on for name in SWITCHES}
    read = {
        "weight": "WEIGHS" in on,
        "difficulty": "JUDGES" in on or "CHOOSES" in on,
        "threshold": "CHOOSES" in on,
        "gradient": "DERIVES" in on,
    }
    absent = {name: None for name, wanted in read.items() if not wanted}
    constants = sizes | switches | absent | {"STEP": 2 if "DERIVES" in on else 1}
    return compiled(cuda_loss_programs.loss_program, {"logits": logits, "labels": labels}, 1, constants)


def main():
    kernel = check("*bf16", "*u8", 32, "DERIVES", "ADDS")
    assert kernel.metadata.shared == 0, "no value of a pixel leaves its warp's registers"
    assert "atom" not in kernel.asm["ptx"]
    check("*fp32", "*i64", 32, "DERIVES", "WEIGHS", "SMOOTHS", "CHOOSES", "ADDS")
    check("*fp16", "*u8", 32, "WEIGHS", "JUDGES")
    check("*fp32", "*u8", 256, "DERIVES")
    check("*fp32", "*u8", 1, "DERIVES")
    digits = {"BLOCK": cuda_loss.BLOCK, "DIGITS": cuda_loss.DIGITS}
    for shift in cuda_loss.SHIFTS:
        compiled(cuda_loss_programs.digits_program, {}, 4, digits | {"SHIFT": shift})


if __name__ == "__main__":
    sys.exit(main())
