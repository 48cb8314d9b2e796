"""The GPU benchmark's own logic, on the CPU."""

import json
import os
import re
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


def test_scripts_take_the_options_that_the_parts_give_them():
    script = (ROOT / "benchmarks" / "gpu.sh").read_text().replace("\\\n", " ")
    calls = re.findall(r"benchmarks/(gpu_\w+\.py)([^;]*?);;", script)
    assert {name for name, _ in calls} >= {"gpu_training.py", "gpu_loss.py", "gpu_throughput.py"}
    for name, given in calls:
        source = (ROOT / "benchmarks" / name).read_text()
        taken = set(re.findall(r'add_argument\("(--[\w-]+)"', source))
        assert set(re.findall(r"(?<!\S)--[a-z][\w-]*", given)) <= taken, name
