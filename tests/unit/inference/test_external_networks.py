"""Networks of torchvision and of segmentation_models_pytorch: trained, read back, run by every backend, exported."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.data.transforms.normalize import normalize
from fastscnn.export.export import export
from fastscnn.inference.files.runtimes import SUFFIXES
from fastscnn.inference.loader import load_trained
from fastscnn.inference.segmenter import Segmenter
from fastscnn.runs.trust import check_trusted
from fastscnn.training.segmentation import Segmentation
from helpers import OPTIMIZER, SCHEDULER, SEGMENTATION, camvid_frames, refused

pytestmark = pytest.mark.usefixtures("forked_runtimes")
NETWORKS = {
    "torchvision": {
        "_target_": "torchvision.models.segmentation.lraspp_mobilenet_v3_large",
        "weights_backbone": None,
    },
    "smp": {
        "_target_": "segmentation_models_pytorch.Unet",
        "encoder_name": "tu-mobilenetv3_small_050",
        "encoder_weights": None,
        "decoder_channels": [32, 24, 16, 8, 8],
    },
}
TRUST = {"smp": "segmentation_models_pytorch"}


@pytest.fixture(scope="module", params=NETWORKS)
def checkpoint(request, tmp_path_factory):
    """The package, and a checkpoint of its network after two steps."""
    pytest.importorskip(TRUST.get(request.param, "torchvision"))
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    model = {"name": "external", "in_channels": 3, "multiple": "auto", "network": NETWORKS[request.param]}
    module = Segmentation(SEGMENTATION | {"model": model, "optimizer": OPTIMIZER, "scheduler": SCHEDULER}, CAMVID)
    assert not module.auxiliary
    before = next(module.network.parameters()).clone()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, enable_progress_bar=False, **quiet)
    trainer.fit(module, camvid_frames())
    assert not torch.equal(next(module.network.parameters()), before)
    trainer.save_checkpoint(folder / "last.ckpt")
    return request.param, folder / "last.ckpt"


@pytest.fixture(scope="module")
def trained(checkpoint):
    name, file = checkpoint
    return load_trained(file, trust=TRUST.get(name))


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_every_backend_gives_the_networks_own_probabilities(trained, backend):
    segmenter = Segmenter.from_trained(trained, backend=backend, device="cpu", threads=1)
    for shape in ((2, 33, 75, 3), (1, 1, 1, 3)):
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        with torch.inference_mode():
            expected = trained.network(normalize(torch.from_numpy(images).permute(0, 3, 1, 2))).softmax(1)
        np.testing.assert_allclose(segmenter.probabilities(images), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("format", ["onnx", "openvino", pytest.param("torch", marks=pytest.mark.slow), "safetensors"])
def test_every_format_is_written_and_agrees(checkpoint, trained, tmp_path, format):
    done = export(trained, tmp_path / f"net{SUFFIXES[format]}", format=format, write="logits")
    if format == "safetensors":
        again = load_trained(done.files[0].parent, trust=TRUST.get(checkpoint[0])).network
        images = torch.randn(1, 3, 40, 56)
        assert torch.equal(again(images), trained.network(images))
    else:
        assert done.comparison.largest is not None


def test_only_torchvisions_networks_are_read_without_trust(checkpoint):
    name, file = checkpoint
    if name in TRUST:
        with refused("model.network._target_", NETWORKS[name]["_target_"], fix=f"trust={TRUST[name]}"):
            load_trained(file)
    else:
        assert load_trained(file).network.body


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "torch.hub.load_state_dict_from_url",
        "torchvision.datasets.utils.download_url",
        "torchvision.models.get_model",
        "torchvision.models.resnet.os.system",
        "torchvision.models.segmentation.segmentation.load_state_dict_from_url",
        "timm.create_model",
        "segmentation_models_pytorch.from_pretrained",
    ],
)
def test_checkpoint_may_name_no_other_function_as_its_network(target):
    with refused("model.network._target_", target):
        check_trusted({"model": {"network": {"_target_": target}}}, source="file")
