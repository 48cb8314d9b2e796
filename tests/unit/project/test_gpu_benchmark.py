"""The GPU benchmark's own logic, on the CPU."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def benchmark(monkeypatch):
    """The script, in this process: it would import torch for seconds in one of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def main(*arguments):
        import gpu_inference

        monkeypatch.setattr(sys, "argv", ["gpu_inference.py", *arguments])
        gpu_inference.main()

    return main


def test_dry_run_checks_and_times_every_variant(benchmark, tmp_path):
    output = tmp_path / "gpu.json"
    benchmark("--dry-run", "--rounds", "1", "--peers", "nothing", "--output", str(output))
    result = json.loads(output.read_text())
    (size,) = result["sizes"].values()
    assert set(size["variants"]) == {"ours, torch fp32", "eager fp32"}
    assert "nothing eager" in size["left_out"], "a peer that cannot be built is told"
    assert all(entry["fused_labels_differ"] == 0 for entry in result["correctness"].values())
    assert result["machine"]["processor"]


def test_dry_run_never_writes_into_the_results(benchmark, capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmark("--dry-run")
    assert "--output" in capsys.readouterr().err


def test_scripts_take_the_options_that_the_parts_give_them():
    script = (ROOT / "benchmarks" / "gpu.sh").read_text().replace("\\\n", " ")
    calls = re.findall(r"benchmarks/(gpu_\w+\.py)([^;]*?);;", script)
    assert {name for name, _ in calls} >= {"gpu_training.py", "gpu_loss.py", "gpu_throughput.py"}
    for name, given in calls:
        source = (ROOT / "benchmarks" / name).read_text()
        taken = set(re.findall(r'add_argument\("(--[\w-]+)"', source))
        assert set(re.findall(r"(?<!\S)--[a-z][\w-]*", given)) <= taken, name
