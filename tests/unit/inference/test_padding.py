"""Sizes that are no multiple of 32: padded for a network that was trained on multiples, in eval and everywhere else."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.data.transforms.normalize import normalize
from fastscnn.export.export import export
from fastscnn.export.verify import labels_by
from fastscnn.inference.backends.backends import TorchBackend
from fastscnn.inference.backends.cuda_graph import GraphRunner
from fastscnn.inference.backends.from_pixels import FromPixels
from fastscnn.inference.files.interface import Interface
from fastscnn.inference.loader import Trained
from fastscnn.inference.padding import padded, padding_multiple
from fastscnn.inference.segmenter import Segmenter
from fastscnn.training.segmentation import Segmentation
from helpers import SEGMENTATION, randomize_norms, save_module

pytestmark = pytest.mark.usefixtures("shallow_networks")

DATA = {"dataset": "camvid", "crop_size": [64, 96]}
IMAGE = np.random.default_rng(0).integers(0, 256, (72, 97, 3), dtype=np.uint8)


def config(crop=(64, 96), scale=1.0, name="fast_scnn", **data):
    return {"model": {"name": name}, "data": {"crop_size": crop, **data}, "resolution": {"scale": scale}}


@pytest.mark.parametrize(
    ("found", "multiple"),
    [
        (config(), 32),
        (config([240, 320]), 1),
        (config([240, 320], 2.0), 16),
        (config([192, 384], 0.5), 64),
        (config([192, 384], 0.25), 1),  # which the network sees as 48x96
        (config([64, 96], 0.3), 1),
        ({**config([240, 320]), "resolution": {"scale": 0.5, "trained_at": 2.0}}, 64),
        ({**config([360, 480]), "resolution": {"scale": 2.0, "trained_at": 1.0}}, 1),
        ({**config([240, 320]), "resolution": {"scale": 2.0, "trained_at": 1.0}}, 1),
        (config("full", frame_size=[1024, 2048]), 32),
        (config("full", frame_size=[1080, 1920]), 1),
        (config("full"), 1),
        (config(name="contextnet"), 1),
        ({"model": {"name": "fast_scnn"}}, 1),
        ({"model": {"name": "external"}, "data": {"dataset": "external"}}, 1),
    ],
)
def test_images_are_padded_as_the_crops_of_the_training_were(found, multiple):
    assert padding_multiple(found) == multiple


@pytest.mark.parametrize("size", [(64, 96), (65, 96), (1, 33), (72, 97)])
def test_padding_repeats_the_last_row_and_column_or_has_a_value(size):
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    down, right = -size[0] % 32, -size[1] % 32
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (0, down), (0, right)), mode="edge")
    assert (padded(images, 32).numpy() == expected).all()
    labels = padded(images[:, 0], 32, 255)
    assert labels.shape == (2, *expected.shape[-2:])
    assert (labels[:, : size[0], : size[1]] == images[:, 0]).all()
    assert (labels[:, size[0] :] == 255).all()
    assert (labels[:, :, size[1] :] == 255).all()


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    found = Segmentation(SEGMENTATION | {"data": DATA}, CAMVID).eval()
    randomize_norms(found.network)
    return found


@pytest.fixture(scope="module")
def logits(module):
    """By torch alone: padded, through the network, upsampled and cut."""
    images = torch.from_numpy(np.pad(IMAGE, ((0, 24), (0, 31), (0, 0)), mode="edge")).permute(2, 0, 1)[None]
    with torch.inference_mode():
        coarse = module.network.coarse_logits(normalize(images))
        return F.interpolate(coarse, (96, 128), mode="bilinear", align_corners=False)[..., :72, :97]


def assert_agrees(labels, logits):
    highest = logits.topk(2, dim=1).values
    close = (highest[:, 0] - highest[:, 1]).numpy() < 1e-4
    assert labels.shape == close.shape
    assert ((np.asarray(labels) == logits.argmax(1).numpy()) | close).all()
    assert close.mean() < 0.01


def test_padding_changes_what_is_found(module, logits):
    images = torch.from_numpy(IMAGE).permute(2, 0, 1)[None]
    with torch.inference_mode():
        plain = F.interpolate(module.network.coarse_logits(normalize(images)), (72, 97), mode="bilinear")
    assert abs(plain - logits).max() > 0.01


def trained(module):
    return Trained(module.network, CAMVID, {**module.config, "data": DATA})


@pytest.mark.parametrize("kind", ["torch", "graph", "from_trained"])
def test_segmenter_pads_and_cuts(module, logits, kind):
    runner = GraphRunner(module.network, dtype=torch.float32, device="cpu") if kind == "graph" else None
    if kind == "from_trained":
        segmenter = Segmenter.from_trained(trained(module), backend="torch", device="cpu")
    else:
        segmenter = Segmenter(runner or FromPixels(TorchBackend(module.network)), CAMVID, multiple=32)
    assert_agrees(segmenter(IMAGE)[None], logits)
    labels, confidence = segmenter.confidence(IMAGE)
    assert_agrees(labels[None], logits)
    probabilities = logits.softmax(1).numpy()[0]
    np.testing.assert_allclose(confidence, probabilities.max(0), atol=1e-5)
    np.testing.assert_allclose(segmenter.probabilities(IMAGE), probabilities, atol=1e-5)
    out = np.empty((11, 72, 97), np.float32)
    np.testing.assert_allclose(segmenter.probabilities(IMAGE, out), probabilities, atol=1e-5)


def test_large_image_is_shrunk_and_then_padded(module):
    """Of 144x194 pixels seen at 72x97, padded to 96x128, which stands for 192x256."""
    large = IMAGE.repeat(2, 0).repeat(2, 1)
    segmenter = Segmenter(FromPixels(TorchBackend(module.network)), CAMVID, multiple=32, longest_side=97)
    images = torch.from_numpy(np.pad(IMAGE, ((0, 24), (0, 31), (0, 0)), mode="edge")).permute(2, 0, 1)[None]
    with torch.inference_mode():
        coarse = module.network.coarse_logits(normalize(images))
        logits = F.interpolate(coarse, (192, 256), mode="bilinear", align_corners=False)[..., :144, :194]
    assert_agrees(segmenter(large)[None], logits)


@pytest.mark.parametrize("measures", [False, True])
def test_evaluation_pads_alike_and_its_pixels_are_those_of_the_image(module, logits, measures):
    labels = torch.randint(0, 11, (1, 72, 97), dtype=torch.uint8)
    batch = {"image": torch.from_numpy(IMAGE).permute(2, 0, 1)[None], "label": labels}
    module.confusion.reset()
    module.calibration = module.fit = None
    if measures:
        module.measure_calibration(fit=True)
    with torch.inference_mode():
        predictions = module.test_step(batch, 0)["predictions"]
        assert_agrees(predictions, logits)
        assert_agrees(module.predict_labels(batch["image"]), logits)
        torch.testing.assert_close(module(batch["image"]), logits, rtol=1e-4, atol=1e-4)
    assert module.confusion.compute().sum() == 72 * 97
    if measures:
        assert sum(one["pixels"] for one in module.calibration.compute()["bins"]) == 72 * 97


def test_network_evaluated_at_another_resolution_is_padded_as_it_was_trained(tmp_path):
    """Trained on crops of 240x320 that it saw at 480x640."""
    data = {"dataset": "camvid", "crop_size": [240, 320]}
    module = Segmentation(SEGMENTATION | {"data": data, "resolution": {"name": "double", "scale": 2.0}}, CAMVID)
    file = save_module(module, tmp_path / "best.ckpt")
    for name, scale, multiple in (("double", 2.0, 16), ("full", 1.0, 32), ("half", 0.5, 64)):
        found = Segmentation.from_checkpoint(file, resolution={"name": name, "scale": scale})
        assert found.multiple == multiple
    assert Segmentation.from_checkpoint(file).multiple == 16


def test_what_a_file_costs_is_measured_with_padding(module, logits):
    """As `export.py` evaluates a file before it is quantized: by the file's logits of padded images."""
    interface = Interface("normalized", "logits", 11, 1.0, 8, 32)

    def run(prepared):
        with torch.inference_mode():
            return module.network.coarse_logits(torch.from_numpy(prepared)).numpy()

    found = labels_by(run, interface)(torch.from_numpy(IMAGE).permute(2, 0, 1)[None])
    assert_agrees(found, logits)


@pytest.mark.parametrize("write", ["labels", "logits"])
def test_exported_file_is_given_images_as_the_network_is(module, logits, tmp_path, write):
    pytest.importorskip("onnxruntime")
    export(trained(module), tmp_path / "net.onnx", format="onnx", write=write)
    segmenter = Segmenter.from_checkpoint(tmp_path / "net.onnx", longest_side=None)
    assert segmenter.multiple == 32
    assert_agrees(segmenter(IMAGE)[None], logits)
