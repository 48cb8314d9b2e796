"""A depthwise convolution and the 1x1 convolution after it on a GPU: in one launch and in two, however shared out.

    python benchmarks/gpu_layers.py [--size 1024x2048] [--processes 12] [--output FILE] [--dry-run]

Every such layer of Fast-SCNN at this size, on random numbers. Programs are compiled by several processes first; then
each is captured twenty times into a CUDA graph, and the graph's replays are timed. Writes results/gpu_layers.json with
the microseconds of each. With --dry-run the list of layers is tried on the CPU.
"""

import argparse
import itertools
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from machine import measured

from fastscnn.kernels.cuda import separable
from fastscnn.kernels.cuda.layers import WAVE, _tiles
from fastscnn.kernels.cuda.separable import Shares, depthwise_pointwise
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_layers.json"
FILTERED = ((8, 8, 64, 4), (4, 8, 64, 4), (8, 8, 32, 4), (4, 8, 32, 2), (8, 16, 32, 8), (8, 16, 64, 8), (4, 16, 128, 8))
BLOCKS, CHUNKS, STAGES, SPLITS = (16, 32, 64, 128), (32, 64), (2, 4), (1, 2)
Layer = dict[str, Any]


def layers_of(size: tuple[int, int]) -> dict[str, Layer]:
    """Height, width and channels of the input, outputs and geometry of each layer, alike ones once."""
    network, found = FastSCNN(19).eval().to("meta"), {}
    shapes: dict[int, tuple[int, ...]] = {}
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda layer, inputs, _: shapes.__setitem__(id(layer), inputs[0].shape))
    network.coarse_logits(torch.empty(1, 3, *size, device="meta"))
    convolutions = [
        module for module in network.modules() if isinstance(module, torch.nn.Conv2d) and id(module) in shapes
    ]
    for first, second in itertools.pairwise(convolutions):
        if first.groups == first.in_channels > 1:
            _, inputs, height, width = shapes[id(first)]
            layer = {"shape": [1, height, width, inputs], "outputs": second.out_channels}
            layer |= {"stride": first.stride[0], "dilation": first.dilation[0]}
            found[f"{height}x{width}x{inputs} to {second.out_channels}, stride {first.stride[0]}"] = layer
    return found


