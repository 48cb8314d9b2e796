"""Images a second of predict.py from file to file: beside one after the other, and beside the network alone.

    python benchmarks/predict_files.py [--rounds 3] [--seconds 4] [--cells 1024x2048.png,openvino ...] [--threads N]
        [--before DIR] [--output results/predict_files.json]

Drawn streets as files (PNG as PIL writes it; JPEG of quality 95) to label files and overlays, with the network that is
shipped for them. For each case and backend a process loads the network, predicts the files once, and then in each
round predicts so many of them as take about `--seconds`, in both ways:

    overlapped           `predict_images`, the whole of what predict.py does: neighbouring images are read, computed and
                         written at the same time
    one after the other  read, compute, write: the same functions in a plain loop, which also gives each one's share

The milliseconds of each part are elapsed ones and, beside them, those of the processor, of all threads: these say what
a part costs on a busy machine as well. The network alone is the plain loop without its files. For the last backend of
a case, `--before DIR` measures another checkout, such as an earlier commit, in the same rounds; and the command runs
once, whose last line is quoted. It counts the first images too, in which the network is compiled for their size.

libjpeg-turbo can decode a JPEG at a half or a quarter of its size, in less time. What a network of that resolution
makes of those pixels is compared with what it makes of ours, which are the means of the full-size ones.
"""

import argparse
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import torch
from harness import RESULTS, save, serve, served_rounds

from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference.backends.backends import build_backend
from fastscnn.inference.loader import load_trained
from fastscnn.inference.segmenter import Segmenter
from fastscnn.kernels import upsample_labels
from fastscnn.models.blocks import downscale
from fastscnn.predict.inputs import find_sources
from fastscnn.predict.pipeline import Busy
from fastscnn.predict.predict import Request, predict_images
from fastscnn.streets.draw.scene import draw_street
from fastscnn.utils.files import remove, write_png
from fastscnn.utils.images import read_rgb
from fastscnn.utils.threads import WAITING

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "weights" / "fast_scnn_streets"
CASES = ("1024x2048.png", "1024x2048.jpg", "360x480.png", "360x480.jpg")
BACKENDS = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
"""Backend to the package that it needs."""
DRAWN = 8
"""Streets of each size; a case has more files than that, links to these, so that each is read and written again."""
PARTS = ("reading", "network", "writing")
OVERLAPPED, PLAIN = "overlapped", "one after the other"


def write_frames(folder, case, drawn, links):
    """Files of a case: drawn streets, each under several names."""
    size, suffix = case.split(".")
    height, width = map(int, size.split("x"))
    folder.mkdir()
    for number in range(drawn):
        image = draw_street([0, 0, number], (height, width)).image
        file = folder / f"{number:04d}.{suffix}"
        PIL.Image.fromarray(image).save(file, **({"quality": 95} if suffix == "jpg" else {}))
        for again in range(1, links):
            os.link(file, folder / f"{again * drawn + number:04d}.{suffix}")


@contextmanager
def counted(seconds, part):
    """Add the elapsed time and that of the processor to those of a part."""
    elapsed, busy = time.perf_counter(), time.process_time()
    yield
    seconds[part] += time.perf_counter() - elapsed
    seconds[f"{part}, processor"] += time.process_time() - busy


def one_after_the_other(segmenter, sources, request):
    """The plain loop; returns the seconds of each part."""
    seconds = defaultdict(float)
    for source in sources:
        with counted(seconds, "reading"):
            image = read_rgb(source.path, upright=True, max_pixels=segmenter.max_pixels)
        with counted(seconds, "network"):
            found = request.predicted(image, segmenter)
        with counted(seconds, "writing"):
            for kind, path in request.targets(source).items():
                write_png(path, request.picture(kind, found, segmenter))
    return seconds


def overlapped(segmenter, sources, request):
    """As the command does it; returns the seconds of each stage, added up over its threads."""
    busy = Busy()
    for _, error in predict_images(segmenter, sources, request, busy):
        if error is not None:
            raise error
    return busy.seconds


def measured(segmenter, sources, request, way):
    """Images a second of one way, and what its parts took."""
    remove(request.output)
    elapsed, processor = time.perf_counter(), time.process_time()
    parts = way(segmenter, sources, request)
    elapsed, processor = time.perf_counter() - elapsed, time.process_time() - processor
    return {
        "images_a_second": len(sources) / elapsed,
        "processor_ms": 1e3 * processor / len(sources),
        "parts_ms": {part: 1e3 * value / len(sources) for part, value in parts.items()},
    }


