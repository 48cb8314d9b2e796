"""The benchmark from file to file: its two ways do the same, and its numbers follow from what they return."""

import sys
from pathlib import Path

import pytest

from fastscnn.inference.segmenter import Segmenter
from fastscnn.predict.inputs import find_sources
from fastscnn.predict.predict import Request

ROOT = Path(__file__).parents[3]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import predict_files

    return predict_files


@pytest.mark.parametrize("case", ["32x64.png", "32x64.jpg"])
def test_both_ways_write_the_same_files(benchmark, tmp_path, case):
    benchmark.write_frames(tmp_path / "in", case, drawn=2, links=2)
    segmenter = Segmenter.from_checkpoint(benchmark.CHECKPOINT, device="cpu", threads=1)
    written = {}
    for way in (benchmark.overlapped, benchmark.one_after_the_other):
        request = Request(tmp_path / way.__name__)
        numbers = benchmark.measured(segmenter, find_sources(tmp_path / "in", request.output), request, way)
        assert numbers["images_a_second"] > 0
        assert set(benchmark.PARTS) <= set(numbers["parts_ms"])
        written[way] = {file.name: file.read_bytes() for file in request.output.iterdir()}
    first, second = written.values()
    assert first == second
    assert len(first) == 4 * 2, "labels and an overlay of each"


def test_shares_and_ratios_follow_from_the_rounds(benchmark):
    def answer(rate, plain, network):
        parts = {"reading": 10, "network": network, "writing": 30} | {
            f"{part}, processor": 1 for part in benchmark.PARTS
        }
        ways = {
            benchmark.OVERLAPPED: {"images_a_second": rate, "processor_ms": 9, "parts_ms": {}},
            benchmark.PLAIN: {"images_a_second": plain, "processor_ms": 9, "parts_ms": parts},
        }
        return ways | {"images": 7}

    found = benchmark.summary([answer(12, 10, 60), answer(6, 5, 60), answer(30, 10, 60)])
    assert found["overlapped_to_one_after_the_other"] == pytest.approx(1.2)
    assert found["overlapped_to_network_alone"] == pytest.approx(12 * 0.06)
    assert found["images_a_second"]["network alone"] == pytest.approx(1000 / 60)
    assert found["share"] == pytest.approx({"reading": 0.1, "network": 0.6, "writing": 0.3})


def test_a_dry_run_never_writes_into_the_results(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["predict_files.py", "--dry-run"])
    with pytest.raises(SystemExit, match="2"):
        benchmark.parsed()
    assert "--output" in capsys.readouterr().err