def call_of(layer: Layer, device: str) -> Any:
    torch.manual_seed(0)
    (_, height, width, inputs), outputs, stride = layer["shape"], layer["outputs"], layer["stride"]
    features = torch.randn(*layer["shape"], device=device).half()
    taps, taps_bias = torch.randn(9, inputs, device=device) / 3, torch.randn(inputs, device=device)
    weight, bias = (
        (torch.randn(inputs, outputs, device=device) / math.sqrt(inputs)).half(),
        torch.randn(outputs, device=device),
    )
    addend = torch.randn(1, -(-height // stride), -(-width // stride), outputs, device=device).half()
    arrivals = torch.zeros(WAVE, dtype=torch.int32, device=device)
    options = {name: layer[name] for name in ("stride", "dilation")}
    return lambda: depthwise_pointwise(
        features, taps, taps_bias, weight, bias, **options, highest_between=math.inf, addend=addend, arrivals=arrivals
    )


def ways(layer: Layer) -> Iterator[tuple[str, int, tuple[int, ...], Shares | None]]:
    """Name, `APART`, `FILTERED` and the shares of the product; None for the default."""
    _, height, width, inputs = layer["shape"]
    pixels = -(-height // layer["stride"]) * -(-width // layer["stride"])
    yield "one launch", inputs + 1, FILTERED[0], None
    for tile in FILTERED:
        yield f"two, filtered by {tile}", inputs, tile, None
    for block, chunk, stages, splits in itertools.product(BLOCKS, CHUNKS, STAGES, SPLITS):
        blocks = _tiles(pixels, block)
        if inputs % chunk == 0 and blocks * splits >= 32 and (splits == 1 or blocks < WAVE):
            each = _tiles(inputs // chunk, splits)
            shares = Shares(block, chunk, each, _tiles(inputs // chunk, each), stages, 8 if block == 128 else 4)
            yield f"two, {tuple(shares)}", inputs, FILTERED[0], shares


def measure(size: tuple[int, int], part: int | None = None, parts: int = 1) -> dict[str, dict[str, float]]:
    """Microseconds of each way for each layer; with a part, that share of them is run once, so that it is compiled."""
    from gpu_timing import graph_time

    found: dict[str, dict[str, float]] = {}
    chosen, number = (separable.APART, separable.FILTERED, separable.product_shares), 0
    for name, layer in layers_of(size).items():
        call = call_of(layer, "cuda")
        for way, apart, tile, shares in ways(layer):
            number += 1
            if part is not None and number % parts != part:
                continue
            separable.APART, separable.FILTERED = apart, tile
            separable.product_shares = chosen[2] if shares is None else lambda *_, fixed=shares: fixed
            try:
                if part is not None:
                    call()
                else:
                    found.setdefault(name, {})[way] = graph_time(call, rounds=7)
            except Exception as error:  # one that does not fit into the GPU must not cost the others
                print(f"{name}: {way}: {str(error)[:100]}", file=sys.stderr, flush=True)
        if part is None:
            best = sorted(found[name].items(), key=lambda item: item[1])
            print(name, ", ".join(f"{way} {us:.1f}" for way, us in best[:4]), flush=True)
            print("  one launch", round(found[name].get("one launch", math.nan), 1), flush=True)
    separable.APART, separable.FILTERED, separable.product_shares = chosen
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="1024x2048")
    parser.add_argument("--processes", type=int, default=12)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    if arguments.dry_run:
        for name, layer in layers_of((height, width)).items():
            print(name, len(list(ways(layer))), "ways")
        return
    if not torch.cuda.is_available():
        parser.error("there is no CUDA GPU")
    if arguments.part is not None:
        measure((height, width), arguments.part, arguments.processes)
        return
    command = [sys.executable, __file__, "--size", arguments.size, "--processes", str(arguments.processes), "--part"]
    children = [subprocess.Popen([*command, str(part)]) for part in range(arguments.processes)]
    for child in children:
        child.wait(timeout=600)
    result = {"what": "microseconds of a layer, float16, batch one", "size": arguments.size, **measured()}
    found, layers = measure((height, width)), layers_of((height, width))
    result["layers"] = found
    write_json(arguments.output, result)
    result["best"] = [{**layers[name], "way": best_way(layers[name], times)} for name, times in found.items()]
    write_json(arguments.output, result)


def best_way(layer: Layer, times: dict[str, float]) -> list[Any]:
    """What `chosen_by` takes: `APART`, and the best tile and shares, each found with the other's default."""
    listed = {name: (apart, tile, shares) for name, apart, tile, shares in ways(layer) if name in times}
    fastest = min(listed, key=lambda name: times[name])
    if fastest == "one launch":
        return list(listed[fastest])
    tile = min((name for name in listed if "filtered" in name), key=lambda name: times[name])
    products = [name for name in listed if listed[name][2] is not None]
    shares = listed[min(products, key=lambda name: times[name])][2] if products else None
    return [listed[fastest][0], listed[tile][1], shares]


def chosen_by(best: list[dict[str, Any]]) -> Any:
    """`depthwise_pointwise` with the way of each layer that is listed, and the default for all others."""
    known = {(*layer["shape"][1:], layer["outputs"], layer["stride"]): layer["way"] for layer in best}

    def run(features: torch.Tensor, taps: Any, taps_bias: Any, weight: torch.Tensor, *rest: Any, **options: Any) -> Any:
        key = (*features.shape[1:], weight.shape[1], options["stride"])
        before = separable.APART, separable.FILTERED, separable.product_shares
        if key in known:
            apart, tile, shares = known[key]
            separable.APART, separable.FILTERED = apart, tuple(tile)
            if shares is not None:
                separable.product_shares = lambda *_: Shares(*shares)
        try:
            return depthwise_pointwise(features, taps, taps_bias, weight, *rest, **options)
        finally:
            separable.APART, separable.FILTERED, separable.product_shares = before

    return run


if __name__ == "__main__":
    main()
