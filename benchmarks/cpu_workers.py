"""Which threads and workers train fastest on a CPU: images a second of `debug=profile`, interleaved rounds.

    python benchmarks/cpu_workers.py [--rounds 3] [--threads 1 2] [--workers 0 1 2] [--output FILE] [-- SETTING ...]

Each is a run of the real command, such as `OMP_NUM_THREADS=1 python src/train.py debug=profile data.num_workers=1`, on
the synthetic streets unless the settings say otherwise. Writes results/cpu_workers.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import RESULTS, interleaved, save

ROOT = Path(__file__).resolve().parents[1]
WAITING = {"spinning": {}, "sleeping": {"OMP_WAIT_POLICY": "PASSIVE"}}
"""How torch's idle threads wait: at work, as they do by default, or asleep."""


def profile(threads, workers, waiting, settings, folder):
    command = [sys.executable, "src/train.py", "debug=profile", *settings, f"data.num_workers={workers}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | WAITING[waiting]
    subprocess.run(
        [*command, f"paths.run_dir={folder}"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return json.loads((folder / "profile.json").read_text())


def main(arguments):
    places = [
        (threads, workers, waiting)
        for threads in arguments.threads
        for workers in arguments.workers
        for waiting in (WAITING if threads > 1 and workers else ["spinning"])
    ]
    found = {place: [] for place in places}
    with tempfile.TemporaryDirectory() as parent:
        for number, place in interleaved(places, arguments.rounds):
            folder = Path(parent) / f"{number}-{'-'.join(map(str, place))}"
            found[place].append(profile(*place, arguments.settings, folder))
            print(place, round(found[place][-1]["images_per_second"], 1), flush=True)
    result = {
        "what": f"images a second of: python src/train.py debug=profile {' '.join(arguments.settings)}",
        "found": [
            {
                "threads": threads,
                "workers": workers,
                "idle_threads": waiting,
                "images_per_second": statistics.median(profile["images_per_second"] for profile in profiles),
                "of_each_round": [profile["images_per_second"] for profile in profiles],
                "data_ms": statistics.median(profile["parts_ms"]["data"] for profile in profiles),
                "step_ms": statistics.median(profile["step_ms"] for profile in profiles),
            }
            for (threads, workers, waiting), profiles in found.items()
        ],
    }
    save(arguments.output, result)
    for row in sorted(result["found"], key=lambda row: -row["images_per_second"]):
        where = f"{row['threads']} threads, {row['workers']} workers, idle threads {row['idle_threads']}"
        print(
            f"{row['images_per_second']:6.1f} images/s: {where}, {row['data_ms']:.0f} of {row['step_ms']:.0f} ms data"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS / "cpu_workers.json")
    parser.add_argument("settings", nargs="*", help="settings of train.py, after --")
    main(parser.parse_args())
