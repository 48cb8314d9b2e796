"""Images in one folder a class: files, transforms, batches."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from fastscnn.data.datamodules.build import build_image_data
from fastscnn.data.datamodules.imagenet import ImageNetData
from fastscnn.data.datasets.frames import DataError
from fastscnn.data.datasets.images import read_rgb, seeded, train_transform
from helpers import refused, write_class_folders

AUGMENT = {
    "name": "imagenet",
    "scale": [0.25, 1.0],
    "flip": 0.5,
    "color_jitter": 0.4,
    "auto_augment": "rand-m6-n2",
    "mixup": 0.0,
    "cutmix": 0.0,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    write_class_folders(root / "train")
    write_class_folders(root / "val", images=2, seed=1)
    return root


def build(root, augment=None, **settings):
    data = {"root": root, "crop_size": [32, 48], "crop_pct": 0.875, "batch_size": 4, "num_workers": 0}
    return build_image_data(data | settings, augment, seed=settings.pop("seed", 0))


def epoch_of(data, epoch):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    order = torch.cat([batch["index"] for batch in batches])
    return torch.cat([batch["image"] for batch in batches])[order.argsort()]


def test_batches_hold_uint8_images_of_the_crop_size_and_their_classes(root):
    data = build(root, AUGMENT)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 3, 32, 48)
    assert batch["image"].dtype == torch.uint8
    assert batch["target"].dtype == torch.int64
    assert batch["source"] == ["imagenet"] * 4
    for name, target in zip(batch["name"], batch["target"], strict=True):
        assert name.startswith(data.classes.names[target])
    assert data.source_counts("train") == {"imagenet": 12}
    assert not data.evaluates_on_train


def test_every_val_image_is_judged_once(root):
    names = [name for batch in build(root).val_dataloader() for name in batch["name"]]
    assert len(set(names)) == len(names) == 6


def test_bare_class_folders_are_both_train_and_val(root):
    data = build(root / "train")
    assert data.frames("train") == data.frames("val")
    assert data.evaluates_on_train


def test_augmentation_depends_on_seed_epoch_and_image_alone(root):
    data = build(root, AUGMENT)
    first = epoch_of(data, 0)
    workers = epoch_of(build(root, AUGMENT, num_workers=2), 0)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    assert torch.equal(first, epoch_of(build(root, AUGMENT), 0))
    assert torch.equal(first, workers)
    assert not torch.equal(first, epoch_of(data, 1))
    assert not torch.equal(first, epoch_of(build(root, AUGMENT, seed=1), 0))


def test_seeding_gives_the_global_generators_back():
    def draw():
        return random.random(), np.random.rand(), float(torch.rand(1))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    draw()
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    draw()
    with seeded(2**64 - 1):
        inside = draw()
    assert draw() == expected
    with seeded(2**64 - 1):
        assert draw() == inside


def test_without_augmentation_the_centre_is_taken(root):
    image = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8))
    data = build(root, {"name": "none"}, crop_size=[32, 32], crop_pct=0.5)
    assert np.array_equal(data.transform(image), np.asarray(image)[16:48, 16:48].transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1", "I;16"])
def test_images_of_any_colour_mode_are_read_as_rgb(mode, tmp_path):
    file = tmp_path / ("image.JPEG" if mode in ("L", "CMYK") else "image.png")
    Image.new(mode, (30, 20)).save(file)
    assert read_rgb(file).mode == "RGB"
    assert read_rgb(file).size == (30, 20)


def test_orientation_and_wrong_extension_do_not_matter(tmp_path):
    """ImageNet has a PNG named JPEG, and turned photographs that every published result reads as they lie on disk."""
    image = Image.new("RGB", (30, 20))
    image.save(tmp_path / "png.JPEG", format="png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.JPEG", exif=exif)
    assert read_rgb(tmp_path / "png.JPEG").size == read_rgb(tmp_path / "turned.JPEG").size == (30, 20)


def test_broken_image_is_named_also_from_a_worker(tmp_path):
    root = write_class_folders(tmp_path)
    broken = root / "n00000001" / "n00000001_00.JPEG"
    broken.write_bytes(broken.read_bytes()[:200])
    for workers in (0, 1):
        with pytest.raises(DataError, match=str(broken)):
            list(build(root, num_workers=workers).train_dataloader())


def test_wrong_folders_are_refused_with_the_layout(root, tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    write_class_folders(tmp_path / "only" / "train")
    write_class_folders(tmp_path / "more" / "train", classes=2)
    write_class_folders(tmp_path / "more" / "val", classes=3)
    (tmp_path / "empty" / "n00000000").mkdir(parents=True)
    for folder, fact in (
        (None, "not set"),
        (tmp_path / "nothing", "does not exist"),
        (tmp_path / "val", "class folder"),
        (tmp_path / "empty", "no valid file"),
        (tmp_path / "only", "no val/"),
        (tmp_path / "more", "n00000002"),
    ):
        with refused("data.root", fact):
            build(folder).setup("fit")
    with refused("split", "test"):
        build(root).frames("test")


def test_wrong_settings_are_refused(root):
    for augment, settings, key in (
        (None, {"crop_size": "full"}, "data.crop_size"),
        (None, {"crop_size": [0, 8]}, "data.crop_size"),
        (None, {"crop_pct": 0}, "data.crop_pct"),
        (None, {"evaluate_test": True}, "data.evaluate_test"),
        ({"name": "paper"}, {}, "augment.name"),
        (AUGMENT | {"scale": [0.5, 2.0]}, {}, "augment.scale"),
        (AUGMENT | {"flip": 2}, {}, "augment.flip"),
        (AUGMENT | {"color_jitter": -1}, {}, "augment.color_jitter"),
        (None, {"batch_size": 0}, "data.batch_size"),
        (None, {"num_workers": -1}, "data.num_workers"),
        (None, {"max_pixels": 0}, "data.max_pixels"),
    ):
        with refused(key):
            build(root, augment, **settings)


def test_ranks_share_the_images_of_one_order(root):
    class Place:
        world_size, num_devices, accumulate_grad_batches, current_epoch = 2, 2, 1, 0

    seen = []
    for rank in (0, 1):
        data = ImageNetData(root=root, crop_size=[16, 16], batch_size=4, num_workers=0)
        data.trainer = Place()
        data.trainer.global_rank = rank
        seen += [index for batch in data.train_dataloader() for index in batch["index"].tolist()]
    assert sorted(seen) == list(range(12))


def test_training_transform_keeps_to_its_crop_size_and_gives_uint8():
    pixels = train_transform([20, 24], color_jitter=0.4)(Image.new("RGB", (100, 50)))
    assert pixels.shape == (3, 20, 24)
    assert pixels.dtype == torch.uint8
