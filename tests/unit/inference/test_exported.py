"""Exported files in the place of a checkpoint, and int8 files that do not run below some size."""

from dataclasses import replace

import crashing_runtime
import cv2
import numpy as np
import pytest

from fastscnn.benchmark.benchmark import measure
from fastscnn.export.export import export
from fastscnn.inference.backends.backends import OnnxBackend, OpenVinoBackend, TorchBackend
from fastscnn.inference.backends.from_pixels import FromPixels
from fastscnn.inference.files import external
from fastscnn.inference.files.runtimes import SUFFIXES, describe, read_description
from fastscnn.inference.segmenter import Segmenter
from fastscnn.predict.manifest import digest
from fastscnn.predict.predict import predict
from fastscnn.utils.errors import Crash, RequestError
from fastscnn.utils.machine import processor
from helpers import BENCHMARK_SETTINGS, predict_settings, refused, shallow_network, write_image

pytestmark = pytest.mark.usefixtures("forked_runtimes")
SMALL = (2, 16, 8)


@pytest.fixture(scope="module")
def network():
    return shallow_network()


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def crashes_below_32(request, network, tmp_path_factory):
    """An int8 file that crashes below 32 pixels a side: normalised images in, logits out; and what its export gave."""
    pytest.importorskip({"onnx": "onnxruntime"}.get(request.param, request.param))
    file = tmp_path_factory.mktemp("files") / f"net{SUFFIXES[request.param]}"
    with pytest.MonkeyPatch.context() as patch:
        crashing_runtime.as_int8(patch, request.param)
        choices = {"input": "normalized", "write": "logits"}
        done = export(network, file, format=request.param, calibration=crashing_runtime.calibration(), **choices)
    return file, done


@pytest.fixture(scope="module")
def from_32(crashes_below_32):
    """That file."""
    return crashes_below_32[0]


