"""What a run survives: kills at random moments and within checkpoint writes, and full disks.

    python benchmarks/reliability.py kills [--kills 8] [--workers 0 1 2] [--seed 0]
    python benchmarks/reliability.py disk          needs root: each place gets a small file system of its own
    python benchmarks/reliability.py load          takes the slow-down under load from results/busy_machine.json

Kills: a run on small synthetic streets gets SIGKILL, goes on with `resume=`, gets SIGKILL, and so on, until it is left
to finish. Every second kill falls within the write of a checkpoint, the others at a moment drawn evenly from the time
that a whole run takes; TMPDIR lies on another file system than the run. Weights, momentum, `metrics.csv` and the
record of the end are compared with those of a run that nothing stopped, to the bit.

Disk: each command writes to a file system that has room for a part of what it writes.

Each part writes its own entry of results/reliability.json and leaves the others.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import measured

from fastscnn.utils.files import UNFINISHED

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "reliability.json"
STREETS = [
    "data.streets.size=[64,128]",
    "data.streets.train=24",
    "data.streets.val=4",
    "data.streets.test=4",
    "data.streets.train_extra=0",
    "data.crop_size=[64,128]",
    "data.batch_size=4",
]
RUN = [*STREETS, "trainer.max_epochs=12", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu", "logger=csv"]
LONGEST = 600
"""Seconds after which a command counts as hanging."""


def start(folder, script, *arguments, environment=None, **streams):
    command = [sys.executable, str(ROOT / "src" / script), *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | (environment or {}), text=True, start_new_session=True, **streams
    )


def unplaced(text, places):
    """What a command said, without where on this machine things lie."""
    places |= {sys.executable: "python", sys.prefix: "ENVIRONMENT", f"{ROOT}/": ""}
    for place, name in places.items():
        text = text.replace(place, name)
    return text.strip()


def finish(process):
    try:
        output, error = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise SystemExit(f"hangs: {process.args}") from None
    return process.returncode, output, error


def rows(folder):
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def end_of(folder):
    """What must be the same to the bit: tensors by name, rows of metrics.csv, metrics of the record."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    state = content["optimizer_states"][0]["state"]
    tensors = content["state_dict"] | {f"momentum {key}": value["momentum_buffer"] for key, value in state.items()}
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return tensors, rows(folder), {key: record[key] for key in ("status", "error", "metrics")}


def differences(expected, found):
    tensors = [name for name in expected[0] if not torch.equal(expected[0][name], found[0][name])]
    return {
        "tensors": len(expected[0]),
        "tensors_that_differ": len(tensors),
        "rows_equal": expected[1] == found[1],
        "record_equal": expected[2] == found[2],
    }


def kill(process, run, moment, *, in_write):
    """SIGKILL at a moment in seconds, or at the first checkpoint write after it; returns whether it met a write."""
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < LONGEST:
        if time.monotonic() - begun >= moment:
            writing = any((run / "checkpoints").glob(f"{UNFINISHED}*"))
            if writing or not in_write:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                process.wait()
                time.sleep(0.2)  # workers see that their parent is gone
                return writing
        time.sleep(0.0002)
    return False


def chain(home, settings, whole, draw, kills, environment):
    """One run that is killed and goes on, and what its end has in common with the whole run's."""
    run = home / "run"
    met, steps = [], []
    command = [*settings, f"paths.run_dir={run}"]
    while True:
        process = start(
            home, "train.py", *command, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        if len(met) < kills:
            in_write = len(met) % 2 == 1
            wrote = kill(process, run, draw.uniform(0, whole["seconds"]) * (0.5 if in_write else 1), in_write=in_write)
            finish(process)
            if process.returncode == -signal.SIGKILL:
                met.append("write" if wrote else "random")
        else:
            code, output, error = finish(process)
            if code:
                raise SystemExit(f"{run}: exit code {code}\n{output[-2000:]}\n{error[-3000:]}")
            break
        if process.returncode == 0:
            break
        if (run / "checkpoints" / "last.ckpt").exists():
            content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
            steps.append(content["global_step"])
            command = [f"resume={run}"]
        else:  # nothing was kept yet: the run starts anew
            steps.append(0)
            shutil.rmtree(run, ignore_errors=True)
            command = [*settings, f"paths.run_dir={run}"]
    left = [str(path.relative_to(run)) for path in run.rglob(f"{UNFINISHED}*")]
    return {
        "kills": len(met),
        "within_a_checkpoint_write": met.count("write"),
        "went_on_from_steps": steps,
        **differences(whole["end"], end_of(run)),
        "half_written_files_left": left,
    }


def kills(arguments):
    draw = random.Random(arguments.seed)
    found = {}
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as name,
        tempfile.TemporaryDirectory(dir="/dev/shm") as other,
    ):
        environment = {"TMPDIR": other}
        home = Path(name)
        for workers in arguments.workers:
            settings = [*RUN, f"data.num_workers={workers}"]
            seconds = []
            for attempt in range(2):  # the first one draws the streets and fills the caches
                whole = home / f"whole-{workers}-{attempt}"
                begun = time.monotonic()
                process = start(home, "train.py", *settings, f"paths.run_dir={whole}", stderr=subprocess.PIPE)
                code, _, error = finish(process)
                if code:
                    raise SystemExit(error)
                seconds.append(time.monotonic() - begun)
            reference = {"end": end_of(whole), "seconds": seconds[-1]}
            again = differences(end_of(home / f"whole-{workers}-0"), reference["end"])
            chains = []
            while sum(one["kills"] for one in chains) < arguments.kills:
                at_home = home / f"chain-{workers}-{len(chains)}"
                at_home.mkdir()
                (at_home / "data").symlink_to(home / "data")
                chains.append(chain(at_home, settings, reference, draw, 4, environment))
                print(workers, "workers:", json.dumps(chains[-1]), flush=True)
            found[f"{workers} workers"] = {
                "kills": sum(one["kills"] for one in chains),
                "within_a_checkpoint_write": sum(one["within_a_checkpoint_write"] for one in chains),
                "runs_bit_equal": sum(
                    one["tensors_that_differ"] == 0 and one["rows_equal"] and one["record_equal"] for one in chains
                ),
                "runs": len(chains),
                "two_whole_runs": again,
                "each": chains,
            }
    return {"what": f"python src/train.py {' '.join(RUN)}", "found": found}


