"""Fast-SCNN beside YOLO26n-sem, frames to labels of full size: on one CPU thread, or on a GPU with --device cuda.

    pip install ultralytics
    python benchmarks/yolo26_semantic.py [--sizes 1024x2048 512x1024] [--rounds 5] [--device cpu] [--output FILE]

`ultralytics` is under AGPL-3.0, so it is no dependency of this project and none of its code is here: install it into an
environment of its own if that licence is not for you. Its network has random weights, on which time does not depend. It
gets what its users would give it at best: folded norms, and normalisation, bilinear upsampling of its logits at 1/8 and
argmax in the same graph. All variants take turns, frame by frame. Writes results/yolo26_semantic.json.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import RESULTS, interleaved
from machine import measured
from torch import Tensor, nn

from fastscnn import Segmenter
from fastscnn.utils.files import write_json

CLASSES = 19
Run = Callable[[Any], Any]


class ToLabels(nn.Module):
    """RGB pixels, [1, 3, H, W] of 0 to 255, to labels of the same size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.network(pixels / 255)
        full = nn.functional.interpolate(logits, pixels.shape[-2:], mode="bilinear", align_corners=False)
        return full.argmax(1).to(torch.uint8)


def yolo() -> nn.Module:
    from ultralytics import YOLO

    network = YOLO("yolo26n-sem.yaml").model.eval().fuse(verbose=False).requires_grad_(False)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, CLASSES, 8, 8)
    return ToLabels(network).eval()


def on_the_cpu(size: tuple[int, int], folder: Path) -> dict[str, Run]:
    """Every variant: one thread, an image uint8 [H, W, 3] to its labels."""
    import onnxruntime
    import openvino

    file = folder / "yolo.onnx"
    example = torch.zeros(1, 3, *size)
    torch.onnx.export(yolo(), (example,), file, input_names=["pixels"], dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    runs: dict[str, Run] = {}
    runs["YOLO26n-sem, ONNX Runtime, float32"] = lambda image: session.run(None, {"pixels": planes(image)})[0]
    core = openvino.Core()
    whole = {"threads": 1, "longest_side": None}
    precisions = {"float32": "f32"}
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        precisions["bfloat16"] = "bf16"
    for precision in precisions:
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precisions[precision]}
        compiled = core.compile_model(file, "CPU", settings)
        runs[f"YOLO26n-sem, OpenVINO, {precision}"] = lambda image, compiled=compiled: compiled(planes(image))[0]
        ours = Segmenter.from_pretrained("streets", backend="openvino", precision=precision, **whole)
        runs[f"Fast-SCNN, OpenVINO, {precision}"] = ours
    runs["Fast-SCNN, ONNX Runtime, float32"] = Segmenter.from_pretrained("streets", backend="onnx", **whole)
    runs["Fast-SCNN, torch, float32"] = Segmenter.from_pretrained("streets", backend="torch", **whole)
    return runs


def planes(image: np.ndarray) -> np.ndarray:
    """float32 [1, 3, H, W], which its graph takes."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def on_a_gpu(size: tuple[int, int]) -> dict[str, Run]:
    """Every variant: an image uint8 [1, H, W, 3] in the GPU's memory to its labels there, float16."""
    from fastscnn.inference.backends.cuda_graph import GraphRunner
    from fastscnn.inference.loader import load_trained
    from fastscnn.inference.shipped import shipped_folder

    network = yolo().to("cuda", torch.float16).to(memory_format=torch.channels_last)

    def eager(image: Tensor) -> Any:
        return network(image.permute(0, 3, 1, 2).half())

    ours = GraphRunner(load_trained(shipped_folder("streets")).network, engine="triton", dtype=torch.float16)
    compiled = torch.compile(eager, mode="max-autotune", dynamic=False)
    return {
        "YOLO26n-sem, eager, float16": eager,
        "YOLO26n-sem, torch.compile max-autotune, float16": compiled,
        "Fast-SCNN, ours, float16": ours,
    }


@torch.inference_mode()
def measure(size: tuple[int, int], rounds: int, calls: int, device: str) -> dict[str, Any]:
    """Milliseconds of each variant, medians, and how many times as long YOLO's best takes as our best."""
    image: Any = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    if device == "cuda":
        image = torch.from_numpy(image)[None].cuda()
    with tempfile.TemporaryDirectory() as folder:
        runs = on_a_gpu(size) if device == "cuda" else on_the_cpu(size, Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _, name in interleaved(runs, rounds):
            runs[name](image)
            for _ in range(calls):
                begun = time.perf_counter()
                runs[name](image)
                if device == "cuda":
                    torch.cuda.synchronize()
                seconds[name].append(time.perf_counter() - begun)
    found = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    precisions = sorted({name.rpartition(", ")[2] for name in found})
    return {"ms": found, "times_as_long_as_our_best": {precision: ratio(found, precision) for precision in precisions}}


def ratio(found: dict[str, float], precision: str) -> float:
    best = {
        kind: min(ms for name, ms in found.items() if name.startswith(kind) and name.endswith(precision))
        for kind in ("YOLO", "Fast-SCNN")
    }
    return best["YOLO"] / best["Fast-SCNN"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["1024x2048", "512x1024"], help="HEIGHTxWIDTH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3, help="of a variant in a round, after one that is not timed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, default=RESULTS / "yolo26_semantic.json")
    arguments = parser.parse_args()
    try:
        ultralytics = version("ultralytics")
    except ImportError:
        parser.error("ultralytics is not installed, and is no dependency of this project: pip install ultralytics")
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "what": "one frame to labels of full size, milliseconds, medians"
        + (", one thread" * (arguments.device == "cpu")),
        "ultralytics": ultralytics,
        **measured(),
        "sizes": {},
    }
    for name in arguments.sizes:
        height, width = (int(side) for side in name.split("x"))
        result["sizes"][name] = measure((height, width), arguments.rounds, arguments.calls, arguments.device)
        print(name, result["sizes"][name], flush=True)
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
