"""The segmenter against plain torch, in every backend."""

import threading
from functools import partial

import cv2
import numpy as np
import pytest
import torch

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.data.transforms.normalize import normalize
from fastscnn.inference import segmenter as segmenter_module
from fastscnn.inference.backends import cuda_graph
from fastscnn.inference.backends.backends import TorchBackend, build_backend
from fastscnn.inference.backends.choose import Choice, choose
from fastscnn.inference.backends.cuda_graph import GraphRunner
from fastscnn.inference.backends.from_pixels import FromPixels
from fastscnn.inference.loader import Trained
from fastscnn.inference.preprocess import normalized, shrunk_size
from fastscnn.inference.segmenter import Segmenter
from fastscnn.models.fast_scnn import FastSCNN
from fastscnn.utils.errors import RequestError
from helpers import randomize_norms, refused


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    return Trained(randomize_norms(FastSCNN(5)).requires_grad_(False), CITYSCAPES, {})


@pytest.fixture(scope="module")
def segmenter(trained):
    return Segmenter(FromPixels(TorchBackend(trained.network)), trained.classes, threads=1)


def engine_of(trained, kind):
    """One of the CPU, or what runs as a graph on a GPU, which is computed without a graph on the CPU."""
    if kind == "torch":
        return FromPixels(TorchBackend(trained.network))
    return GraphRunner(trained.network, dtype=torch.float32, device="cpu")


def pictures(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def expected(trained, batch):
    with torch.inference_mode():
        return trained.network(normalize(torch.from_numpy(batch).permute(0, 3, 1, 2)))


def assert_agrees(labels, logits):
    """Labels are torch's, but where the two highest logits are within rounding."""
    highest = logits.topk(2, dim=1).values
    close = (highest[:, 0] - highest[:, 1]).numpy() < 1e-4
    assert ((labels == logits.argmax(1).numpy()) | close).all()
    assert close.mean() < 0.01


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(1, 1), (65, 3), (130, 71)])
def test_pixels_are_normalised_to_the_bit(layout, size):
    images = pictures(2, *size)
    out = torch.empty(2, 3, *size, memory_format=layout)
    assert normalized(images, out) is out
    assert torch.equal(out, normalize(torch.from_numpy(images).permute(0, 3, 1, 2)))


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_labels_are_those_of_the_network_at_every_size(trained, backend):
    if backend != "torch":
        pytest.importorskip("onnxscript", reason="writes the file that other runtimes read")
        pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    segmenter = Segmenter(FromPixels(build_backend(trained, backend, threads=1)), trained.classes)
    for batch in (
        pictures(1, 64, 96),
        pictures(2, 33, 75),
        pictures(2, 33, 75),
        pictures(2, 33, 75),
        pictures(1, 8, 9),
    ):
        labels = segmenter(batch)
        assert labels.dtype == np.uint8
        assert labels.shape == batch.shape[:3]
        assert_agrees(labels, expected(trained, batch))


def test_probabilities_are_those_of_the_network(trained, segmenter):
    batch = pictures(2, 40, 56)
    out = np.full((2, 5, 40, 56), np.nan, np.float32)
    assert segmenter.probabilities(batch, out) is out
    np.testing.assert_allclose(out, expected(trained, batch).softmax(1).numpy(), atol=1e-5)
    one = np.empty((5, 40, 56), np.float32)
    assert segmenter.probabilities(batch[1], one) is one
    np.testing.assert_allclose(one, out[1], atol=1e-6)
    np.testing.assert_allclose(segmenter.probabilities(batch[0]), out[0], atol=1e-6)
    with pytest.raises(ValueError, match="not float32"):
        segmenter.probabilities(batch, np.empty((2, 5, 40, 55), np.float32))