@contextlib.contextmanager
def small_disk(kib):
    """A file system of so many KiB, of its own."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def disk(arguments):
    found = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        home = Path(name)
        trained = home / "trained"
        brief = [*RUN, "trainer.max_epochs=1"]
        process = start(home, "train.py", *brief, f"paths.run_dir={trained}", stderr=subprocess.PIPE)
        code, _, error = finish(process)
        if code:
            raise SystemExit(error)
        root = next((home / "data" / "streets").glob("*/leftImg8bit")).parent
        photos = root / "leftImg8bit" / "train"
        checkpoint = f"checkpoint={trained / 'checkpoints' / 'best.ckpt'}"
        int8 = ["precision=int8", "calibration.frames=4", "max_miou_drop=100"]
        places = {
            "train, nothing fits": (0, "train.py", [*brief, "paths.run_dir=DISK/run"]),
            "train, the first checkpoint": (2_000, "train.py", [*brief, "paths.run_dir=DISK/run"]),
            "train, the second checkpoint": (12_000, "train.py", [*brief, "paths.run_dir=DISK/run"]),
            "train, a later checkpoint": (22_000, "train.py", [*RUN, "paths.run_dir=DISK/run"]),
            "train, with W&B": (2_000, "train.py", [*brief, "logger=wandb", "paths.run_dir=DISK/run"]),
            "train, store": (
                300,
                "train.py",
                [*brief, "data.store=DISK/store", f"paths.run_dir={home / 'store-run'}"],
            ),
            "train, streets": (
                200,
                "train.py",
                [*brief, "data.root=DISK/streets", f"paths.run_dir={home / 'streets'}"],
            ),
            "eval, predictions": (40, "eval.py", [checkpoint, "split=train", "save_predictions=DISK/labels"]),
            "eval, its folder": (0, "eval.py", [checkpoint, "paths.run_dir=DISK/eval"]),
            "predict": (60, "predict.py", [checkpoint, f"input={photos}", "output=DISK/out"]),
            "export, onnx": (1_000, "export.py", [checkpoint, "output=DISK/net.onnx"]),
            "export, openvino": (1_000, "export.py", [checkpoint, "format=openvino", "output=DISK/net.xml"]),
            "export, int8": (600, "export.py", [checkpoint, "format=openvino", *int8, "output=DISK/net.xml"]),
            "export, torch": (1_000, "export.py", [checkpoint, "format=torch", "output=DISK/net.pt2"]),
            "export, safetensors": (1_000, "export.py", [checkpoint, "format=safetensors", "output=DISK/net"]),
            "compare": (12, "compare.py", [f"runs={home}", "output=DISK/compare"]),
        }
        for place, (kib, script, settings) in places.items():
            with small_disk(max(kib, 64)) as folder:
                if kib < 64:
                    (folder / "filler").write_bytes(bytes((64 - kib) * 1024))
                given = [setting.replace("DISK", str(folder)) for setting in settings]
                code, _, error = finish(start(home, script, *given, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
                left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
                empty = [path for path in left if (folder / path).stat().st_size == 0 and not path.endswith(".lock")]
                record = folder / "run" / "run.json"
                said = unplaced(error, {str(folder): "DISK", str(home): "HOME"}).splitlines()
                found[place] = {
                    "room_kib": kib,
                    "exit_code": code,
                    "tracebacks": error.count("Traceback (most recent call last)"),
                    "said": said[-4:],
                    "half_written_files": [path for path in left if UNFINISHED in path or path.endswith(".tmp")],
                    "empty_files": empty,
                    "files_left": len([path for path in left if path != "filler"]),
                    "record": json.loads(record.read_text(encoding="utf-8"))["status"] if record.exists() else None,
                }
                print(place, json.dumps(found[place], indent=1), flush=True)
    return {"what": "a file system with so much room; what the command said, and what it left", "found": found}


def load(arguments):
    content = json.loads((ROOT / "results" / "busy_machine.json").read_text(encoding="utf-8"))
    variants = {"before": content["variants"]["before"], "after": content["variants"]["default"]}
    names = ("alone", "beside", "slower", "rounds")
    found = {name: {key: variant[key] for key in names} for name, variant in variants.items()}
    return {"what": f"{content['what']}; from results/busy_machine.json", "found": found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=["kills", "disk", "load"])
    parser.add_argument("--kills", type=int, default=8, help="of each number of workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the runs are made; by default the system's own")
    parsed = parser.parse_args()
    part = {"kills": kills, "disk": disk, "load": load}[parsed.part](parsed)
    result = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    result[parsed.part] = part | measured()
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
