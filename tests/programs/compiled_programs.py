"""Run by test_kernels_cuda.py: compile the Triton programs for an H100, which takes no GPU."""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastscnn.kernels.cuda import labels as cuda
from fastscnn.kernels.cuda import labels_kernels as cuda_programs
from fastscnn.kernels.cuda import layers_kernels as cuda_layer_programs

POINTERS = {
    "logits": "*fp16",
    "images": "*u8",
    **dict.fromkeys(("features", "addend", "weight"), "*fp16"),
    **dict.fromkeys(("factor", "offset", "bias", "taps", "taps_bias"), "*fp32"),
}
SCALES = dict.fromkeys(("scale_y", "scale_x"), "fp32")
SHARED_MEMORY = 227 * 1024


def check(program, out, warps=4, stages=2, **constants):
    types = POINTERS | SCALES | {"out": out} | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in program.arg_names}
    kernel = triton.compile(
        ASTSource(program, signature, constants),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": warps, "num_stages": stages},
    )
    assert kernel.metadata.shared <= SHARED_MEMORY


def main():
    def tile(sizes):
        return {"ROWS": sizes[0], "COLUMNS": sizes[1], "warps": sizes[2]}

    label = tile(cuda.LABEL_TILE)
    check(cuda_programs.labels_program, "*u8", CHUNK=32, NEAR=64, NEAR_COLUMNS=18, stride_class=1, **label)
    check(cuda_programs.labels_program, "*u8", CHUNK=32, NEAR=0, NEAR_COLUMNS=1, **label)
    check(cuda_programs.probabilities_program, "*fp32", CHUNK=32, **tile(cuda.TILE))
    many = cuda_programs.probabilities_of_many_program
    check(many, "*fp32", CHUNK=cuda.CHUNK_OF_MANY, **tile(cuda.TILE_OF_MANY))

    relu = float("inf")
    square = {"TILE_ROWS": 8, "TILE_COLUMNS": 8}
    check(cuda_layer_programs.stem_program, "*fp16", OUTPUTS=32, TILE_ROWS=8, TILE_COLUMNS=16, HIGHEST=6.0)
    check(
        cuda_layer_programs.pointwise_program,
        "*fp32",
        stages=3,
        PIXELS=128,
        OUTPUTS=64,
        INPUTS=64,
        ADDS=True,
        HIGHEST=relu,
    )
    check(
        cuda_layer_programs.depthwise_pointwise_program,
        "*fp16",
        STRIDE=1,
        DILATION=4,
        OUTPUTS=128,
        INPUTS=32,
        ADDS=True,
        HIGHEST_BETWEEN=relu,
        HIGHEST=0.0,
        **square,
    )


if __name__ == "__main__":
    sys.exit(main())