def test_what_runs_as_a_graph_on_a_gpu_gives_the_same(trained):
    """On the CPU the runner computes without a graph."""
    segmenter = Segmenter(GraphRunner(trained.network, dtype=torch.float32, device="cpu"), trained.classes)
    batch = pictures(2, 40, 56)
    assert_agrees(segmenter(batch), expected(trained, batch))
    out = np.empty((2, 5, 40, 56), np.float32)
    assert segmenter.probabilities(batch, out) is out
    np.testing.assert_allclose(out, expected(trained, batch).softmax(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(segmenter.probabilities(batch[0]), out[0], atol=1e-6)


@pytest.mark.parametrize("kind", ["torch", "graph"])
def test_confidence_is_the_probability_of_the_label_and_unknown_pixels_are_ignored(trained, segmenter, kind):
    if kind == "graph":
        segmenter = Segmenter(GraphRunner(trained.network, dtype=torch.float32, device="cpu"), trained.classes)
    batch = pictures(2, 40, 56)
    labels, confidence = segmenter.confidence(batch)
    assert (labels == segmenter(batch)).all()
    assert confidence.dtype == np.float32
    np.testing.assert_allclose(confidence, segmenter.probabilities(batch).max(1), atol=1e-5)
    limit = float(np.sort(confidence, axis=None)[confidence.size // 2])  # a pixel's own, which stays known
    known = segmenter(batch, unknown_below=limit)
    assert 0.4 < (known == 255).mean() < 0.6
    assert (known == np.where(confidence < limit, 255, labels)).all()
    one, other = segmenter([batch[0], batch[1]], unknown_below=limit)
    assert (one == known[0]).all()
    assert (other == known[1]).all()
    assert [found.shape for found in segmenter.confidence(batch[0])] == [(40, 56), (40, 56)]
    with pytest.raises(RequestError) as error:
        segmenter(batch, unknown_below=2)
    assert error.value.key == "unknown_below"


@pytest.mark.parametrize("kind", ["torch", "graph"])
def test_large_image_is_shrunk_for_the_network_and_its_output_is_not(trained, kind):
    """Against torch's own bilinear interpolation of the logits to the size of the image."""
    segmenter = Segmenter(engine_of(trained, kind), trained.classes, longest_side=64)
    batch = cv2.resize(pictures(16, 22), (176, 120), interpolation=cv2.INTER_CUBIC)[None].repeat(2, 0)
    batch[1] = 255 - batch[1]
    assert segmenter.seen_size((120, 176)) == (44, 64)
    shrunk = np.stack([cv2.resize(image, (64, 44), interpolation=cv2.INTER_AREA) for image in batch])
    with torch.inference_mode():
        coarse = trained.network.coarse_logits(normalize(torch.from_numpy(shrunk).permute(0, 3, 1, 2)))
        logits = torch.nn.functional.interpolate(coarse, (120, 176), mode="bilinear", align_corners=False)
    probabilities = logits.softmax(1).numpy()
    assert_agrees(segmenter(batch), logits)
    assert_agrees(segmenter(batch[0])[None], logits[:1])
    labels, confidence = segmenter.confidence(batch)
    assert_agrees(labels, logits)
    np.testing.assert_allclose(confidence, probabilities.max(1), atol=1e-5)
    np.testing.assert_allclose(segmenter.probabilities(batch), probabilities, atol=1e-5)
    out = np.empty((2, 5, 120, 176), np.float32)
    np.testing.assert_allclose(segmenter.probabilities(batch, out), probabilities, atol=1e-5)

    whole = Segmenter(engine_of(trained, kind), trained.classes)
    assert abs(whole.probabilities(batch) - probabilities).max() > 0.01
    small = batch[:, :44, :64]
    assert (whole(small) == segmenter(small)).all(), "what is no larger is seen as it is"


@pytest.mark.parametrize(
    ("longest", "frame_size", "expected"),
    [("auto", [40, 56], 84), ("auto", None, None), (100, [40, 56], 100), (None, [40, 56], None), (7, None, 7)],
)
def test_longest_side_is_one_and_a_half_training_frames_unless_it_is_set(trained, longest, frame_size, expected):
    data = {} if frame_size is None else {"frame_size": frame_size}
    known = Trained(trained.network, trained.classes, {"data": data})
    assert Segmenter.from_trained(known, backend="torch", device="cpu", longest_side=longest).longest_side == expected
    if longest == "auto":
        assert Segmenter.from_trained(known, backend="torch", device="cpu").longest_side == expected


def test_network_on_a_gpu_shrinks_and_pads_alike(trained, monkeypatch):
    """The GPU's branch, with what stands for a GPU here."""
    data = {"frame_size": [40, 56], "crop_size": [64, 96]}
    known = Trained(trained.network, trained.classes, {"model": {"name": "fast_scnn"}, "data": data})
    monkeypatch.setattr(segmenter_module, "choose", lambda *wishes: Choice("torch", "cuda", "float32"))
    monkeypatch.setattr(segmenter_module, "GraphRunner", partial(GraphRunner, device="cpu"))
    segmenter = Segmenter.from_trained(known)
    assert isinstance(segmenter._engine, GraphRunner)
    assert (segmenter.longest_side, segmenter.multiple) == (84, 32)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("multiple", [1, 32])
@pytest.mark.parametrize("kind", ["torch", "graph"])
def test_arrays_that_are_views_or_cannot_be_written_are_taken(trained, kind, multiple):
    """Such as `image[..., ::-1]` of OpenCV, and `np.asarray` of Pillow."""
    segmenter = Segmenter(engine_of(trained, kind), trained.classes, multiple=multiple)
    wide = pictures(1, 64, 192)[0]
    for view in (wide[..., ::-1], wide[::-1, 96:], wide[:, ::2]):
        assert (segmenter(view) == segmenter(view.copy())).all()
    expected = segmenter(wide)
    wide.flags.writeable = False
    assert (segmenter(wide) == expected).all()


@pytest.mark.parametrize("multiple", [1, 32])
@pytest.mark.parametrize("kind", ["torch", "graph"])
@pytest.mark.parametrize(("shape", "dtype"), [((5, 40, 55), np.float32), ((5, 1, 1), np.float32), ((5, 40, 56), float)])
def test_out_that_does_not_fit_is_refused(trained, kind, multiple, shape, dtype):
    segmenter = Segmenter(engine_of(trained, kind), trained.classes, multiple=multiple)
    with pytest.raises(ValueError, match="not float32"):
        segmenter.probabilities(pictures(1, 40, 56)[0], np.empty(shape, dtype))


@pytest.mark.parametrize("longest", [0, -1, 1.5, "big", True])
def test_longest_side_that_is_no_number_of_pixels_is_refused(trained, longest):
    with pytest.raises(RequestError) as error:
        Segmenter.from_trained(trained, backend="torch", device="cpu", longest_side=longest)
    assert error.value.key == "longest_side"
    with pytest.raises(RequestError):
        Segmenter.from_pretrained("streets", longest_side=longest)


@pytest.mark.parametrize(
    ("size", "longest", "smallest", "seen"),
    [
        ((3000, 4000), 720, 1, (540, 720)),
        ((4000, 3000), 720, 1, (720, 540)),
        ((720, 720), 720, 1, (720, 720)),
        ((10, 4000), 400, 1, (1, 400)),
        ((2, 4000), 40, 1, (1, 2000)),
        ((64, 640), 100, 32, (32, 320)),
        ((20, 640), 100, 32, (20, 640)),
        ((3000, 4000), None, 1, (3000, 4000)),
    ],
)
def test_shrunk_image_keeps_its_shape_and_the_smallest_side(size, longest, smallest, seen):
    assert shrunk_size(size, longest, smallest) == seen


@pytest.mark.parametrize("kind", ["torch", "onnx", "openvino", "graph"])
def test_calibrated_network_gives_probabilities_of_its_temperature_and_the_same_labels(trained, kind):
    calibrated = Trained(trained.network, trained.classes, {"calibration": {"temperature": 2.5}})
    if kind == "graph":
        runner = GraphRunner(trained.network, dtype=torch.float32, temperature=calibrated.temperature, device="cpu")
        segmenter = Segmenter(runner, trained.classes)
    else:
        if kind != "torch":
            pytest.importorskip("onnxscript", reason="writes the file that other runtimes read")
            pytest.importorskip({"onnx": "onnxruntime"}.get(kind, kind))
        segmenter = Segmenter.from_trained(calibrated, backend=kind, device="cpu", threads=1)
    batch = pictures(2, 40, 56)
    logits = expected(trained, batch)
    found = (logits / 2.5).softmax(1).numpy()
    np.testing.assert_allclose(segmenter.probabilities(batch), found, atol=1e-5)
    np.testing.assert_allclose(segmenter.confidence(batch)[1], found.max(1), atol=1e-5)
    assert_agrees(segmenter(batch), logits)


def test_one_image_a_list_files_and_tensors_are_taken(segmenter, tmp_path):
    one, other = pictures(40, 56), pictures(24, 32)
    cv2.imwrite(str(tmp_path / "a.png"), one[:, :, ::-1])
    labels = segmenter(one)
    assert labels.shape == (40, 56)
    several = segmenter([one, other, tmp_path / "a.png", str(tmp_path / "a.png"), torch.from_numpy(one)])
    assert [found.shape for found in several] == [(40, 56), (24, 32), (40, 56), (40, 56), (40, 56)]
    for found in (several[0], *several[2:]):
        assert (found == labels).all()
    assert (segmenter(one[:, ::-1]) == segmenter(one[:, ::-1].copy())).all(), "a view that is not contiguous"


def test_results_stay_when_the_next_image_comes(segmenter):
    first = segmenter(pictures(40, 56))
    kept = first.copy()
    segmenter(255 - pictures(40, 56))
    assert (first == kept).all()


@pytest.mark.parametrize(("shape", "dtype"), [((4, 4, 3), "f4"), ((4, 4), "u1"), ((4, 4, 4), "u1"), ((0, 4, 3), "u1")])
def test_what_is_no_image_is_refused_with_what_it_is(segmenter, shape, dtype):
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\].*this is"):
        segmenter(np.zeros(shape, dtype))


def test_missing_file_and_wrong_choices_are_one_sentence(trained, segmenter, tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        segmenter(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("choices", "key"),
    [
        ({"backend": "tensorrt"}, "backend"),
        ({"backend": "triton", "device": "cpu"}, "backend"),
        ({"backend": "onnx", "device": "cuda"}, "device"),
        ({"device": "tpu"}, "device"),
        ({"precision": "int4"}, "precision"),
        ({"backend": "torch", "device": "cpu", "precision": "float16"}, "precision"),
        ({"backend": "onnx", "precision": "bfloat16"}, "precision"),
    ],
)
def test_choices_that_do_not_go_together_are_refused_before_the_checkpoint_is_read(tmp_path, choices, key):
    with pytest.raises(RequestError) as error:
        Segmenter.from_checkpoint(tmp_path / "none.ckpt", **choices)
    assert error.value.key == key
    assert error.value.fix


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
@pytest.mark.parametrize(("choices", "key"), [({"device": "cuda"}, "device"), ({"backend": "triton"}, "backend")])
def test_a_gpu_that_is_not_there_is_refused(tmp_path, choices, key):
    with pytest.raises(RequestError) as error:
        Segmenter.from_checkpoint(tmp_path / "none.ckpt", **choices)
    assert error.value.key == key


def test_without_a_gpu_auto_is_torch_in_float32():
    assert choose(device="cpu") == ("torch", "cpu", "float32")
    assert choose("compile", "cpu", "bfloat16") == ("compile", "cpu", "bfloat16")


@pytest.mark.parametrize(
    ("capability", "programs", "taken", "words"),
    [((9, 0), True, "triton", None), ((7, 5), True, "torch", "8.0"), ((9, 0), False, "torch", "no layer")],
)
def test_auto_takes_triton_on_a_gpu_or_says_why_not(trained, monkeypatch, capsys, capability, programs, taken, words):
    """A GPU is played by the CPU, on which a runner computes without a graph."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reason = None if capability >= (8, 0) else "it needs a GPU of compute capability 8.0 or newer"
    monkeypatch.setattr(cuda_graph, "obstacle", lambda device: reason)
    monkeypatch.setattr(segmenter_module, "GraphRunner", partial(GraphRunner, device="cpu"))
    if not programs:
        none = property(lambda self: [], lambda self, value: None)
        monkeypatch.setattr(cuda_graph.TritonNetwork, "programs", none, raising=False)
    found = Segmenter.from_trained(trained, precision="float32")
    assert isinstance(found._engine._logits, cuda_graph.TritonNetwork) == (taken == "triton")
    said = capsys.readouterr().err
    assert words in said if words else said == ""


def test_a_missing_package_is_named_with_its_command(trained, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with refused("backend", "onnxruntime", fix="pip install onnxruntime"):
        build_backend(trained, "onnx")


def test_several_threads_may_call_it_at_once(trained, segmenter):
    batches = [pictures(40 + 8 * n, 56) for n in range(4)]
    alone = [segmenter(batch) for batch in batches]
    together = {}

    def work(number):
        for _ in range(5):
            together.setdefault(number, []).append(segmenter(batches[number]))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number, labels in enumerate(alone):
        assert all((found == labels).all() for found in together[number])


def test_the_number_of_torch_threads_is_given_back(segmenter):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        segmenter(pictures(16, 16))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
