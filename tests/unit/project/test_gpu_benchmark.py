"""The GPU benchmark's own logic, on the CPU."""

import json
import math
import re
import sys
from pathlib import Path

import pytest
import torch

from fastscnn.kernels.cuda import depthwise, separable
from fastscnn.kernels.cuda.choice import Choice

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


def test_variants_differ_from_what_is_usual(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_variants

    makers = dict(gpu_variants.variants(None, torch.device("cuda"), [], Path("layers.json")))
    assert makers[gpu_variants.MEASURED].args[0] == Path("layers.json")
    module, constant, value, _ = makers[gpu_variants.FILTERS].args
    assert getattr(module, constant) != value
    choices = {name: make.keywords["choice"] for name, make in makers.items() if "choice" in make.keywords}
    assert len(set(choices.values())) == 6 and choices[gpu_variants.ONE_AFTER_ANOTHER] == Choice()


EACH_WAITS_FOR_THE_OTHER = """
import pathlib, sys, time
folder = pathlib.Path(__file__).parent
(folder / sys.argv[-1]).touch()
while not all((folder / name).exists() for name in ("one", "two")):
    time.sleep(0.02)
(folder / f"{sys.argv[-1]} ended").touch()
"""


def test_our_programs_are_compiled_by_a_process_for_each_variant_at_one_time(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_variants

    script = tmp_path / "script.py"
    script.write_text(EACH_WAITS_FOR_THE_OTHER)
    monkeypatch.setattr(sys, "argv", [str(script), "--few"])
    gpu_variants.compile_ours(["one"], 0.2)  # it waits for ever, and is not waited for
    (tmp_path / "one").unlink(missing_ok=True)
    gpu_variants.compile_ours(["one", "two"], 60)
    assert (tmp_path / "one ended").exists() and (tmp_path / "two ended").exists()


def test_a_variant_is_run_at_each_size_so_that_it_is_compiled(benchmark, monkeypatch):
    import gpu_inference

    ran = []
    monkeypatch.setattr(gpu_inference, "variants", lambda *_: [("one", None), ("two", lambda: ran.append)])
    benchmark("--dry-run", "--compile", "two", "--sizes", "16x24", "8x8", "--output", "nowhere")
    assert [tuple(frame.shape) for frame in ran] == [(1, 16, 24, 3), (1, 8, 8, 3)]


def test_choices_are_tried_at_each_size_and_not_kept_in_a_dry_run(benchmark, monkeypatch, tmp_path):
    import gpu_choices

    def microseconds(network, frame, engine, rounds, choice):
        return math.inf if choice.walks else 9 - choice.overlaps

    monkeypatch.setattr(gpu_choices, "microseconds", microseconds)
    monkeypatch.setattr(gpu_choices, "keep", None)
    output = tmp_path / "choices.json"
    monkeypatch.setattr(sys, "argv", ["gpu_choices.py", "--dry-run", "--output", str(output)])
    gpu_choices.main()
    sizes = json.loads(output.read_text())["sizes"]
    assert {name: size["chosen"] for name, size in sizes.items()} == {
        "1024x2048": {"overlaps": 2, "walks": False, "label_tile": [8, 64, 4]},
        "512x1024": {"overlaps": 2, "walks": False, "label_tile": [8, 64, 4]},
    }


def test_a_choice_that_a_gpu_cannot_compute_is_the_slowest(benchmark, monkeypatch):
    import gpu_choices

    frame = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    ran = []
    monkeypatch.setattr(gpu_choices, "GraphRunner", lambda network, **options: ran.append)
    assert 0 < gpu_choices.microseconds(None, frame, "torch", 2, Choice()) < math.inf and len(ran) == 41
    monkeypatch.setattr(gpu_choices, "GraphRunner", None)
    assert gpu_choices.microseconds(None, frame, "torch", 2, Choice()) == math.inf


def test_each_layer_runs_as_it_was_measured_best(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu_layers

    layers = gpu_layers.layers_of((64, 128))
    assert sum(layer["count"] for layer in layers.values()) == 14, "two, nine bottlenecks, the fusion, two"
    found = {}
    for number, (name, layer) in enumerate(layers.items()):
        listed = [way for way, *_ in gpu_layers.ways(layer)]
        found[name] = dict.fromkeys(listed, 9.0) | {listed[number % len(listed)]: 1.0}
    assert gpu_layers.totals(found, layers)["best"] == 14
    best = [{**layers[name], "way": gpu_layers.best_way(layers[name], times)} for name, times in found.items()]
    ran = gpu_layers.chosen_by(json.loads(json.dumps(best)))

    def now(features, taps, taps_bias, weight, **geometry):
        return separable.APART, depthwise.form_of(1, 1, 1, 1), separable.product_shares(1, 1)

    monkeypatch.setattr(gpu_layers, "depthwise_pointwise", now)
    for name, layer in layers.items():
        (way,) = (way for way, us in found[name].items() if us == 1)
        weight = torch.empty(layer["shape"][3], layer["outputs"], device="meta")
        features = torch.empty(layer["shape"], device="meta")
        apart, form, shares = ran(features, None, None, weight, stride=layer["stride"], dilation=layer["dilation"])
        assert way in ("one launch", gpu_layers.name_of(form), f"two, {tuple(shares)}"), name
        assert (apart > layer["shape"][3]) == (way == "one launch"), name
    assert now(None, None, None, None) == ran(features, None, None, weight, stride=7, dilation=1), "another layer's"


def test_scripts_take_the_options_that_the_parts_give_them():
    script = (ROOT / "benchmarks" / "gpu.sh").read_text().replace("\\\n", " ")
    calls = re.findall(r"benchmarks/(gpu_\w+\.py)([^;]*?);;", script)
    assert {name for name, _ in calls} >= {"gpu_training.py", "gpu_loss.py", "gpu_throughput.py"}
    for name, given in calls:
        source = (ROOT / "benchmarks" / name).read_text()
        taken = set(re.findall(r'add_argument\("(--[\w-]+)"', source))
        assert set(re.findall(r"(?<!\S)--[a-z][\w-]*", given)) <= taken, name