def pictures(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def assert_agrees(found, expected):
    assert found.dtype == np.uint8
    assert (found != expected).mean() < 0.01, "ties to float32's rounding"


@pytest.mark.parametrize(
    ("format", "input", "write"),
    [("onnx", "uint8", "labels"), ("onnx", "uint8", "probabilities"), ("openvino", "normalized", "logits")],
)
def test_exported_file_is_taken_as_a_checkpoint_is(network, tmp_path, format, input, write):
    pytest.importorskip({"onnx": "onnxruntime"}.get(format, format))
    file = tmp_path / f"net{SUFFIXES[format]}"
    export(network, file, format=format, input=input, write=write)
    segmenter = Segmenter.from_checkpoint(file, threads=1)
    reference = Segmenter(FromPixels(TorchBackend(network.network)), network.classes)
    assert segmenter.classes == network.classes
    for images in (pictures(2, 33, 75), pictures(40, 56), pictures(1, 1), pictures(40, 56), pictures(40, 56)):
        assert_agrees(segmenter(images), reference(images))
    if write == "labels":
        with pytest.raises(RequestError) as error:
            segmenter.probabilities(images)
        assert "write=logits" in error.value.fix
        write_image(tmp_path / "a.png", pictures(8, 8))
        settings = predict_settings(file, tmp_path / "a.png", tmp_path / "out")
        for wish in ({"write": ["confidence"]}, {"unknown_below": 0.5}):
            with pytest.raises(RequestError) as error:
                predict(settings | wish)
            assert "write=logits" in error.value.fix
            assert not (tmp_path / "out").exists()
        return
    labels, confidence = segmenter.confidence(images)
    assert (labels == segmenter(images)).mean() > 0.99
    np.testing.assert_allclose(confidence, reference.confidence(images)[1], atol=1e-4)
    np.testing.assert_allclose(segmenter.probabilities(images), reference.probabilities(images), atol=1e-4)


@pytest.mark.parametrize(("input", "write"), [("uint8", "labels"), ("uint8", "probabilities"), ("uint8", "logits")])
def test_exported_file_sees_large_images_as_the_checkpoint_does(network, tmp_path, input, write):
    """The file knows the size of the frames; labels alone are enlarged as they are, in blocks."""
    pytest.importorskip("onnxruntime")
    known = replace(network, config={**network.config, "data": {"frame_size": [40, 56]}})
    file = tmp_path / "net.onnx"
    export(known, file, format="onnx", input=input, write=write)
    segmenter = Segmenter.from_checkpoint(file, threads=1)
    reference = Segmenter.from_trained(known, backend="torch", device="cpu", threads=1)
    assert segmenter.longest_side == reference.longest_side == 84
    assert Segmenter.from_checkpoint(file, longest_side=None).longest_side is None
    image = cv2.resize(pictures(10, 14), (210, 150), interpolation=cv2.INTER_CUBIC)
    labels = segmenter(image)
    assert labels.shape == image.shape[:2]
    if write == "labels":
        shrunk = cv2.resize(image, (84, 60), interpolation=cv2.INTER_AREA)
        small = Segmenter.from_checkpoint(file, longest_side=None)(shrunk)
        rows, columns = (np.arange(150) + 0.5) * 60 / 150, (np.arange(210) + 0.5) * 84 / 210
        assert (labels == small[rows.astype(int)][:, columns.astype(int)]).all()
        return
    assert (labels != reference(image)).mean() < 0.05
    np.testing.assert_allclose(
        segmenter.probabilities(image), reference.probabilities(image), atol=1e-4 if write == "logits" else 0.2
    )
    assert (segmenter.confidence(image)[0] == labels).mean() > 0.99


@pytest.mark.parametrize("multiple", ["0", "-32", "x"])
def test_damaged_multiple_of_a_file_is_refused(network, tmp_path, multiple):
    pytest.importorskip("onnxruntime")
    export(network, tmp_path / "net.onnx", format="onnx")
    describe(tmp_path / "net.onnx", "onnx", {"multiple": multiple})
    with refused("checkpoint", "is damaged"):
        Segmenter.from_checkpoint(tmp_path / "net.onnx")


def test_exported_network_is_calibrated_as_the_checkpoint_is(network, tmp_path):
    pytest.importorskip("onnxruntime")
    calibrated = replace(network, config={**network.config, "calibration": {"temperature": 3.0}})
    image = pictures(40, 56)
    expected = Segmenter.from_trained(calibrated, backend="torch", device="cpu").probabilities(image)
    assert abs(expected - Segmenter.from_trained(network, backend="torch").probabilities(image)).max() > 0.01
    for write in ("probabilities", "logits"):
        file = tmp_path / write / "net.onnx"
        export(calibrated, file, format="onnx", write=write)
        np.testing.assert_allclose(Segmenter.from_checkpoint(file).probabilities(image), expected, atol=1e-4)


def test_int8_file_that_crashes_on_small_images_is_left_with_its_smallest_side(crashes_below_32):
    file, done = crashes_below_32
    assert done.quantized.smallest.side == 32
    name = {".onnx": "ONNX Runtime", ".xml": "OpenVINO"}[file.suffix]
    words = f"runs from 32 pixels a side on; below, {name} crashed (SIGSEGV) on 2 images of 16x8"
    assert words in str(done.quantized)
    described = read_description(file)
    assert described["smallest_side"] == "32"
    assert described["input"].endswith("any batch; height and width from 32 up")
    assert described["processor"] == processor()
    assert described["data"] == "CamVid"
    assert {path.name for path in file.parent.iterdir()} == {part.name for part in done.files}


def test_smaller_image_is_enlarged_by_its_edge_and_the_answer_cut(from_32):
    segmenter = Segmenter.from_checkpoint(from_32)
    assert segmenter.smallest_side == 32
    run, seen = segmenter._engine._run, []
    segmenter._engine._run = lambda images: seen.append(images.shape[2:]) or run(images)
    small, wide, large = pictures(*SMALL), pictures(1, 16, 200), pictures(1, 40, 56)
    labels, probabilities = segmenter(small), segmenter.probabilities(small)
    assert labels.shape == SMALL
    assert probabilities.shape == (2, 11, 16, 8)
    enlarged = np.pad(small, ((0, 0), (0, 16), (0, 24), (0, 0)), mode="edge")
    assert_agrees(labels, segmenter(enlarged)[:, :16, :8])
    np.testing.assert_allclose(probabilities, segmenter.probabilities(enlarged)[:, :, :16, :8], atol=1e-5)
    out = np.full((11, 16, 8), np.nan, np.float32)
    assert segmenter.probabilities(small[0], out) is out
    np.testing.assert_allclose(out, probabilities[0], atol=1e-5)
    assert segmenter(wide).shape == (1, 16, 200)
    assert segmenter(large).shape == (1, 40, 56)
    assert set(seen) == {(32, 32), (32, 200), (40, 56)}
    backend = (OnnxBackend if from_32.suffix == ".onnx" else OpenVinoBackend)(from_32)
    other = Segmenter(FromPixels(backend), segmenter.classes)
    assert_agrees(other(small), labels)
    np.testing.assert_allclose(other.probabilities(small), probabilities, atol=1e-4)


def test_prediction_of_a_small_image_has_its_size_and_belongs_to_the_whole_file(from_32, tmp_path):
    (tmp_path / "photos").mkdir()
    assert cv2.imwrite(str(tmp_path / "photos" / "small.png"), pictures(16, 8))
    outcome = predict(predict_settings(from_32, tmp_path / "photos", tmp_path / "out", write=["labels"]))
    assert (outcome.done, outcome.failed) == (1, {})
    labels = cv2.imread(str(tmp_path / "out" / "small_labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (16, 8)
    if from_32.suffix == ".xml":
        weights, before = from_32.with_suffix(".bin"), digest(from_32)
        content = weights.read_bytes()
        weights.write_bytes(content + b"more")
        assert digest(from_32) != before
        weights.write_bytes(content)


def test_on_another_processor_the_smallest_side_is_looked_for_again(from_32, tmp_path, monkeypatch):
    file = copied(from_32, tmp_path)
    format = "onnx" if file.suffix == ".onnx" else "openvino"
    describe(file, format, {"processor": "one without AMX", "smallest_side": "1"})
    monkeypatch.setattr(external, "load", crashing_runtime.load_small_crashes)
    assert Segmenter.from_checkpoint(file).smallest_side == 32
    monkeypatch.setattr(external, "load", crashing_runtime.load_large_crashes)
    with pytest.raises(Crash, match=rf"^{file} does not run here: .* crashed \(SIGABRT\) on 2 images of 360x480"):
        Segmenter.from_checkpoint(file)


def test_sizes_below_are_refused_before_anything_is_timed(from_32):
    if from_32.suffix != ".xml":
        return
    asked = {"int8": str(from_32), "backends": ["torch", "openvino"], "sizes": [[64, 96], [16, 64]]}
    with refused("sizes", f"int8={from_32}", "32 pixels", "16x64"):
        measure(BENCHMARK_SETTINGS | asked)


def copied(file, folder):
    for part in (file, file.with_suffix(".bin")):
        if part.exists():
            (folder / part.name).write_bytes(part.read_bytes())
    return folder / file.name


def test_what_is_not_for_an_exported_file_is_one_sentence(from_32, tmp_path):
    other = {".onnx": "openvino", ".xml": "onnx"}[from_32.suffix]
    for wrong in ({"backend": other}, {"backend": "torch"}, {"device": "cuda"}, {"precision": "bfloat16"}):
        (name,) = wrong
        with pytest.raises(RequestError) as error:
            Segmenter.from_checkpoint(from_32, **wrong)
        assert (error.value.key, error.value.fix) == (name, f"Leave {name} out.")
    with refused("checkpoint", f"none{from_32.suffix}"):
        Segmenter.from_checkpoint(tmp_path / f"none{from_32.suffix}")
    file = copied(from_32, tmp_path)
    if file.suffix == ".xml":
        file.with_suffix(".bin").unlink()
        with refused("checkpoint", "net.bin"):
            Segmenter.from_checkpoint(file)
        file.with_suffix(".bin").touch()
    file.write_bytes(b"no such file")
    with refused("checkpoint", file):
        Segmenter.from_checkpoint(file)


def test_damaged_file_is_named_with_a_fix(from_32, tmp_path):
    parts = [from_32] if from_32.suffix == ".onnx" else [from_32.with_suffix(".bin"), from_32]
    for damaged in parts:
        for part in parts:
            data = part.read_bytes()
            (tmp_path / part.name).write_bytes(data[: len(data) // 2] if part == damaged else data)
        with refused("checkpoint", tmp_path / damaged.name, "is damaged or", fix="again"):
            Segmenter.from_checkpoint(tmp_path / from_32.name)
