"""A runtime that crashes is one sentence, and an int8 file that works from a size on is left with that size in it.

How it is left where it crashes on small images, and what takes it then, is in inference/test_exported.py.
"""

import crashing_runtime
import pytest

from fastscnn.export.export import export
from fastscnn.export.quantizers import QUANTIZERS
from fastscnn.inference.files import external
from fastscnn.inference.files.runtimes import NAMES, SUFFIXES
from fastscnn.utils.errors import Crash
from fastscnn.utils.machine import processor
from helpers import refused, shallow_network

pytestmark = pytest.mark.usefixtures("forked_runtimes")
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


@pytest.fixture(scope="module")
def network():
    return shallow_network()


@pytest.mark.parametrize("format", list(PACKAGES))
def test_crash_of_a_float32_file_is_one_sentence_and_leaves_nothing(network, tmp_path, monkeypatch, format):
    pytest.importorskip(PACKAGES[format])
    monkeypatch.setattr(external, "load", crashing_runtime.load_small_crashes)
    target = tmp_path / "new" / f"net{SUFFIXES[format]}"
    with pytest.raises(Crash) as caught:
        export(network, target, format=format)
    assert str(caught.value) == (
        f"output={target} is not written: {NAMES[format]} crashed (SIGSEGV) on 2 images of 16x8, on this processor: "
        f"{processor()}."
    )
    assert list(tmp_path.iterdir()) == []


def test_int8_file_that_is_wrong_on_small_images_is_left_with_its_smallest_side(network, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    crashing_runtime.as_int8(monkeypatch, "onnx", crashing_runtime.load_small_is_wrong)
    done = export(network, tmp_path / "net.onnx", calibration=crashing_runtime.calibration())
    assert done.quantized.smallest.side == 64
    assert "below, 3 images of 33x65: the output is uint8 [3, 1, 65], not uint8 [3, 33, 65]" in str(done.quantized)


def test_int8_file_that_crashes_on_large_images_is_not_left(network, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    crashing_runtime.as_int8(monkeypatch, "onnx", crashing_runtime.load_large_crashes)
    with pytest.raises(Crash, match=r"^output=.* is not written: .*crashed \(SIGABRT\) on 2 images of 360x480, on"):
        export(network, tmp_path / "net.onnx", calibration=crashing_runtime.calibration())
    assert list(tmp_path.iterdir()) == []


def test_int8_file_that_is_wrong_on_large_images_is_not_kept(network, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    crashing_runtime.as_int8(monkeypatch, "onnx", crashing_runtime.load_large_is_wrong)
    with refused("precision", "360x480", fix="precision=float32"):
        export(network, tmp_path / "net.onnx", calibration=crashing_runtime.calibration())
    assert list(tmp_path.iterdir()) == []


def test_crash_of_the_calibration_is_one_sentence_with_the_size_of_its_images(network, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(QUANTIZERS, "onnx", crashing_runtime.crash)
    words = r"ONNX Runtime crashed \(SIGSEGV\) calibrating int8 with 4 images of 64x96, on this processor"
    with pytest.raises(Crash, match=words):
        export(network, tmp_path / "net.onnx", calibration=crashing_runtime.calibration())
    assert list(tmp_path.iterdir()) == []
