"""Timing side by side, and the tables of what was timed."""

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fastscnn.benchmark import timing
from fastscnn.benchmark.benchmark import measure
from fastscnn.benchmark.timing import Variant, interleave
from fastscnn.reports import speed
from helpers import BENCHMARK_SETTINGS, refused


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the variants move."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def variant(clock, seconds, calls, name):
    durations = itertools.cycle(seconds)

    def run():
        calls.append(name)
        clock[0] += next(durations)

    return Variant({"name": name}, run)


def test_variants_take_turns_and_each_is_measured_as_often_as_asked(clock):
    calls = []
    both = [variant(clock, [0.001], calls, "a"), variant(clock, [0.002], calls, "b")]
    interleave(both, frames=6, warm_up=2, rounds=3)
    assert [len(one.seconds) for one in both] == [6, 6]
    turns = [name for name, _ in itertools.groupby(calls)]
    assert turns == ["a", "b", "a", "b", "a", "b"], "the second round goes backwards, so that b has two turns in a row"
    assert both[0].summary()["ms"] == pytest.approx(1)
    assert both[1].summary()["fps"] == pytest.approx(500)


def test_slow_variant_gets_as_many_frames_as_fit(clock):
    calls = []
    slow, quick = variant(clock, [30.0], calls, "slow"), variant(clock, [0.1], calls, "quick")
    interleave([slow, quick], frames=100, warm_up=100, rounds=5, seconds=20)
    assert len(slow.seconds) == 2
    assert calls.count("slow") == 3, "one more, to see how slow it is"
    assert len(quick.seconds) == 100


def test_median_and_spread_are_those_of_the_calls(clock):
    one = variant(clock, [0.001, 0.002, 0.003, 0.004, 0.010], [], "a")
    interleave([one], frames=20, warm_up=1, rounds=1)
    summary = one.summary()
    assert summary["ms"] == pytest.approx(np.median(one.seconds) * 1e3)
    assert (summary["ms_min"], summary["ms_max"]) == pytest.approx((1, 10))
    assert summary["frames"] == 20


def test_every_variant_that_is_asked_for_is_measured_and_tabled(tmp_path):
    kept = []
    result = measure(BENCHMARK_SETTINGS, kept.append)
    assert kept[-1] == result
    found = {(row["runtime"], row["head"], row["output"]) for row in result["rows"]}
    outputs = {"labels", "probabilities", "files"}
    assert found == {
        *(("torch eager", "own", output) for output in outputs),
        *((runtime, "fused", output) for runtime in ("torch eager", "torch, ours") for output in outputs),
        *((runtime, "none", "logits") for runtime in ("torch eager", "torch, ours")),
    }
    assert all(row["ms"] > 0 and row["frames"] == 4 for row in result["rows"])
    differ = {
        (row["runtime"], row["head"]): row["labels_that_differ"] for row in result["rows"] if row["output"] == "labels"
    }
    assert differ[("torch eager", "own")] == 0
    assert max(differ.values()) < 0.01 * 64 * 96
    text = speed.markdown(result | {"title": "Table 6", "subtitle": "here"})
    ours = speed.best(result["rows"], "fast_scnn", (64, 96), heads=("own", "fused"))
    best_as = ours["runtime"] + {"own": "", "fused": " + fused head"}[ours["head"]]
    assert f"| Fast-SCNN | 1.14 (1.11) | {ours['fps']:.2f} | {best_as} |  |" in text
    pytest.importorskip("matplotlib")
    speed.plot(result | {"title": "Table 6", "subtitle": "here"}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_papers_number_stands_beside_its_size_and_card():
    row = {"model": "contextnet", "runtime": "torch eager", "precision": "float32", "head": "own", "output": "labels"}
    row |= {"height": 512, "width": 1024, "threads": 1, "ms": 50.0, "fps": 20.0, "ms_quartiles": [49, 51]}
    models = {"contextnet": {"name": "ContextNet", "parameters": 876_000, "paper_parameters": 0.85, "note": "n."}}
    ours = row | {"model": "fast_scnn", "head": "fused", "ms": 20.0, "fps": 50.0, "beside": "contextnet, torch eager"}
    models["fast_scnn"] = {"name": "Fast-SCNN", "parameters": 1, "note": "n."}
    text = speed.markdown({"title": "t", "subtitle": "s", "rows": [row, ours], "models": models})
    assert "| ContextNet | 0.88 (0.85) | 20.00 | torch eager | 2.50 |  | 136.2 (Titan X) |" in text


def test_any_onnx_file_is_one_more_model(tmp_path):
    """A file that gives each pixel's mean colour at half the size as logits of three classes."""
    nodes = [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, height, width])
        for name, height, width in (("x", 64, 96), ("y", 32, 48))
    ]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [5], [0.0] * 5)
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights])
    file = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    result = measure(BENCHMARK_SETTINGS | {"models": [], "onnx": str(file)})
    assert {(row["model"], row["output"]) for row in result["rows"]} == {("other", "logits"), ("other", "labels")}
    assert result["models"]["other"]["parameters"] == 5
    with refused("onnx", "32x32", fix="sizes="):
        measure(BENCHMARK_SETTINGS | {"models": [], "onnx": str(file), "sizes": [[32, 32]]})


def test_file_that_does_not_end_with_logits_is_refused_before_anything_is_timed(tmp_path):
    """What export.py writes without other settings: uint8 images in, labels out."""
    ends = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 64, 96]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 96]),
    ]
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["y"], keepdims=0, axes=[1]),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    file = tmp_path / "labels.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9), file)
    timed = []
    for setting in ("onnx", "int8"):
        backends = {"backends": ["torch", "openvino"]}
        with refused(setting, "labels.onnx", fix="input=normalized write=logits"):
            measure(BENCHMARK_SETTINGS | backends | {setting: str(file)}, timed.append)
    assert not timed


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("frames", 0),
        ("warm_up", -1),
        ("rounds", "two"),
        ("seconds", 0),
        ("keep_memory", "yes"),
        ("threads", [0]),
        ("models", ["unet"]),
        ("backends", ["tflite"]),
        ("write", ["masks"]),
        ("write", ["files"]),
        ("onnx", "none.onnx"),
        ("sizes", [256, 512]),
        ("sizes", []),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(setting, value):
    with refused(setting):
        measure(BENCHMARK_SETTINGS | {setting: value})


def test_a_peer_is_timed_in_turn_with_ours():
    pytest.importorskip("pytorchcv")
    result = measure(BENCHMARK_SETTINGS | {"models": ["fast_scnn", "contextnet"], "write": ["labels"]})
    peers = [row for row in result["rows"] if row["model"] == "contextnet"]
    beside = [row for row in result["rows"] if row.get("beside") == "contextnet, torch eager"]
    assert [(row["runtime"], row["head"]) for row in peers] == [("torch eager", "own")]
    assert [(row["model"], row["head"], row["output"]) for row in beside] == [("fast_scnn", "fused", "labels")]
    text = speed.markdown(result | {"title": "t", "subtitle": "s"})
    assert f"{peers[0]['ms'] / beside[0]['ms']:.2f}" in text
