"""Training on a GPU, fed by the real DataLoader: the store and the fused loss beside eager torch and PNG files.

    python benchmarks/gpu_training.py [--seconds 540] [--rounds 2] [--sizes 1024x2048 512x1024] [--workers 16]

Each is a run of the real command with debug=profile, batch 12, bf16, on drawn frames of Cityscapes' size in its layout
(made first). The variants take turns; none is started for which the remaining time is too short. Writes
results/gpu_training.json after each run, with the hours that the paper's 1,000 epochs of 2,975 frames take at the
measured rate. With --dry-run the script tries itself on the CPU, on small frames.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_pipeline import write_frames
from harness import RESULTS, interleaved
from harness import save as save_result

ROOT = Path(__file__).resolve().parents[1]
PNG = ["data.store=off", "augment.crop_first=false"]
PLAIN = ["loss.fused=false", "optimizer.fused=false", "trainer.channels_last=false", "trainer.recompute=false"]
VARIANTS = {
    "ours": [],
    "ours, fused norm": ["trainer.fused_norm=true"],
    "ours, fused norm, depthwise": ["trainer.fused_norm=true", "trainer.triton_depthwise=true"],
    "ours, threads": ["data.device=cpu", "data.loader=threads"],
    "ours, processes": ["data.device=cpu", "data.loader=processes"],
    "eager, PNG": [*PNG, *PLAIN],
    "ours, cudnn.benchmark": ["+trainer.benchmark=true"],
    "ours, compiled": ["trainer.compile=true"],
    "eager, store": PLAIN,
    "ours, PNG": PNG,
}
"""In the order of their importance, should time run out."""
EPOCHS, FRAMES = 1000, 2975
LONGEST = 150


def profile(settings, folder, environment, limit):
    """Run one training of a few steps; what it wrote of its steps."""
    command = [sys.executable, "src/train.py", "data=fine", "debug=profile", *settings, f"paths.run_dir={folder}"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=limit)
    return json.loads((folder / "profile.json").read_text())


def summary(profiles):
    rate = statistics.median(profile["images_per_second"] for profile in profiles)
    return {
        "images_per_second": rate,
        "of_each_round": [profile["images_per_second"] for profile in profiles],
        "parts_ms": profiles[-1]["parts_ms"],
        "limits": profiles[-1]["limits"],
        "hours_of_1000_epochs": EPOCHS * FRAMES / rate / 3600,
    }


def main(arguments):
    started = time.monotonic()
    frame = (64, 128) if arguments.dry_run else (1024, 2048)
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        root = write_frames(arguments.frames or work / "frames", frame, arguments.count)
        common = [f"data.root={root}", f"data.store={work / 'store'}", f"data.num_workers={arguments.workers}"]
        common += [f"trainer.profile_steps={arguments.steps}", f"data.batch_size={arguments.batch}"]
        if not arguments.dry_run:
            common += ["trainer.accelerator=gpu", "trainer.precision=bf16-mixed"]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        found = {}
        failed = {}
        variants = [(size, variant) for size in arguments.sizes for variant in arguments.variants]
        for number, (size, variant) in interleaved(variants, arguments.rounds):
            left = arguments.seconds - (time.monotonic() - started)
            if left < 30 or variant in failed.get(size, {}):
                continue
            crop = "[{},{}]".format(*size.split("x"))
            settings = [*common, *VARIANTS[variant], f"data.crop_size={crop}"]
            folder = work / f"{number}-{size}-{len(found)}-{variant.replace(', ', '_')}"
            try:
                one = profile(settings, folder, environment, min(left, LONGEST))
            except subprocess.SubprocessError as error:
                failed.setdefault(size, {})[variant] = str(error).replace(str(work), "WORK")[-300:]
                print(size, variant, "failed", flush=True)
                continue
            found.setdefault(size, {}).setdefault(variant, []).append(one)
            print(size, variant, round(one["images_per_second"], 1), one["limits"], flush=True)
            save(arguments, found, failed)
    save(arguments, found, failed)


def save(arguments, found, failed):
    result = {
        "what": f"images a second in training, batch {arguments.batch}, three heads, frames and labels from the loader",
        "precision": "float32, a try on the CPU" if arguments.dry_run else "bf16-mixed",
        "workers": arguments.workers,
        "settings": {variant: VARIANTS[variant] for variant in arguments.variants},
        "sizes": {
            size: {variant: summary(profiles) for variant, profiles in variants.items()}
            for size, variants in found.items()
        },
        "failed": failed,
        "store": "its frames fit into memory, and lie in the page cache",
    }
    save_result(arguments.output, result)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sizes", nargs="+", default=["1024x2048", "512x1024"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--count", type=int, default=96, help="frames to draw")
    parser.add_argument("--frames", type=Path, help="where they lie, or shall")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu_training.json")
    arguments = parser.parse_args()
    if arguments.dry_run and arguments.output == parser.get_default("output"):
        parser.error("--dry-run measures nothing: name another file with --output")
    return arguments


if __name__ == "__main__":
    main(parsed())