def measure(folder, backend, threads, seconds):
    """In a child: answers each line of stdin with the numbers of both ways, which take turns at being first."""
    segmenter = Segmenter.from_checkpoint(CHECKPOINT, backend=backend, device="cpu", threads=threads, longest_side=None)
    request = Request(folder.parent / f"{folder.name} of {os.getpid()}")
    sources = find_sources(folder, request.output)
    ways = {OVERLAPPED: overlapped, PLAIN: one_after_the_other}
    one_after_the_other(segmenter, sources[:3], request)
    rate = measured(segmenter, sources[:4], request, overlapped)["images_a_second"]
    chosen = sources[: max(8, round(seconds * rate))]
    turn = itertools.count()

    def both():
        order = list(ways) if next(turn) % 2 == 0 else list(reversed(ways))
        return {way: measured(segmenter, chosen, request, ways[way]) for way in order} | {"images": len(chosen)}

    serve(both)
    remove(request.output)


def command(folder, backend, threads):
    """The command itself: the whole of its time, and its last line about the images."""
    with tempfile.TemporaryDirectory() as output:
        chosen = [f"checkpoint={CHECKPOINT}", f"input={folder}", f"output={output}/out", f"backend={backend}"]
        chosen += [] if threads is None else [f"threads={threads}"]
        started = time.perf_counter()
        script = str(ROOT / "src" / "predict.py")
        done = subprocess.run([sys.executable, script, *chosen], env=environment(ROOT), capture_output=True, text=True)
        seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"predict.py ended with {done.returncode}\n{done.stderr}")
    line = next(line for line in done.stdout.splitlines() if "by the network alone" in line)
    return {"seconds": seconds, "line": line}


def environment(checkout):
    """Threads wait as those of the command do, and the packages are those of the checkout."""
    return os.environ | WAITING | {"PYTHONPATH": os.pathsep.join([str(checkout / "src"), str(ROOT / "benchmarks")])}


