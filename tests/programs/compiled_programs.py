"""Run by test_kernels_cuda.py: compile the Triton programs for an H100, which takes no GPU.

First, tensors on the CPU are computed without importing a Triton program.
"""

# ruff: noqa: E402

import sys

import torch

from fastscnn.kernels import upsample_labels
from fastscnn.kernels.cuda import labels as cuda

upsample_labels(torch.zeros(1, 2, 3, 4), (6, 8))
assert not cuda.applies(torch.zeros(1, 2, 3, 4))
assert "fastscnn.kernels.cuda.labels_kernels" not in sys.modules

import triton
from resources import check_registers
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastscnn.kernels.cuda import depthwise, separable
from fastscnn.kernels.cuda import depthwise_kernels as depthwise_programs
from fastscnn.kernels.cuda import labels_kernels as cuda_programs
from fastscnn.kernels.cuda import layers_kernels as cuda_layer_programs
from fastscnn.kernels.cuda import pyramid_kernels as pyramid_programs
from fastscnn.kernels.cuda import separable_kernels as separable_programs
from fastscnn.kernels.cuda.choice import AFTER, EARLY, LATE, Choice, chosen

POINTERS = {
    "logits": "*fp16",
    "images": "*u8",
    **dict.fromkeys(("features", "addend", "weight", "beside", "beside_weight", "head"), "*fp16"),
    **dict.fromkeys(("factor", "offset", "bias", "head_bias", "taps", "taps_bias", "partial"), "*fp32"),
    **dict.fromkeys(("shares", "context", "reduce", "reduce_bias", "spread"), "*fp32"),
    **dict.fromkeys(("arrivals", "bounds", "table"), "*i32"),
}
SCALES = dict.fromkeys(("scale_y", "scale_x"), "fp32")
MULTIPLES = (
    "inputs",
    "outputs",
    "channels",
    "height",
    "width",
    "out_height",
    "out_width",
    "reduced",
    "pixels",
    "beside_inputs",
)
SHARED_MEMORY = 227 * 1024


def check(program, out, options=None, warps=4, stages=2, **constants):
    types = POINTERS | SCALES | {"out": out} | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in program.arg_names}
    # As a launch on a GPU has them: memory and counts of channels are multiples of 16.
    whole = [name for name, kind in signature.items() if kind.startswith("*") or name in MULTIPLES]
    aligned = {(program.arg_names.index(name),): [["tt.divisibility", 16]] for name in whole}
    kernel = triton.compile(
        ASTSource(program, signature, constants, aligned),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": warps, "num_stages": stages, **(options or {})},
    )
    assert kernel.metadata.shared <= SHARED_MEMORY
    found = [line.split()[0] for line in kernel.asm["ptx"].splitlines() if line.strip().startswith("griddepcontrol")]
    begins, waits = "griddepcontrol.launch_dependents", "griddepcontrol.wait"
    expected = {AFTER: [], EARLY: [begins, waits], LATE: [waits, begins]}
    assert [name.rstrip(";") for name in found] == expected[constants.get("OVERLAPS", AFTER)]
    return kernel


def sizes_of(form):
    return dict(zip(("TILE_ROWS", "TILE_COLUMNS", "INPUTS", "warps"), form[1:], strict=True))


