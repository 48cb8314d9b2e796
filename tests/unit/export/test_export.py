"""Exported files in their own runtimes against the network, at sizes that no bin divides."""

import json
import resource
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.data.transforms.normalize import normalize
from fastscnn.export.export import check_request, export
from fastscnn.export.verify import compare
from fastscnn.inference.export_graph import ExportGraph
from fastscnn.inference.export_layers import BinAverages, LineAverages, shrink
from fastscnn.inference.files.interface import SIZES
from fastscnn.inference.files.runtimes import SUFFIXES, load
from fastscnn.inference.onnx_file import write_onnx
from fastscnn.models.blocks import downscale
from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import WriteError
from helpers import refused, shallow_network

PACKAGE = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
FORMATS = list(PACKAGE)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network; and for each runtime that is installed a file that ends with logits, and what runs it."""
    network = shallow_network()
    files = {}
    for format in FORMATS:
        try:
            file = tmp_path_factory.mktemp(format) / f"net{SUFFIXES[format]}"
            export(network, file, format=format, write="logits")
            files[format] = file, load(file, format)
        except RequestError as error:
            assert "not installed" in str(error)
    return network, files


def file_of(exported, format):
    pytest.importorskip(PACKAGE[format])
    return exported[0], exported[1][format]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("batch", "height", "width"), [(1, 1, 1), (2, 8, 8), (1, 97, 203), (3, 33, 65), (1, 224, 32), (2, 161, 7)]
)
def test_one_file_gives_the_networks_logits_at_every_size(exported, format, batch, height, width):
    network, (_, run) = file_of(exported, format)
    images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network.network.coarse_logits(normalize(images))
    logits = torch.from_numpy(run(images.numpy()))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_labels_and_probabilities_are_at_the_images_size(tmp_path):
    pytest.importorskip("onnxruntime")
    network = shallow_network(skip="zero", activation="relu6")
    images = torch.randint(0, 256, (2, 3, 75, 50), dtype=torch.uint8)
    with torch.inference_mode():
        full = F.interpolate(network.network.coarse_logits(normalize(images)), (75, 50), mode="bilinear")
    for write, expected in (("labels", full.argmax(1).to(torch.uint8)), ("probabilities", full.softmax(1))):
        file = tmp_path / f"{write}.onnx"
        export(network, file, write=write)
        answer = torch.from_numpy(load(file, "onnx")(images.numpy()))
        assert answer.dtype == expected.dtype
        if write == "labels":
            assert (answer != expected).sum() <= 1
        else:
            torch.testing.assert_close(answer, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7, 12, 32, 33])
def test_bin_averages_are_adaptive_pooling(length):
    features = torch.randn(2, 3, length, 17)
    sizes = [(1, 1), (2, 2), (3, 5), (6, 6)]
    for size, averages in zip(sizes, BinAverages(sizes)(features), strict=True):
        torch.testing.assert_close(averages, F.adaptive_avg_pool2d(features, size))
    for size in ((None, 2), (3, None), (None, None)):
        (averages,) = BinAverages([size])(features)
        torch.testing.assert_close(averages, F.adaptive_avg_pool2d(features, size))


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.3, 0.75])
def test_shrinking_inside_the_graph_is_the_networks_own(scale):
    graph = ExportGraph(shallow_network(scale=scale))
    for height, width in ((1, 1), (2, 3), (5, 6), (9, 10), (33, 65), (50, 97), (64, 128)):
        images = torch.randn(1, 3, height, width)
        shrunk = shrink(shrink(images, 2, graph.scale), 3, graph.scale)
        torch.testing.assert_close(shrunk, downscale(images, scale).contiguous())


@pytest.mark.parametrize("scale", [1.5, 2.0])
def test_enlarging_inside_the_graph_is_the_networks_own(scale):
    graph = ExportGraph(shallow_network(scale=scale), output="logits").eval()
    network = shallow_network(scale=scale).network
    for height, width in ((1, 1), (2, 3), (33, 65)):
        images = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
        expected = network.coarse_logits(downscale(normalize(images), scale))
        torch.testing.assert_close(graph(images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_file_of_a_network_at_another_resolution_takes_whole_images(tmp_path, scale):
    pytest.importorskip("onnxruntime")
    network = shallow_network(scale=scale)
    comparison = export(network, tmp_path / "net.onnx", write="logits").comparison
    assert comparison.shapes == SIZES
    with refused("input", fix="input=uint8"):
        export(network, tmp_path / "other.onnx", input="normalized")


@pytest.mark.parametrize("write", ["labels", "logits", "probabilities"])
def test_graph_that_disagrees_is_refused_and_leaves_nothing(tmp_path, monkeypatch, write):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(
        LineAverages,
        "forward",
        lambda self, length: torch.ones(len(self.number), length) / length,  # one bin, whatever was asked
    )
    with refused("format", "net.onnx is not kept", "image"):
        export(shallow_network(), tmp_path / "net.onnx", write=write)
    assert list(tmp_path.iterdir()) == []


def test_file_that_knows_one_size_only_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = shallow_network()
    graph = ExportGraph(network, output="logits")
    write_onnx(graph, tmp_path / "fixed.onnx", size=(97, 203))
    run = load(tmp_path / "fixed.onnx", "onnx")
    compare(run, graph, network, [(1, 97, 203)])
    with pytest.raises(RequestError, match="2 images of 97x203"):
        compare(run, graph, network, [(2, 97, 203)])


def test_labels_may_differ_at_ties_alone():
    network = shallow_network()
    graph = ExportGraph(network)

    def run(images):
        with torch.inference_mode():
            return graph(torch.from_numpy(images)).numpy()

    assert compare(run, graph, network).changed <= 1
    with pytest.raises(RequestError, match="1 of 16 labels"):
        compare(lambda images: one_changed(run(images)), graph, network, [(1, 4, 4)])
    with pytest.raises(RequestError, match="labels"):
        compare(lambda images: run(images) + np.uint8(100), graph, network, [(1, 4, 4)])


def one_changed(labels):
    labels[0, 1, 1] = (labels[0, 1, 1] + 5) % CAMVID.num_classes
    return labels


def test_one_onnx_file_has_everything_in_it(exported):
    onnx = pytest.importorskip("onnx")
    _, (file, _) = file_of(exported, "onnx")
    assert [path.name for path in file.parent.iterdir()] == ["net.onnx"]
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    described = {entry.key: entry.value for entry in model.metadata_props}
    assert [entry["name"] for entry in json.loads(described["classes"])] == list(CAMVID.names)
    assert json.loads(described["mean"]) == [0.485, 0.456, 0.406]
    assert described["input"].startswith("images: RGB")
    assert not {"BatchNormalization", "AveragePool"} & {node.op_type for node in model.graph.node}


def test_openvino_and_torch_files_describe_themselves_too(exported):
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().read_model(str(file_of(exported, "openvino")[1][0]))
    assert model.get_rt_info(["fastscnn", "precision"]).value == "float32"
    weights = [node for node in model.get_ops() if node.get_type_name() == "Constant" and len(node.shape) == 4]
    assert {node.get_element_type().get_type_name() for node in weights} == {"f32"}
    files = {"fastscnn.json": ""}
    torch.export.load(file_of(exported, "torch")[1][0], extra_files=files)
    assert json.loads(files["fastscnn.json"])["data"] == "CamVid"


@pytest.mark.parametrize(
    ("key", "choices", "fix"),
    [
        ("format", {"format": "tensorrt"}, "onnx, openvino, torch, safetensors"),
        ("output", {"output": "net.pb"}, "Set output=net.onnx"),
        ("write", {"write": "mask"}, "labels, logits, probabilities"),
        ("precision", {"format": "torch", "output": "a.pt2", "precision": "int8"}, "format=onnx"),
        ("precision", {"precision": "int4"}, "float32, bfloat16, int8"),
    ],
)
def test_wrong_choices_are_refused_with_the_right_ones(key, choices, fix):
    with refused(key, fix=fix):
        check_request(**{"format": "onnx", "output": "net.onnx"} | choices)


def test_what_is_there_is_kept_unless_overwriting_is_asked_for(tmp_path):
    (tmp_path / "net.onnx").write_text("mine")
    with refused("output", fix="overwrite=true"):
        check_request("onnx", tmp_path / "net.onnx")
    assert check_request("onnx", tmp_path / "net.onnx", overwrite=True) == tmp_path / "net.onnx"
    with refused("output", "is a file"):
        check_request("safetensors", tmp_path / "net.onnx")


def test_peer_is_refused_where_its_file_would_be_wrong(tmp_path):
    network = replace(shallow_network(), network=torch.nn.Identity(), config={"model": {"name": "enet"}})
    with refused("format", "enet", fix="format=safetensors"):
        export(network, tmp_path / "net.onnx")


@contextmanager
def small_files(size):
    """Files of this process and its children cannot grow further: what a full disk looks like to the one who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("format", list(SUFFIXES))
def test_full_disk_is_one_sentence_that_names_the_output_and_leaves_nothing(tmp_path, format):
    pytest.importorskip(PACKAGE.get(format, "torch"))
    target = tmp_path / f"net{SUFFIXES[format]}"
    network = shallow_network()
    with small_files(2**15), pytest.raises(WriteError, match=rf"^{target} cannot be written \(File too large\)$"):
        export(network, target, format=format)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_refused_before_anything_is_computed():
    with refused("output", "output=/proc/self/new"):
        check_request("onnx", "/proc/self/new/net.onnx")
    with refused("output", "output=/proc/self/new"):
        check_request("safetensors", "/proc/self/new")
