"""What can be wrong with a training's data is found before anything is computed."""

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets.classes import CAMVID
from fastscnn.training.checks import check_device, check_heads
from fastscnn.training.fit import checked_data
from fastscnn.training.segmentation import Segmentation
from fastscnn.utils.errors import RequestError
from helpers import SEGMENTATION, job, refused, write_cityscapes


def camvid(root, devices, **counts):
    """A tiny CamVid with so many frames in each split."""
    for split, count in counts.items():
        for folder, shape in ((split, (8, 8, 3)), (f"{split}annot", (8, 8))):
            (root / folder).mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(root / folder / f"{number}.png"), np.zeros(shape, np.uint8))
    return SegmentationData(
        dataset="camvid", root=root, crop_size=(8, 8), batch_size=4, devices=devices, splits=("train", "val", "test")
    )


@pytest.mark.parametrize(("val", "test", "split"), [(1, 2, "val"), (2, 1, "test"), (2, 2, None)])
def test_every_device_needs_a_frame_of_each_split_that_is_evaluated(tmp_path, val, test, split):
    data = camvid(tmp_path, devices=2, train=4, val=val, test=test)
    if split is None:
        data.prepare_data()
        return
    with refused("trainer.devices", f"{split} has 1 frames", fix="Set trainer.devices=1 or fewer."):
        data.prepare_data()


def test_test_frames_without_labels_are_refused_before_a_frame_is_decoded(tmp_path):
    root = write_cityscapes(tmp_path / "cityscapes", size=(8, 8), train=4, val=2, test=2)
    data = SegmentationData(
        dataset="fine", root=root, crop_size=(8, 8), splits=("train", "val", "test"), store=tmp_path / "store"
    )
    with refused("data.root", "fine test", "testa_000000_000019", fix="Set data.evaluate_test=false."):
        data.prepare_data()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("accelerator", "device"), [("gpu", "gpu"), ("cpu", "auto"), ("cpu", "cpu"), ("cpu", None)])
def test_frames_may_lie_where_they_are_computed_with(accelerator, device):
    check_device({"data": {"device": device}, "trainer": {"accelerator": accelerator}})


def test_frames_on_a_gpu_that_computes_nothing_are_refused():
    with pytest.raises(RequestError) as refused:
        check_device({"data": {"device": "gpu"}, "trainer": {"accelerator": "cpu"}})
    assert refused.value.key == "data.device" and "data.device=auto" in refused.value.fix


@pytest.mark.parametrize(
    ("choices", "key"),
    [
        (["model=enet", "skip=zero"], "skip"),
        (["model=enet", "activation=relu6"], "activation"),
        (["model=enet", "pretrain=imagenet"], "pretrain"),
        (["data=camvid", "augment=imagenet"], "augment.name"),
        (["data=camvid", "loss=classification"], "loss"),
        (["experiment=imagenet_pretrain", "model=enet"], "model"),
        (["experiment=imagenet_pretrain", "skip=zero"], "skip"),
        (["experiment=imagenet_pretrain", "augment=paper"], "augment.name"),
        (["experiment=imagenet_pretrain", "loss=ohem"], "loss"),
    ],
)
def test_choices_that_make_no_sense_together_are_refused(choices, key):
    with job(*choices, "data.root=none", "trainer.accelerator=cpu") as config, refused(key):
        checked_data(OmegaConf.to_container(config, resolve=True))


def test_weight_of_auxiliary_heads_that_a_network_does_not_have_is_refused():
    settings = {"classes": CAMVID, "trains": True}
    peer = Segmentation(SEGMENTATION | {"model": {"name": "enet", "in_channels": 3}}, **settings)
    with refused("loss.auxiliary_weight", "0.4"):
        check_heads(peer, ["seed=1", "loss.auxiliary_weight=0.4"])
    check_heads(peer, ["seed=1"])
    check_heads(Segmentation(SEGMENTATION, **settings), ["loss.auxiliary_weight=0.4"])
