"""Run by test_batch_crop_cuda.py: compile the Triton program for an H100, which takes no GPU."""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastscnn.data.datasets.classes import IGNORE_INDEX
from fastscnn.data.transforms import crop_kernels
from fastscnn.data.transforms.batch_crop import BLOCK, FIELDS, ONE

TYPES = {"pixels": "*u8", "fields": "*i64", "places": "*i32", "images": "*u8", "labels": "*u8"}


def main():
    constants = {"FIELDS": FIELDS, "ONE": ONE, "FILL_LABEL": IGNORE_INDEX, "BLOCK": BLOCK}
    types = TYPES | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in crop_kernels.crop_program.arg_names}
    kernel = triton.compile(
        ASTSource(crop_kernels.crop_program, signature, constants),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": 4},
    )
    print(kernel.metadata)


if __name__ == "__main__":
    sys.exit(main())