def main():
    def tile(sizes):
        return {"ROWS": sizes[0], "COLUMNS": sizes[1], "warps": sizes[2]}

    label = tile(Choice().label_tile)
    for whole in (True, False):
        near = {"NEAR": 32, "NEAR_COLUMNS": 10, "WHOLE": whole, "OVERLAPS": EARLY}
        check(cuda_programs.labels_program, "*u8", {"launch_pdl": True}, CHUNK=32, stride_class=1, **near, **label)
    check(
        cuda_programs.labels_program,
        "*u8",
        CHUNK=32,
        NEAR=0,
        NEAR_COLUMNS=1,
        WHOLE=True,
        OVERLAPS=AFTER,
        **label,
    )
    check(cuda_programs.probabilities_program, "*fp32", CHUNK=32, **tile(cuda.TILE))
    many = cuda_programs.probabilities_of_many_program
    check(many, "*fp32", CHUNK=cuda.CHUNK_OF_MANY, **tile(cuda.TILE_OF_MANY))

    relu = float("inf")
    options = {"launch_pdl": True}
    check(
        cuda_layer_programs.stem_program,
        "*fp16",
        options,
        OUTPUTS=32,
        TILE_ROWS=8,
        TILE_COLUMNS=16,
        HIGHEST=6.0,
        PRECISION="tf32x3",
        OVERLAPS=EARLY,
    )
    check(pyramid_programs.upsample_program, "*fp16", options, PIXELS=16, CHANNELS=128, OVERLAPS=EARLY)
    sizes = {"PIXELS": 128, "OUTPUTS": 64, "INPUTS": 64, "HIGHEST": relu, "PRECISION": "tf32x3"}
    check(cuda_layer_programs.pointwise_program, "*fp32", options, stages=3, ADDS=True, OVERLAPS=EARLY, **sizes)
    check(
        depthwise_programs.depthwise_program,
        "*fp16",
        options,
        **sizes_of(depthwise.form_of(64 * 128, 384, 1, 1)),
        STRIDE=1,
        DILATION=4,
        HIGHEST=relu,
        OVERLAPS=EARLY,
    )
    for pixels, inputs, stride, dilation in ((32 * 64, 768, 1, 4), (16 * 32, 384, 2, 1)):
        with chosen(Choice(walks=True)):
            form = depthwise.form_of(pixels, inputs, stride, dilation)
        kernel = check(
            depthwise_programs.depthwise_rows_program,
            "*fp16",
            options,
            **sizes_of(form),
            STRIDE=stride,
            DILATION=dilation,
            HIGHEST=relu,
            OVERLAPS=LATE,
        )
        before, after = kernel.asm["ptx"].split("griddepcontrol.wait")
        rows = stride * (form.rows - 1) + 3
        assert form.walks and after.count("ld.global") == 3 * rows, "each thread has one column of the tile"
        assert before.count("ld.global") >= 10, "taps and bias are loaded before the launch before has ended"
        check_registers(kernel, 5)
    for apart, pixels, inputs, dilation, beside, head in (
        (False, 512 * 1024, 48, 1, 0, 0),
        (False, 128 * 256, 128, 4, 32, 0),
        (False, 128 * 256, 128, 1, 0, 32),
        (False, 16 * 32, 768, 1, 0, 32),
        (True, 128 * 256, 128, 1, 32, 0),
        (True, 128 * 256, 128, 1, 0, 32),
        (True, 64 * 128, 384, 1, 0, 0),
        (True, 16 * 32, 768, 1, 0, 32),
    ):
        shares = (separable.product_shares if apart else separable.filter_shares)(pixels, inputs)
        limited = {"maxnreg": separable.REGISTERS} if shares.block == 64 and not apart else {}
        kernel = check(
            separable_programs.depthwise_pointwise_program,
            "*fp16",
            options | limited,
            stages=shares.stages,
            warps=shares.warps,
            STRIDE=1,
            DILATION=dilation,
            TILE_ROWS=8 if shares.block == 64 else 4,
            TILE_COLUMNS=shares.block // (8 if shares.block == 64 else 4),
            OUTPUTS=128,
            INPUTS=shares.chunk,
            FILTERS=not apart,
            SHARES=shares.splits > 1,
            BESIDE=beside,
            HEAD=head,
            ADDS=not beside,
            HIGHEST_BETWEEN=relu,
            HIGHEST=0.0,
            PRECISION="tf32x3",
            OVERLAPS=EARLY,
        )
        if apart and not head and shares.splits == 1:
            after = kernel.asm["ptx"].rpartition("wgmma.wait_group")[2]
            assert "ld.global" not in after, "once the products are there, nothing waits for memory"
        assert shares.block < 64 or kernel.metadata.shared <= SHARED_MEMORY // (2 if apart else 4), "several fit"
    common = {"PLACES": 64, "PRECISION": "tf32x3", "OVERLAPS": EARLY}
    check(pyramid_programs.pool_program, None, options, warps=8, PIXELS=64, CHANNELS=32, **common)
    context = {"SPLITS": 16, "INPUTS": 128, "REDUCED": 128, "OUTPUTS": 128, "HIGHEST": relu, "OVERLAPS": EARLY}
    check_registers(check(pyramid_programs.context_program, None, options, warps=8, **context), 1)
    check(
        pyramid_programs.project_program,
        "*fp16",
        options,
        PIXELS=32,
        OUTPUTS=64,
        INPUTS=32,
        HIGHEST=relu,
        **common,
    )


if __name__ == "__main__":
    sys.exit(main())
