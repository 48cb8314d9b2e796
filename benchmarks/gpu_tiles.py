"""The fused step alone on a GPU: labels and probabilities from logits, with each shape of tile.

    python benchmarks/gpu_tiles.py [--dry-run]

Writes results/gpu_tiles.json. With --dry-run nothing is timed: there is nothing of it that runs on the CPU.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from gpu_timing import copy_bandwidth, graph_time
from machine import measured
from torch import nn

from fastscnn.kernels import reference, upsample_labels, upsample_probabilities
from fastscnn.kernels.cuda import labels as cuda
from fastscnn.kernels.cuda.choice import Choice, chosen
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_tiles.json"
CLASSES = 19
LABEL_TILES = ((8, 128, 8), (8, 128, 4), (16, 128, 8), (8, 64, 4), (4, 64, 2), (8, 64, 2), (4, 256, 8), (16, 64, 4))
TILES = ((16, 32, 1), (8, 32, 1), (32, 32, 1), (16, 16, 1), (16, 64, 2), (16, 128, 4))


def fused_step(classes: int) -> dict[str, Any]:
    """Microseconds of labels and of probabilities from logits, 128x256 to 1024x2048; and with each shape of tile."""
    size = (1024, 2048)
    coarse = torch.randn(1, classes, 16, 32, device="cuda") * 4
    logits = nn.functional.interpolate(coarse, (128, 256), mode="bicubic").contiguous(memory_format=torch.channels_last)
    out = torch.empty(1, classes, *size, device="cuda")
    found: dict[str, Any] = {"classes": classes, "logits": "float32, channels_last"}
    noise = torch.randn_like(logits)
    found["labels"] = {
        "ours": graph_time(lambda: upsample_labels(logits, size)),
        "ours, random logits": graph_time(lambda: upsample_labels(noise, size)),
        "eager": graph_time(lambda: reference.upsample_labels(logits, size), calls=2),
        "floor_bytes": logits.numel() * 4 + size[0] * size[1],
    }
    found["probabilities"] = {
        "ours": graph_time(lambda: upsample_probabilities(logits, size, out), calls=2),
        "eager": graph_time(lambda: reference.upsample_probabilities(logits, size), calls=2),
        "floor_bytes": logits.numel() * 4 + out.numel() * 4,
    }
    found["label_tiles"], found["probability_tiles"] = {}, {}
    for tile in LABEL_TILES:
        with chosen(Choice(label_tile=tile)):
            found["label_tiles"][str(tile)] = graph_time(lambda: upsample_labels(logits, size))
    usual = cuda.TILE
    try:
        for tile in TILES:
            cuda.TILE = tile
            found["probability_tiles"][str(tile)] = graph_time(
                lambda: upsample_probabilities(logits, size, out), calls=2
            )
    finally:
        cuda.TILE = usual
    print(found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="The fused step alone on a GPU.")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    if arguments.dry_run:
        print("Tiles are of the GPU's programs: nothing to try on the CPU.")
        return
    if not torch.cuda.is_available():
        parser.error("there is no CUDA GPU")
    result = {"what": "microseconds, 128x256 to 1024x2048", "bytes_per_second_copied": copy_bandwidth()}
    arguments.output.parent.mkdir(exist_ok=True)
    write_json(arguments.output, result | fused_step(CLASSES) | measured())


if __name__ == "__main__":
    main()
