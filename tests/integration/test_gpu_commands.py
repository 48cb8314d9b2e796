"""Every command on a GPU, as a user calls it, on tiny data. (tests/unit has the programs that run there.)"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from helpers import REPO, command

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    pytest.mark.xdist_group("gpu_commands"),
]
CSV = "logger=csv"
CACHE = {"TRITON_CACHE_DIR": os.environ.get("TRITON_CACHE_DIR", str(Path.home() / ".triton" / "cache"))}
"""Programs that were compiled once stay: commands have a home of their own in the tests."""


def make(target, *arguments, cwd):
    """`make TARGET` with the Python of this process as its environment, so that it installs nothing."""
    environment = cwd / "venv"
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (environment / ".installed").touch()
    variables = command("train.py", cwd=cwd, **CACHE)["env"]
    call = ["make", target, f"VENV={environment}", f"ARGS={' '.join(arguments)}"]
    return subprocess.run(call, cwd=REPO, env=variables, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def checkpoint(run, cityscapes, tmp_path_factory):
    """Of a run of `make train` with the defaults of a GPU."""
    cwd = tmp_path_factory.mktemp("gpu")
    settings = ["data=fine", f"data.root={cityscapes}", "data.batch_size=2", "trainer.max_epochs=2", CSV]
    settings.append(f"paths.run_dir={cwd / 'run'}")
    done = make("train", *settings, cwd=cwd) if shutil.which("make") else run("train.py", *settings, cwd=cwd, **CACHE)
    assert done.returncode == 0, done.stderr
    record = json.loads((cwd / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert torch.cuda.get_device_name() in json.dumps(record["device"])
    return cwd / "run" / "checkpoints" / "best.ckpt"


def test_eval_repeats_the_validation_of_the_training(run, checkpoint, tmp_path):
    output = tmp_path / "evaluated"
    done = run("eval.py", f"checkpoint={checkpoint}", f"paths.run_dir={output}", cwd=tmp_path, **CACHE)
    assert done.returncode == 0, done.stderr
    best = json.loads((checkpoint.parents[1] / "run.json").read_text())["metrics"]["best"]["val/miou"]
    found = json.loads((output / "eval.json").read_text())["metrics"]["val/miou"]
    assert abs(found - best) < 2, "bf16 in both, by other algorithms of cuDNN"


def test_predict_labels_as_the_cpu_does(run, checkpoint, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (1, 6, 8, 3), np.uint8)[0].repeat(16, 0).repeat(16, 1)
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), image)
    labels = {}
    for device in ("cuda", "cpu"):
        call = [f"checkpoint={checkpoint}", "input=photos", f"output={device}", "write=[labels]", f"device={device}"]
        done = run("predict.py", *call, cwd=tmp_path, **CACHE)
        assert done.returncode == 0, done.stderr
        labels[device] = cv2.imread(str(tmp_path / device / "a_labels.png"), cv2.IMREAD_UNCHANGED)
    assert (labels["cuda"] != labels["cpu"]).mean() < 0.2, "float16 of a network that has learnt little"


def test_export_writes_what_the_network_says(run, checkpoint, tmp_path):
    pytest.importorskip("onnxruntime")
    done = run("export.py", f"checkpoint={checkpoint}", "format=onnx", "output=net.onnx", cwd=tmp_path, **CACHE)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "net.onnx").is_file()


def test_benchmark_runs_beside_a_gpu(run, checkpoint, tmp_path):
    call = [f"checkpoint={checkpoint}", "models=[fast_scnn]", "backends=[torch]", "sizes=[[64,128]]", "threads=[1]"]
    call += ["frames=5", "warm_up=1", "rounds=1", "seconds=1", "write=[labels]", "output=benchmark.json"]
    done = run("benchmark.py", *call, cwd=tmp_path, **CACHE)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "benchmark.json").read_text())
