"""int8 files: calibrated, evaluated, refused if they cost too much."""

import logging

import crashing_runtime
import pytest
import torch

from fastscnn.export import quantize as room
from fastscnn.export import quantizers
from fastscnn.export.export import export
from fastscnn.export.quantize import FLOAT32_PARTS, Calibration, Quantized
from fastscnn.inference.files.external import ExternalRun
from fastscnn.inference.files.interface import test_images as smooth_images
from fastscnn.inference.files.runtimes import SUFFIXES
from fastscnn.utils.errors import RequestError
from helpers import refused, shallow_network, trained_network

pytestmark = pytest.mark.usefixtures("forked_runtimes")
IMAGES = smooth_images([(1, 64, 96)] * 4)
NEEDED = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino", "nncf")}


@pytest.fixture(scope="module")
def network():
    return shallow_network()


def agreement(network):
    """An evaluation against the float32 network's own labels: 1 if all labels are the same."""
    with torch.inference_mode():
        from fastscnn.data.transforms.normalize import normalize

        truth = [network.network(normalize(image)).argmax(1) for image in IMAGES]

    def evaluate(labels):
        right = [(labels(image) == true).float().mean() for image, true in zip(IMAGES, truth, strict=True)]
        return float(torch.stack(right).mean())

    return evaluate


@pytest.mark.parametrize("format", list(NEEDED))
@pytest.mark.parametrize("build", [shallow_network, pytest.param(trained_network, marks=pytest.mark.slow)])
def test_int8_file_is_smaller_and_gives_nearly_the_same_labels(tmp_path, build, format):
    for package in NEEDED[format]:
        pytest.importorskip(package)
    network = build()
    target = tmp_path / f"net{SUFFIXES[format]}"
    calibration = Calibration(IMAGES, agreement(network), max_drop=100)
    done = export(network, target, format=format, calibration=calibration)
    assert done.quantized.before > 0.999
    assert done.quantized.after > 0.5, "chance is 0.09"
    float32 = 4 * sum(parameter.numel() for parameter in network.network.parameters())
    weights = target.with_suffix({"onnx": ".onnx", "openvino": ".bin"}[format])
    assert weights.stat().st_size < 0.6 * float32
    smallest = done.quantized.smallest.side
    with ExternalRun(target, format) as run:
        for batch, height, width in ((1, smallest, smallest), (2, 33, 65)):
            labels = run(torch.zeros(batch, 3, height, width, dtype=torch.uint8).numpy())
            assert labels.shape == (batch, height, width)
        miou = calibration.evaluate(lambda images: torch.from_numpy(run(images.numpy())))
    assert miou == pytest.approx(done.quantized.after)
    assert {path.name for path in tmp_path.iterdir()} == {file.name for file in done.files}


def test_drop_above_the_limit_is_refused_after_every_choice_and_leaves_nothing(network, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    tried = crashing_runtime.copying(monkeypatch)
    scores = iter([0.7, 0.6, 0.62, 0.61, 0.5])
    calibration = Calibration(IMAGES, lambda labels: next(scores), max_drop=1)
    with refused("max_miou_drop", "8.00 points of mIoU", "70.00 to 62.00", "max_miou_drop=1"):
        export(network, tmp_path / "net.onnx", calibration=calibration)
    assert tried == list(FLOAT32_PARTS)
    assert list(tmp_path.iterdir()) == []


def test_more_stays_in_float_until_the_drop_is_small_enough(network, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    tried = crashing_runtime.copying(monkeypatch)
    scores = iter([0.7, 0.68, 0.695])
    done = export(
        network, tmp_path / "net.onnx", calibration=Calibration(IMAGES, lambda labels: next(scores), max_drop=1)
    )
    assert tried == list(FLOAT32_PARTS[:2])
    assert done.quantized == Quantized(0.7, 0.695, FLOAT32_PARTS[1])
    assert "70.00 before, 69.50 after: 0.50 points lost; in float32 stay feature_fusion" in str(done.quantized)


@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_part_that_is_kept_is_float_in_the_file(network, tmp_path, monkeypatch, format):
    for package in NEEDED[format]:
        pytest.importorskip(package)
    monkeypatch.setattr(room, "FLOAT32_PARTS", (("feature_fusion/high",),))
    target = tmp_path / f"net{SUFFIXES[format]}"
    export(network, target, format=format, calibration=Calibration(IMAGES[:1], lambda labels: 1.0))
    assert float_weights(target, format) == 1


def float_weights(file, format):
    """Number of convolutions whose weights are float32."""
    if format == "onnx":
        import onnx

        graph = onnx.load(file).graph
        names = {tensor.name for tensor in graph.initializer}
        return sum(node.op_type == "Conv" and node.input[1] in names for node in graph.node)
    import openvino

    model = openvino.Core().read_model(str(file))
    found = 0
    for node in model.get_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            weight = node.input_value(1).get_node()
            while weight.get_type_name() == "Reshape":
                weight = weight.input_value(0).get_node()
            found += weight.get_type_name() == "Constant"
    return found


def test_limit_that_is_no_number_is_refused(network, tmp_path):
    with refused("max_miou_drop", "max_miou_drop=-1"):
        export(network, tmp_path / "net.onnx", calibration=Calibration(IMAGES, lambda labels: 1.0, max_drop=-1))


def test_warning_of_a_machine_with_cuda_and_without_a_gpu_is_not_printed(monkeypatch, tmp_path):
    def stop(*packages, **install):
        logger = logging.getLogger("torch.utils.cpp_extension")
        raise RequestError("the level is right" if not logger.isEnabledFor(logging.WARNING) else "it warns")

    monkeypatch.setattr(quantizers, "_packages", stop)
    with pytest.raises(RequestError, match="the level is right"):
        quantizers.openvino_int8(tmp_path / "a.onnx", tmp_path / "a.xml", (), [])
