"""OpenVINO files that may be computed in bfloat16: what it costs is measured, and the file says so."""

import json

import numpy as np
import pytest
import torch

from fastscnn.export import quantize as room
from fastscnn.export.export import export
from fastscnn.export.quantize import Calibration
from fastscnn.inference.files import exported
from fastscnn.inference.files.external import ExternalRun
from fastscnn.inference.files.runtimes import has_bfloat16, openvino_core, read_description
from fastscnn.inference.segmenter import Segmenter
from helpers import refused, shallow_network

pytest.importorskip("openvino")
pytestmark = pytest.mark.usefixtures("forked_runtimes")
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def network():
    return shallow_network()


def measured_as(monkeypatch, **miou):
    """Let the evaluation of each precision be a given number, also where the processor cannot compute in it."""

    def evaluated(file, format, interface, calibration, precision="float32"):
        assert format == "openvino"
        return miou[precision]

    monkeypatch.setattr(room, "_evaluated", evaluated)


def written(network, folder, **choices):
    calibration = Calibration((), lambda labels: 0.0, max_drop=1.0)
    export(network, folder / "net.xml", format="openvino", precision="bfloat16", calibration=calibration, **choices)
    return folder / "net.xml"


def test_file_says_what_bfloat16_cost_and_is_computed_in_it_where_the_processor_can(network, tmp_path, monkeypatch):
    measured_as(monkeypatch, float32=0.6, bfloat16=0.595)
    file = written(network, tmp_path)
    described = read_description(file)
    assert described["precision"] == "bfloat16"
    assert json.loads(described["miou"]) == {"float32": 0.6, "bfloat16": 0.595}
    assert described["processor"]
    can = has_bfloat16(openvino_core())
    assert exported.ExportedFile(file).precision == ("bfloat16" if can else "float32")
    assert exported.ExportedFile(file, precision="float32").precision == "float32"


def test_other_processors_compute_the_file_in_float32_and_say_so(network, tmp_path, monkeypatch, capsys):
    measured_as(monkeypatch, float32=0.6, bfloat16=0.6)
    file = written(network, tmp_path)
    monkeypatch.setattr(exported, "has_bfloat16", lambda core: False)
    labels = Segmenter.from_checkpoint(file)(IMAGE)
    assert "precision=auto takes float32" in capsys.readouterr().err
    assert np.array_equal(labels, Segmenter.from_checkpoint(file, precision="float32")(IMAGE))
    assert capsys.readouterr().err == ""


def test_bfloat16_that_costs_too_much_is_refused_and_leaves_nothing(network, tmp_path, monkeypatch):
    measured_as(monkeypatch, float32=0.6, bfloat16=0.58)
    with refused("max_miou_drop", "precision=bfloat16", "2.00 points", "60.00 to 58.00", "max_miou_drop=1"):
        written(network, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_is_for_openvino_alone(network, tmp_path):
    with refused("precision", "precision=bfloat16", "format=onnx", fix="format=openvino"):
        export(network, tmp_path / "net.onnx", format="onnx", precision="bfloat16")


def test_bfloat16_is_what_openvino_really_computes_in(network, tmp_path):
    if not has_bfloat16(openvino_core()):
        file = tmp_path / "net.xml"
        with refused("precision", "processor"):
            written(network, tmp_path)
        assert not file.exists()
        return
    file = written(network, tmp_path, write="logits", input="normalized")
    images = torch.randn(1, 3, 64, 96, generator=torch.manual_seed(0)).numpy()
    outputs = {}
    for precision in ("float32", "bfloat16"):
        with ExternalRun(file, "openvino", precision) as run:
            outputs[precision] = run(images)
    largest = np.abs(outputs["float32"]).max()
    apart = np.abs(outputs["bfloat16"] - outputs["float32"]).max()
    assert 1e-4 * largest < apart < 0.1 * largest, "another precision, and the same network"
    with torch.inference_mode():
        expected = network.network.coarse_logits(torch.from_numpy(images)).numpy()
    assert np.abs(outputs["float32"] - expected).max() < 1e-3 * largest
