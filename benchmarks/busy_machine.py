"""Training beside other busy processes: images a second alone and beside busy loops; interleaved rounds.

    python benchmarks/busy_machine.py [--rounds 3] [--steps 20] [--loops 2] [--variants before default ...]
        [--epochs 2] [--output results/busy_machine.json]

Each is a run of the real command, `python src/train.py debug=profile`, on the synthetic streets with its defaults, in
an environment of its own: how threads wait, and how many threads and workers there are. `before` waits as libgomp does
by itself; `default` is what the command sets now. Beside it run as many busy loops as asked for. `--epochs` then times
whole commands, before and now, from start to end: a training of so many epochs with its validations and its test, an
evaluation of its best checkpoint, a prediction of the test frames. Nothing else may run: the first line is the load.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import RESULTS, interleaved, save

ROOT = Path(__file__).resolve().parents[1]
CORES = len(os.sched_getaffinity(0))
OPENMP = ("OMP_", "GOMP_", "KMP_", "MKL_")
UNSET = {"GOMP_SPINCOUNT": "300000"}
"""libgomp's own number of spins where no waiting policy is set; with it the command sets none."""
VARIANTS = {
    "before": (UNSET, []),
    "default": ({}, []),
    "asleep at once": ({"OMP_WAIT_POLICY": "PASSIVE"}, []),
    "asleep after 5000 spins": ({"GOMP_SPINCOUNT": "5000"}, []),
    "asleep after 20000 spins": ({"GOMP_SPINCOUNT": "20000"}, []),
    "1 thread": ({"OMP_NUM_THREADS": "1"}, []),
    **({f"{CORES - 1} threads": ({"OMP_NUM_THREADS": str(CORES - 1)}, [])} if CORES > 2 else {}),
    f"{2 * CORES} threads": ({"OMP_NUM_THREADS": str(2 * CORES)}, []),
    "no workers": ({}, ["data.num_workers=0"]),
    "1 worker": ({}, ["data.num_workers=1"]),
    "without oneDNN": ({}, []),
    "kernels on 1 thread": ({}, []),
}
"""Environment and settings of each. Not among them: OMP_DYNAMIC, for oneDNN waits for ever where it gets fewer threads
than it asked for; and OMP_WAIT_POLICY=ACTIVE, which spins for minutes."""
PRELUDES = {
    "without oneDNN": "import torch; torch.backends.mkldnn.set_flags(False)",
    "kernels on 1 thread": (
        "from fastscnn.kernels.cpu import numba_utils; "
        "numba_utils.parallel.__code__ = (lambda function, jobs: [function(job) for job in jobs]).__code__"
    ),
}
"""What no variable of the environment can choose: run before the command, in its process.

Our kernels run on a pool of Python threads, as many as torch has, which wait asleep; numba's own threads are not used.
A worker computes on one thread in any case (torch sets that), and OpenCV's threads are switched off in it.
"""
WAIT = "from fastscnn.utils.threads import wait_briefly; wait_briefly()"  # before torch is imported
START = (
    "import runpy, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, 'src'); "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def run(variant, arguments, cwd=ROOT):
    """One command in a variant's environment; its output. Variables of ours that are set have no say in it."""
    environment, settings = VARIANTS[variant]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OPENMP)}
    kept["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *filter(None, [kept.get("PYTHONPATH")])])
    script = [sys.executable, arguments[0]]
    if variant in PRELUDES:
        script = [sys.executable, "-c", f"{WAIT}; {PRELUDES[variant]}; {START}", arguments[0]]
    done = subprocess.run(
        [*script, *arguments[1:], *settings], cwd=cwd, env=kept | environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{variant}: {' '.join(arguments)} ended with {done.returncode}\n{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def busy(loops):
    """So many processes that do nothing but count, for as long as the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def images_per_second(variant, steps, folder):
    run(variant, ["src/train.py", "debug=profile", f"trainer.profile_steps={steps}", f"paths.run_dir={folder}"])
    return json.loads((folder / "profile.json").read_text())["images_per_second"]


def whole_commands(variant, epochs, folder):
    """Seconds of a training, an evaluation and a prediction, from start to end."""
    checkpoint = f"checkpoint={folder}/run/checkpoints/best.ckpt"
    frames = next(ROOT.glob("data/streets/*/leftImg8bit/test"))
    commands = {
        "train": ["src/train.py", "logger=csv", f"trainer.max_epochs={epochs}", f"paths.run_dir={folder}/run"],
        "eval": ["src/eval.py", checkpoint, "split=test", f"paths.run_dir={folder}/eval"],
        "predict": ["src/predict.py", checkpoint, f"input={frames}", f"output={folder}/predictions"],
    }
    seconds = {}
    for name, arguments in commands.items():
        started = time.perf_counter()
        run(variant, arguments)
        seconds[name] = time.perf_counter() - started
    return seconds


def described(alone, beside):
    median = statistics.median
    return {
        "alone": median(alone),
        "beside": median(beside),
        "slower": median(alone) / median(beside),
        "alone_min_max": [min(alone), max(alone)],
        "beside_min_max": [min(beside), max(beside)],
        "rounds": len(alone),
    }


def main(arguments):
    load = os.getloadavg()[0]
    print(f"load before the first run: {load:.2f}", flush=True)
    found = {variant: {0: [], arguments.loops: []} for variant in arguments.variants}
    whole = {}
    with tempfile.TemporaryDirectory() as parent:
        images_per_second("default", 2, Path(parent) / "first")  # draws the streets and builds the store
        for number, variant in interleaved(arguments.variants, arguments.rounds):
            for loops in found[variant]:
                with busy(loops):
                    rate = images_per_second(variant, arguments.steps, Path(parent) / f"{number} {variant} {loops}")
                found[variant][loops].append(rate)
                print(f"round {number + 1}, {variant}, {loops} busy loops: {rate:.1f} images/s", flush=True)
        for variant in ("before", "default") if arguments.epochs else ():
            for loops in (0, arguments.loops):
                with busy(loops):
                    seconds = whole_commands(variant, arguments.epochs, Path(parent) / f"whole {variant} {loops}")
                whole.setdefault(variant, {})[f"{loops} busy loops"] = seconds
                print(f"{variant}, {loops} busy loops: {seconds}", flush=True)
    variants = {variant: described(*rates.values()) for variant, rates in found.items()}
    base = variants["before"]["alone"] if "before" in variants else None
    result = {
        "what": f"images a second of train.py debug=profile, {arguments.steps} steps on {CORES} cores, alone and "
        f"beside {arguments.loops} busy loops; medians",
        "load_before": load,
        "variants": {
            variant: {
                "environment": VARIANTS[variant][0],
                "settings": VARIANTS[variant][1],
                "in_the_process": PRELUDES.get(variant),
                **numbers,
                "alone_to_before_alone": numbers["alone"] / base if base else None,
            }
            for variant, numbers in variants.items()
        },
        "whole_commands": {"epochs": arguments.epochs, "seconds": whole},
    }
    save(arguments.output, result)
    for variant, numbers in sorted(variants.items(), key=lambda item: -item[1]["beside"]):
        print(
            f"{variant:28} alone {numbers['alone']:5.1f} images/s, beside {arguments.loops} busy loops "
            f"{numbers['beside']:5.1f}: {numbers['slower']:.1f} times as long"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--loops", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "busy_machine.json")
    main(parser.parse_args())
