"""Training on small frames on a GPU: with and without frames that lie there, and steps that are replayed from a graph.

    python benchmarks/gpu_resident.py [--seconds 60] [--epochs 6] [--settings data=camvid ...] [--dry-run]

Each variant is a run of the real command on drawn frames of CamVid's number, size and layout (made first): images a
second within the epochs, the first one left out, and seconds from one epoch to the next, with all that belongs to it.
No variant is started that the time left would not see finished. Writes results/gpu_resident.json after each run, with
the minutes that CamVid's 1,000 epochs take at the measured rate.
"""

import argparse
import functools
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fastscnn.utils.files import write_png

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = {
    "resident, graph": [],
    "resident": ["trainer.cuda_graph=false"],
    "workers": ["data.device=cpu", "trainer.cuda_graph=false"],
    "resident, graph, cudnn.benchmark": ["+trainer.benchmark=true"],
    "workers, graph": ["data.device=cpu"],
}
"""In the order of their importance, should time run out."""
SETTINGS = ["data=camvid", "data.crop_size=[480,640]", "data.scale=[1.0,4.0]", "data.batch_size=12"]
FRAME, TRAIN, VAL, CLASSES, EPOCHS = (360, 480), 468, 8, 11, 1000
LONGEST = 60


def write_frames(root, count, size):
    """Blocks of a colour for each class with noise over it, in CamVid's layout; returns the root."""
    draw = np.random.default_rng(0)
    colors = draw.integers(0, 256, (CLASSES, 3))
    for split, number in (("train", count), ("val", VAL)):
        for frame in range(number):
            label = np.kron(
                draw.integers(0, CLASSES, (size[0] // 40 + 1, size[1] // 40 + 1)), np.ones((40, 40), np.uint8)
            )[: size[0], : size[1]].astype(np.uint8)
            image = np.clip(colors[label] + draw.integers(-20, 20, (*size, 1)), 0, 255).astype(np.uint8)
            write_png(root / split / f"{frame:04d}.png", image)
            write_png(root / f"{split}annot" / f"{frame:04d}.png", label)
    return root


def clocked(arguments, output):
    """Run train.py in this process, and write when each epoch began and ended on the device."""
    import pytorch_lightning as pl
    import torch

    class Clock(pl.Callback):
        def __init__(self):
            self.epochs = []

        def on_train_epoch_start(self, trainer, pl_module):
            self.epochs.append([self.now(), None, 0])

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.epochs[-1][2] += len(batch["image"])

        def on_train_epoch_end(self, trainer, pl_module):
            self.epochs[-1][1] = self.now()
            output.write_text(json.dumps(self.epochs))

        @staticmethod
        def now():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            return time.perf_counter()

    build = pl.Trainer.__init__

    @functools.wraps(build)
    def with_clock(self, *args, callbacks=(), **settings):
        build(self, *args, callbacks=[Clock(), *callbacks], **settings)

    pl.Trainer.__init__ = with_clock
    sys.argv = ["src/train.py", *arguments]
    runpy.run_path(str(ROOT / "src" / "train.py"), run_name="__main__")


def measure(settings, folder, limit):
    """Rates of one variant, from a process of its own."""
    output = folder / "epochs.json"
    folder.mkdir()
    command = [
        sys.executable,
        __file__,
        "--one",
        str(output),
        "--settings",
        *settings,
        f"paths.run_dir={folder / 'run'}",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit, check=False
    )
    if done.returncode:
        raise subprocess.SubprocessError((done.stdout + done.stderr)[-600:])
    said = [line for line in done.stdout.splitlines() if "GPU" in line or "graph" in line]
    epochs = json.loads(output.read_text())[1:]
    frames = sum(count for _, _, count in epochs)
    return {
        "images_per_second": frames / sum(end - begin for begin, end, _ in epochs),
        "seconds_per_epoch_with_all": (epochs[-1][0] - epochs[0][0]) / (len(epochs) - 1),
        "images_per_epoch": frames / len(epochs),
        "said": said,
    }


def main(arguments):
    from machine import measured

    started = time.monotonic()
    found, failed = {}, {}
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        count, size = (12, (36, 48)) if arguments.dry_run else (TRAIN, FRAME)
        root = write_frames(work / "camvid", count, size)
        common = [*arguments.settings, f"data.root={root}", f"data.store={work / 'store'}", "logger=csv", "pictures=0"]
        common += [f"trainer.max_epochs={arguments.epochs}", f"trainer.check_val_every_n_epoch={arguments.epochs}"]
        common += ["data.evaluate_test=false", "trainer.limit_val_batches=2"]
        if arguments.dry_run:
            common += ["data.crop_size=[32,48]", "data.batch_size=4", "data.num_workers=0"]
        else:
            common += ["trainer.accelerator=gpu"]
        for number, name in enumerate(arguments.variants):
            left = arguments.seconds - (time.monotonic() - started)
            if left < 10:
                failed[name] = "no time was left"
                continue
            try:
                one = measure([*common, *VARIANTS[name]], work / str(number), min(left, LONGEST))
            except (subprocess.SubprocessError, OSError, ValueError) as error:
                failed[name] = str(error)[-600:]
                print(name, "failed:", failed[name], flush=True)
            else:
                one["minutes_of_1000_epochs"] = EPOCHS * one["seconds_per_epoch_with_all"] / 60
                found[name] = one
                print(
                    name,
                    {key: round(value, 3) for key, value in one.items() if key != "said"},
                    *one["said"],
                    flush=True,
                )
            result = {
                "what": "images a second in training on frames of CamVid's size, on the GPU or read by workers",
                "settings": arguments.settings,
                "variants": {name: VARIANTS[name] for name in arguments.variants},
                "measured": found,
                "failed": failed,
                "extrapolated": f"the minutes of {EPOCHS:,} epochs, from {arguments.epochs - 1}",
                **measured(),
            }
            arguments.output.parent.mkdir(exist_ok=True)
            arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    return not found


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--settings", nargs="+", default=SETTINGS)
    parser.add_argument("--dry-run", action="store_true", help="tiny frames on the CPU; measures nothing")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "gpu_resident.json")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.dry_run and arguments.output == parser.get_default("output"):
        parser.error("--dry-run measures nothing: name another file with --output")
    return arguments


if __name__ == "__main__":
    arguments = parsed()
    if arguments.one:
        clocked(arguments.settings, arguments.one)
    else:
        sys.exit(main(arguments))
