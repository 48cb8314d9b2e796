"""`python src/export.py` as a user calls it."""

import json

import numpy as np
import pytest

from helpers import REPO

PROGRAMS = REPO / "tests" / "programs"
CRASHING = """
import runpy, sys

sys.path.insert(0, {tests!r})
if __name__ == "__main__":
    import crashing_runtime
    from fastscnn.inference.files import external

    external.load = crashing_runtime.load_small_crashes
    runpy.run_path({export!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def checkpoint(trained):
    return f"checkpoint='{trained[1] / 'checkpoints' / 'best.ckpt'}'"


def test_onnx_file_is_compared_and_explained(run, checkpoint, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    done = run("export.py", checkpoint, "format=onnx", "output=files/net.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "labels differ" in done.stdout
    assert 'InferenceSession("files/net.onnx")' in done.stdout
    session = runtime.InferenceSession(str(tmp_path / "files" / "net.onnx"))
    images = np.zeros((2, 3, 41, 67), np.uint8)
    (labels,) = session.run(None, {"images": images})
    assert (labels.dtype, labels.shape) == (np.uint8, (2, 41, 67))
    metrics = session.get_modelmeta().custom_metadata_map["metrics"]
    assert "val/miou" in json.loads(metrics)
    again = run("export.py", checkpoint, "format=onnx", "output=files/net.onnx", cwd=tmp_path)
    assert again.returncode == 2
    assert "overwrite=true" in again.stderr


@pytest.mark.slow
def test_int8_says_what_it_costs_and_is_refused_where_that_is_too_much(run, checkpoint, tmp_path):
    pytest.importorskip("nncf")
    arguments = [checkpoint, "format=openvino", "precision=int8", "calibration.frames=3"]
    done = run("export.py", *arguments, "output=net.xml", "max_miou_drop=50", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "before" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    wrong = run("export.py", *arguments, "data=camvid", "data.root=x", "output=other.xml", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "Leave data= out" in wrong.stderr


def test_safetensors_folder_is_a_checkpoint_for_the_next_export(run, checkpoint, trained, tmp_path):
    pytest.importorskip("onnxruntime")
    done = run("export.py", checkpoint, "format=safetensors", "output=net", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    best = json.loads((trained[1] / "run.json").read_text())["metrics"]["best"]
    assert json.loads((tmp_path / "net" / "config.json").read_text())["metrics"] == best
    done = run("export.py", "checkpoint=net", "output=net.onnx", "write=logits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout


def test_crash_of_a_runtime_is_one_sentence_with_exit_code_1_and_leaves_nothing(run, checkpoint, tmp_path):
    pytest.importorskip("onnxruntime")
    script = tmp_path / "crashing.py"
    script.write_text(CRASHING.format(tests=str(PROGRAMS), export=str(REPO / "src" / "export.py")), encoding="utf-8")
    done = run(script, checkpoint, "format=onnx", "output=files/net.onnx", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    words = "failed: output=files/net.onnx is not written: ONNX Runtime crashed (SIGSEGV) on 2 images of 16x8, on this"
    assert done.stderr.startswith(words)
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [script]


def test_folder_that_cannot_be_written_is_one_sentence(run, tmp_path):
    done = run("export.py", "checkpoint=none.ckpt", "output=/proc/self/new/net.onnx", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("output=/proc/self/new cannot be written (")
    assert len(done.stderr.splitlines()) == 1


def test_wrong_choice_is_one_sentence(run, checkpoint, tmp_path):
    done = run("export.py", checkpoint, "format=openvino", "output=net.onnx", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == "output=net.onnx: format=openvino writes a .xml file. Set output=net.xml."
