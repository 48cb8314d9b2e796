"""A depthwise convolution and the 1x1 convolution after it on a GPU: in one launch and in two, however shared out.

    python benchmarks/gpu_layers.py [--sizes 1024x2048 512x1024] [--processes 12] [--output FILE] [--dry-run]

Every such layer of Fast-SCNN at these sizes, on random numbers. Programs are compiled by several processes first; then
each is captured twenty times into a CUDA graph, and the graph's replays are timed. Writes results/gpu_layers.json with
the microseconds of each layer, and of all together: `as_chosen` in the form that is the default, `walking` in the one
that `depthwise.form_of` chooses where blocks walk, and `best`. With --dry-run the list of layers is tried
on the CPU.
"""

import argparse
import contextlib
import itertools
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from machine import measured

from fastscnn.kernels.cuda import depthwise, separable
from fastscnn.kernels.cuda.choice import Choice, chosen
from fastscnn.kernels.cuda.depthwise import Form
from fastscnn.kernels.cuda.layers import WAVE, _tiles
from fastscnn.kernels.cuda.separable import Shares, depthwise_pointwise
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.utils.files import write_json

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu_layers.json"
TILES = ((8, 8, 64, 4), (4, 8, 64, 4), (4, 8, 32, 2))
WALKS = (
    *((16, 8, 64, 4), (8, 8, 64, 4), (4, 8, 64, 4), (12, 8, 64, 4), (8, 8, 32, 2), (8, 8, 32, 4), (8, 8, 128, 8)),
    *((8, 16, 64, 4), (4, 16, 64, 4), (16, 16, 64, 4), (8, 8, 64, 2), (4, 8, 64, 2), (8, 16, 32, 2)),
    *((16, 16, 32, 4), (8, 32, 16, 4)),
)
FORMS = tuple(Form(False, *tile) for tile in TILES) + tuple(Form(True, *tile) for tile in WALKS)
BLOCKS, CHUNKS, STAGES, SPLITS = (16, 32, 64, 128), (32, 64), (2, 4), (1, 2)
Layer = dict[str, Any]


def layers_of(size: tuple[int, ...]) -> dict[str, Layer]:
    """Height, width and channels of the input, outputs, geometry and count of each layer, alike ones once."""
    with torch.device("meta"):
        network = FastSCNN(19).eval()
    found: dict[str, Layer] = {}
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
            name = f"{height}x{width}x{inputs} to {second.out_channels}, stride {first.stride[0]}"
            name += f", dilation {first.dilation[0]}" if first.dilation[0] > 1 else ""
            found[name] = layer | {"count": found[name]["count"] + 1 if name in found else 1}
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


