"""The GPU benchmark's own logic, on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def benchmark(*arguments):
    path = os.pathsep.join([str(ROOT / "src"), *sys.path])
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu_inference.py"), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_dry_run_checks_and_times_every_variant(tmp_path):
    output = tmp_path / "gpu.json"
    done = benchmark("--dry-run", "--rounds", "1", "--peers", "nothing", "--output", str(output))
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    (size,) = result["sizes"].values()
    assert set(size["variants"]) == {"ours, torch fp32", "eager fp32"}
    assert "nothing eager" in size["left_out"], "a peer that cannot be built is told"
    assert all(entry["fused_labels_differ"] == 0 for entry in result["correctness"].values())
    assert result["machine"]["processor"]


def test_dry_run_never_writes_into_the_results():
    done = benchmark("--dry-run")
    assert done.returncode == 2 and "--output" in done.stderr
