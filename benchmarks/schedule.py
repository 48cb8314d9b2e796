"""A schedule before and after what makes training fast: the same test mIoU, in how much less time.

    python benchmarks/schedule.py camvid CAMVID_DIR [--epochs 10] [--seeds 0 1 2] [--output FILE]
    python benchmarks/schedule.py streets [--epochs 20] [--seeds 0]              what make train does

"Before" trains with all of it switched off, as it is written with torch and albumentations as they come: PNG files
decoded at every step, resized and then cropped; full-size logits; memory given back. "After" has the defaults; it makes
its decoded store in its first run. Real commands one after the other, the two in turn seed by seed. The runs stay in
outputs/schedule/; what is finished there is not trained again. Writes results/schedule_camvid.json or _streets.json.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from harness import RESULTS, save, timed

from fastscnn.runs.record import read_record

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "before": [
        "data.store=off",
        "augment.crop_first=false",
        "loss.fused=false",
        "optimizer.fused=false",
        "trainer.channels_last=false",
        "trainer.keep_memory=false",
        "trainer.recompute=false",
    ],
    "after": [],
}


def train(folder, settings):
    """Run one training, as a user would; the seconds of the whole command."""
    command = [sys.executable, "src/train.py", *settings, "logger=csv", f"paths.run_dir={folder}"]
    print("python", shlex.join(command[1:]), flush=True)
    return timed(lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL))[0]


def finished(folder):
    return (folder / "seconds").exists() and read_record(folder)["status"] == "finished"


def spread(values):
    values = list(values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "deviation": deviation, "of_each_seed": values}


def main(arguments):
    common = [f"trainer.max_epochs={arguments.epochs}"]
    command = "python src/train.py"
    if arguments.data == "camvid":
        common += ["experiment=camvid", f"data.root={arguments.root.resolve()}"]
        command += " experiment=camvid data.root=DIR"
    parent = ROOT / "outputs" / "schedule" / f"{arguments.data}_{arguments.epochs}_epochs"
    folders = {}
    for seed in arguments.seeds:
        for name, settings in SETTINGS.items():
            folder = parent / f"{name}_seed{seed}"
            folders.setdefault(name, []).append(folder)
            if not finished(folder):
                own = [*settings, f"data.store={parent / 'store'}"] if name == "after" else settings
                seconds = train(folder, [*common, *own, f"seed={seed}"])
                (folder / "seconds").write_text(f"{seconds}\n")
    found = {
        name: {
            "settings": SETTINGS[name],
            "seconds": spread(float((folder / "seconds").read_text()) for folder in of_seeds),
            "test_miou": spread(read_record(folder)["metrics"]["best"]["test/miou"] for folder in of_seeds),
            "val_miou": spread(read_record(folder)["metrics"]["best"]["val/miou"] for folder in of_seeds),
            "device": read_record(of_seeds[0])["device"],
        }
        for name, of_seeds in folders.items()
    }
    before, after = found["before"], found["after"]
    result = {
        "what": f"{command} trainer.max_epochs={arguments.epochs}, seeds {arguments.seeds}; seconds of the command",
        **found,
        "share_of_time": after["seconds"]["mean"] / before["seconds"]["mean"],
        "difference_of_test_miou": after["test_miou"]["mean"] - before["test_miou"]["mean"],
    }
    save(arguments.output or RESULTS / f"schedule_{arguments.data}.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", choices=["camvid", "streets"])
    parser.add_argument("root", type=Path, nargs="?")
    parser.add_argument("--epochs", type=int, help="10, of the streets 20")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path)
    parsed = parser.parse_args()
    if (parsed.data == "camvid") != (parsed.root is not None):
        parser.error("camvid needs its folder, and streets has none")
    parsed.epochs = parsed.epochs or (10 if parsed.data == "camvid" else 20)
    main(parsed)