def ways(layer: Layer) -> Iterator[tuple[str, int, Form, Shares | None]]:
    """Name, `APART`, the depthwise convolution's form, and the shares of the product, None for the default."""
    _, height, width, inputs = layer["shape"]
    pixels = -(-height // layer["stride"]) * -(-width // layer["stride"])
    yield "one launch", inputs + 1, FORMS[0], None
    for form in FORMS:
        if not form.walks or depthwise.can_walk(layer["stride"], layer["dilation"]):
            yield name_of(form), inputs, form, None
    for block, chunk, stages, splits in itertools.product(BLOCKS, CHUNKS, STAGES, SPLITS):
        blocks = _tiles(pixels, block)
        if inputs % chunk == 0 and blocks * splits >= 32 and (splits == 1 or blocks < WAVE):
            each = _tiles(inputs // chunk, splits)
            shares = Shares(block, chunk, each, _tiles(inputs // chunk, each), stages, 8 if block == 128 else 4)
            yield f"two, {tuple(shares)}", inputs, FORMS[0], shares


def name_of(form: Form) -> str:
    return f"two, {'walked' if form.walks else 'filtered'} by {tuple(form)[1:]}"


@contextlib.contextmanager
def set_to(apart: int, form: Form, shares: Shares | None) -> Iterator[None]:
    with (
        mock.patch.object(separable, "APART", apart),
        mock.patch.object(depthwise, "form_of", lambda *_: form),
        mock.patch.object(separable, "product_shares", (lambda *_: shares) if shares else separable.product_shares),
    ):
        yield


def measure(layers: dict[str, Layer]) -> dict[str, dict[str, float]]:
    """Microseconds of each way for each layer."""
    from gpu_timing import graph_time

    found: dict[str, dict[str, float]] = {}
    for name, layer in layers.items():
        call, times = call_of(layer, "cuda"), found.setdefault(name, {})
        for way, *choice in ways(layer):
            with unless_it_fails(name, way), set_to(*choice):
                times[way] = graph_time(call, rounds=7)
        best = sorted(times.items(), key=lambda item: item[1])
        print(name, ", ".join(f"{way} {us:.1f}" for way, us in best[:4]), flush=True)
        print("  ", {way: round(times[way], 1) for way in defaults(layer) if way in times}, flush=True)
    return found


def compile_part(layers: dict[str, Layer], part: int, parts: int) -> None:
    """Run a share of all ways once, so that they are compiled."""
    listed = [(name, way) for name, layer in layers.items() for way in ways(layer)]
    for name, (way, *choice) in listed[part::parts]:
        with unless_it_fails(name, way), set_to(*choice):
            call_of(layers[name], "cuda")()


@contextlib.contextmanager
def unless_it_fails(name: str, way: str) -> Iterator[None]:
    """One that does not fit into the GPU must not cost the others."""
    try:
        yield
    except Exception as error:
        print(f"{name}: {way}: {str(error)[:100]}", file=sys.stderr, flush=True)


def defaults(layer: Layer) -> list[str]:
    """Names of what is the default, and of what is where blocks walk."""
    _, height, width, inputs = layer["shape"]
    stride, dilation = layer["stride"], layer["dilation"]
    pixels = -(-height // stride) * -(-width // stride)
    found = []
    for walks in (False, True):
        with chosen(Choice(walks=walks)):
            form = depthwise.form_of(pixels, inputs, stride, dilation)
        found.append(name_of(form) if inputs >= separable.APART else "one launch")
    return found


def totals(found: dict[str, dict[str, float]], layers: dict[str, Layer]) -> dict[str, float]:
    """Microseconds of all layers of a frame: in the form that is the default, where blocks walk, and at best."""
    chosen = {"as_chosen": 0.0, "walking": 0.0, "best": 0.0}
    for name, times in found.items():
        now, walking = (times.get(way, math.nan) for way in defaults(layers[name]))
        for key, us in (("as_chosen", now), ("walking", walking), ("best", min(times.values()))):
            chosen[key] += layers[name]["count"] * us
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["1024x2048", "512x1024"])
    parser.add_argument("--processes", type=int, default=12)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    layers = {size: layers_of(tuple(int(side) for side in size.split("x"))) for size in arguments.sizes}
    every = {name: layer for of_size in layers.values() for name, layer in of_size.items()}
    if arguments.dry_run:
        for name, layer in every.items():
            print(name, len(list(ways(layer))), "ways; default and walking:", *defaults(layer))
        return
    if not torch.cuda.is_available():
        parser.error("there is no CUDA GPU")
    if arguments.part is not None:
        compile_part(every, arguments.part, arguments.processes)
        return
    command = [sys.executable, __file__, "--sizes", *arguments.sizes, "--processes", str(arguments.processes), "--part"]
    children = [subprocess.Popen([*command, str(part)]) for part in range(arguments.processes)]
    for child in children:
        child.wait(timeout=600)
    result: dict[str, Any] = {
        "what": "microseconds of a layer, float16, batch one",
        **measured(),
        "sizes": {},
        "best": [],
    }
    for size, of_size in layers.items():
        found = measure(of_size)
        result["sizes"][size] = {"totals": totals(found, of_size), "layers": found}
        print(size, result["sizes"][size]["totals"], flush=True)
        result["best"] += [{**of_size[name], "way": best_way(of_size[name], times)} for name, times in found.items()]
        write_json(arguments.output, result)


def best_way(layer: Layer, times: dict[str, float]) -> list[Any]:
    """What `chosen_by` takes: `APART`, and the best form and shares, each found with the other's default."""
    listed = {name: (apart, form, shares) for name, apart, form, shares in ways(layer) if name in times}
    fastest = min(listed, key=lambda name: times[name])
    if fastest == "one launch":
        return list(listed[fastest])
    form = min((name for name in listed if " by " in name), key=lambda name: times[name])
    products = [name for name in listed if listed[name][2] is not None]
    shares = listed[min(products, key=lambda name: times[name])][2] if products else None
    return [listed[fastest][0], listed[form][1], shares]


def chosen_by(best: list[dict[str, Any]]) -> Any:
    """`depthwise_pointwise` with the way of each layer that is listed, and the default for all others."""
    known = {key_of(layer["shape"], layer["outputs"], layer["stride"], layer["dilation"]): layer for layer in best}

    def run(features: torch.Tensor, taps: Any, taps_bias: Any, weight: torch.Tensor, *rest: Any, **options: Any) -> Any:
        layer = known.get(key_of(features.shape, weight.shape[1], options["stride"], options["dilation"]))
        if layer is None:
            return depthwise_pointwise(features, taps, taps_bias, weight, *rest, **options)
        apart, form, shares = layer["way"]
        with set_to(apart, Form(*form), None if shares is None else Shares(*shares)):
            return depthwise_pointwise(features, taps, taps_bias, weight, *rest, **options)

    return run


def key_of(shape: Sequence[int], *geometry: int) -> tuple[int, ...]:
    return (*shape[1:], *geometry)


if __name__ == "__main__":
    main()