def child(checkout, *arguments):
    """This script in a process that uses the package of a checkout."""
    given = [sys.executable, __file__, "--measure", *map(str, arguments)]
    return subprocess.Popen(
        given, env=environment(checkout), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def summary(answers):
    """Medians of the rounds of one checkout, and the ratios of their neighbours."""
    median = statistics.median
    rates = {way: [answer[way]["images_a_second"] for answer in answers] for way in (OVERLAPPED, PLAIN)}
    plain = [answer[PLAIN]["parts_ms"] for answer in answers]
    parts = {part: median(each[part] for each in plain) for part in PARTS}
    return {
        "images": answers[0]["images"],
        "images_a_second": {way: median(values) for way, values in rates.items()}
        | {"network alone": median(1e3 / each["network"] for each in plain)},
        "images_a_second_min_max": {way: [min(values), max(values)] for way, values in rates.items()},
        "overlapped_to_one_after_the_other": median(
            fast / slow for fast, slow in zip(rates[OVERLAPPED], rates[PLAIN], strict=True)
        ),
        "overlapped_to_network_alone": median(
            rate * each["network"] / 1e3 for rate, each in zip(rates[OVERLAPPED], plain, strict=True)
        ),
        "parts_ms": parts,
        "share": {part: value / sum(parts.values()) for part, value in parts.items()},
        "processor_ms": {part: median(each[f"{part}, processor"] for each in plain) for part in PARTS}
        | {OVERLAPPED: median(answer[OVERLAPPED]["processor_ms"] for answer in answers)},
    }


def run_case(folder, backend, arguments, last):
    """All numbers of one case with one backend, which is the last or not."""
    checkouts = {"now": ROOT} | ({"before": arguments.before.resolve()} if arguments.before and last else {})
    given = (folder, backend, arguments.threads or 0, arguments.seconds)
    answers = defaultdict(list)
    children = {name: child(checkout, *given) for name, checkout in checkouts.items()}
    for name, answer in served_rounds(children, arguments.rounds):
        answers[name].append(answer)
    found = {name: summary(each) for name, each in answers.items()}
    if "before" in found:
        rates = [[each[OVERLAPPED]["images_a_second"] for each in answers[name]] for name in checkouts]
        found["now_to_before"] = statistics.median(now / before for now, before in zip(*rates, strict=True))
    return found | ({"command": command(folder, backend, arguments.threads)} if last else {})


def scaled_decoding(files):
    """A JPEG that libjpeg-turbo decodes at 1/2 and 1/4, beside the means of its pixels: time, pixels and labels."""
    trained = load_trained(CHECKPOINT)
    network = build_backend(trained, "torch", precision="float32")
    found = {}
    for divisor, flag in ((2, cv2.IMREAD_REDUCED_COLOR_2), (4, cv2.IMREAD_REDUCED_COLOR_4)):
        each = defaultdict(list)
        for file in files:
            data = np.fromfile(file, np.uint8)
            seconds = defaultdict(float)
            with counted(seconds, "full"):
                full = cv2.imdecode(data, cv2.IMREAD_COLOR)
            with counted(seconds, "scaled"):
                scaled = cv2.imdecode(data, flag)
            means = cv2.resize(full, scaled.shape[1::-1], interpolation=cv2.INTER_AREA)
            with torch.inference_mode():
                pixels = [torch.from_numpy(part[..., ::-1].copy()).permute(2, 0, 1)[None] for part in (full, scaled)]
                ours, theirs = (normalize(part) for part in pixels)
                both = [
                    upsample_labels(network(part.contiguous(memory_format=torch.channels_last)), full.shape[:2])
                    for part in (downscale(ours, 1 / divisor), theirs)
                ]
            each["labels_that_differ"].append((both[0] != both[1]).float().mean().item())
            difference = np.abs(means.astype(int) - scaled)
            each["values_that_differ"].append(np.count_nonzero(difference) / difference.size)
            each["largest_difference"].append(int(difference.max()))
            for name in ("full", "scaled"):
                each[f"{name}_processor_ms"].append(1e3 * seconds[f"{name}, processor"])
        found[f"1/{divisor}"] = {name: statistics.median(values) for name, values in each.items()}
    return found | {"images": len(files)}


def described(found):
    """One line of a case."""
    now, shares = found["now"], found["now"]["share"]
    rates = ", ".join(f"{name} {rate:.2f}" for name, rate in now["images_a_second"].items())
    parts = ", ".join(f"{part} {shares[part]:.0%}" for part in PARTS)
    ratios = f"{now['overlapped_to_one_after_the_other']:.2f} times one after the other"
    before = f", {found['now_to_before']:.2f} times before" if "before" in found else ""
    return f"images/s: {rates}; {ratios}{before}; shares: {parts}"


def main(arguments):
    load = os.getloadavg()[0]
    print(f"load before: {load:.2f}", flush=True)
    cases, scaled = {}, None
    with tempfile.TemporaryDirectory() as name:
        for case, backends in arguments.cases.items():
            folder = Path(name) / case
            drawn, links = (2, 2) if arguments.dry_run else (DRAWN, 2 if case.startswith("1024") else 32)
            write_frames(folder, case, drawn, links)
            for backend in backends:
                cases[f"{case}, {backend}"] = found = run_case(folder, backend, arguments, backend == backends[-1])
                print(f"{case}, {backend}: {described(found)}", flush=True)
            if scaled is None and case.endswith(".jpg"):
                scaled = scaled_decoding(sorted(folder.iterdir())[:drawn])
                print(f"JPEG decoded at a part of its size: {scaled}", flush=True)
    result = {
        "what": "images a second from files to label files and overlays, streets: read, computed and written at the "
        "same time, and one after the other; medians of interleaved rounds",
        "rounds": arguments.rounds,
        "threads": arguments.threads or len(os.sched_getaffinity(0)),
        "opencv_threads": cv2.getNumThreads(),
        "load_before": load,
        "before": arguments.before
        and subprocess.check_output(["git", "-C", arguments.before, "rev-parse", "--short", "HEAD"], text=True).strip(),
        "cases": cases,
        "jpeg_decoded_at_a_part_of_its_size": scaled,
    }
    save(arguments.output, result)


def parsed():
    """The command line."""
    installed = [backend for backend, package in BACKENDS.items() if find_spec(package)]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one way in one round, about")
    parser.add_argument("--threads", type=int, help="of the network; as many as there are cores if not given")
    every = [f"{case},{backend}" for case in CASES for backend in installed]
    parser.add_argument("--cells", nargs="+", default=every, metavar="HxW.SUFFIX,BACKEND")
    parser.add_argument("--before", type=Path, metavar="DIR", help="another checkout, measured in the same rounds")
    parser.add_argument("--dry-run", action="store_true", help="four tiny files, one round, to see that all of it runs")
    parser.add_argument("--output", type=Path, default=RESULTS / "predict_files.json")
    arguments = parser.parse_args()
    if arguments.dry_run:
        if arguments.output == RESULTS / "predict_files.json":
            parser.error("--dry-run measures nothing: name another --output")
        arguments.cells, arguments.rounds, arguments.seconds = ["64x96.jpg,torch"], 1, 0
    arguments.cases = defaultdict(list)
    for cell in arguments.cells:
        case, _, backend = cell.partition(",")
        if not re.fullmatch(r"\d+x\d+\.(png|jpg)", case) or backend not in installed:
            parser.error(f"--cells {cell}: a size and png or jpg, then one of {', '.join(installed)}")
        arguments.cases[case].append(backend)
    return arguments


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        folder, backend, threads, seconds = sys.argv[2:]
        measure(Path(folder), backend, int(threads) or None, float(seconds))
    else:
        main(parsed())
