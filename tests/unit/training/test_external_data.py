"""`data=external`: a plain LightningDataModule of a library or of a user's own is trained on and evaluated."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, SubsetRandomSampler

from fastscnn.data.datamodules.adapted import Adapted
from fastscnn.data.datamodules.external import ExternalData, build_external
from fastscnn.data.datasets.classes import CAMVID
from fastscnn.reports.evaluation.page import write_page
from fastscnn.runs.effect import check_effect
from fastscnn.runs.identity import chosen_identity
from fastscnn.runs.record import read_record
from fastscnn.runs.renamed import with_companions
from fastscnn.training.evaluate import evaluate
from fastscnn.training.fit import checked_data, fit
from helpers import FAST, job, refused

pytestmark = pytest.mark.usefixtures("shallow_networks")

OWN = """
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def frames(count, seed):
    labels = torch.randint(0, 3, (count, 32, 64), generator=torch.manual_seed(seed))
    images = (labels[:, None] / 2).expand(-1, 3, -1, -1).contiguous()
    labels[:, :4] = -1
    return images, labels


class Plain(pl.LightningDataModule):
    def __init__(self, batch_size: int, normalize: bool = False, workers: int = 0):
        super().__init__()
        self.batch_size, self.normalize, self.workers = batch_size, normalize, workers
        self.stages = []

    def setup(self, stage):
        self.stages.append(stage)
        self.sets = {}
        for split, count in (("train", 8), ("val", 3), ("test", 2)):
            images, labels = frames(count, count)
            self.sets[split] = TensorDataset((images - MEAN) / STD if self.normalize else images, labels)

    def train_dataloader(self):
        return DataLoader(self.sets["train"], self.batch_size, shuffle=True, num_workers=self.workers)

    def val_dataloader(self):
        return DataLoader(self.sets["val"], 2)

    def test_dataloader(self):
        return DataLoader(self.sets["test"], 1)


class OnlyTrain(Plain):
    val_dataloader = pl.LightningDataModule.val_dataloader
    classes = ["a", "b", "c"]


class NoModule:
    pass
"""
NAMED = "data.module._target_=own_data.Plain"
CHOSEN = ["data=external", NAMED, "data.ignored=-1", "data.classes=[a,b,c]", "trainer.max_epochs=1", *FAST[:1]]


@pytest.fixture(autouse=True, scope="module")
def own_module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_data.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run on batches that the module normalises."""
    folder = tmp_path_factory.mktemp("external") / "run"
    own = ["+data.module.batch_size=4", "+data.module.normalize=true", "data.evaluate_test=true"]
    own += ["data.mean=[0.485,0.456,0.406]", "data.std=[0.229,0.224,0.225]", "pictures=1", "logger=csv"]
    with job(*CHOSEN, *own, f"paths.run_dir='{folder}'") as config:
        fit(config)
    return folder


def test_command_line_needs_no_other_group_than_data():
    given = with_companions(CHOSEN[:2])
    with job(*given) as config:
        check_effect(config, given)
        identity = chosen_identity(config)
    assert (identity.name, "augment" in identity.choices) == ("external", False)


def test_run_is_recorded_with_pictures_scores_and_the_modules_own_batch(trained):
    record = read_record(trained)
    assert record["dataset"]["module"] == "own_data.Plain"
    assert record["dataset"]["frames"] == {"train": {"external": 8}, "val": {"external": 3}}
    assert record["metrics"]["last"]["step"] == 2
    assert {"val/iou/a", "test/iou/c", "val/miou"} <= record["metrics"]["best"].keys()
    assert [file.name for file in (trained / "images").iterdir()] == ["val_000000_epoch0001.png"]
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["fastscnn"]["config"]["data"]["batch_size"] == 4


def test_checkpoint_is_evaluated_where_its_module_is_trusted(trained, tmp_path):
    best = trained / "checkpoints" / "best.ckpt"
    given = [f"checkpoint='{best}'", *FAST[:1], f"paths.run_dir='{tmp_path / 'eval'}'"]
    with job(*given, name="eval") as config, refused("data.module._target_", fix="trust=own_data"):
        evaluate(config)
    with job(*given, "trust=own_data", "report=true", name="eval") as config:
        scores = evaluate(config, write_page)
    assert scores.named("val")["val/miou"] == pytest.approx(read_record(trained)["metrics"]["best"]["val/miou"])
    assert len(list((tmp_path / "eval" / "images").iterdir())) == 3
    assert "<figcaption>frame 2 ·" in (tmp_path / "eval" / "report.html").read_text(), "its frames have no names"


def built(**settings):
    data = {"module": {"_target_": "own_data.Plain", "batch_size": 4}, "classes": ["a", "b", "c"], "ignored": -1}
    return build_external(data | settings)


def adapted(statistics=None, ignored=255):
    return Adapted(lambda batch: batch, "train", 3, ignored, statistics)


@pytest.mark.parametrize("kind", ["bytes", "floats", "normalised", "mapping"])
def test_any_kind_of_images_becomes_the_same_bytes(kind):
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    labels = torch.randint(0, 3, (2, 8, 8))
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.2, 0.3]
    floats = pixels / 255
    batch = {
        "bytes": (pixels, labels),
        "floats": [floats, labels[:, None]],
        "normalised": (
            (floats - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None],
            labels.to(torch.uint8),
        ),
        "mapping": {"image": floats, "mask": labels, "path": ["a", "b"]},
    }[kind]
    found = adapted((mean, std) if kind == "normalised" else None)(batch)
    assert torch.equal(found["image"], pixels)
    assert torch.equal(found["label"], labels.to(torch.uint8))
    assert kind != "mapping" or found["name"] == ["a", "b"]


@pytest.mark.parametrize(
    ("images", "labels", "fact", "fix"),
    [
        (torch.full((1, 3, 4, 4), 2.5), torch.zeros(1, 4, 4, dtype=torch.int64), "2.50", "data.mean"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), "[1, 1, 4, 4]", "RGB"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 2, dtype=torch.int64), "[1, 2, 2]", "size"),
        (torch.zeros(1, 3, 4, 4), torch.full((1, 4, 4), 7), "7", "data.ignored=7"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), "float32", "whole numbers"),
        (["a.png"], torch.zeros(1, 4, 4), "list", "RGB"),
    ],
)
def test_batch_that_cannot_be_meant_is_refused_and_described(images, labels, fact, fix):
    with refused("data.module", fact, fix=fix):
        adapted()((images, labels))


def test_module_is_set_up_once_for_each_stage_and_may_have_no_validation():
    data = built()
    data.prepare_data()
    for _ in range(2):
        data.setup("fit")
    data.setup("test")
    assert data.module.stages == ["fit", "test"]
    assert (data.batch_size, data.crop_size, data.validates) == (4, (32, 64), True)
    without = built(module={"_target_": "own_data.OnlyTrain", "batch_size": 4}, classes=None)
    assert (without.validates, without.classes.names) == (False, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("settings", "key", "fix"),
    [
        ({"module": {"_target_": "own_data.Plain", "batch_size": 4, "crop": 3}}, "data.module.crop", "~data.module"),
        ({"module": {"_target_": "own_data.Plain"}}, "data.module", ""),
        ({"module": {"_target_": "own_data.NoModule"}}, "data.module._target_", ""),
        ({"classes": None}, "data.classes", "[road,car,...]"),
        ({"mean": [0.5, 0.5, 0.5]}, "data.std", "data.std="),
    ],
)
def test_wrong_settings_of_a_module_are_refused(settings, key, fix):
    with refused(key, fix=fix):
        built(**settings)


def test_loader_that_is_none_of_torchs_is_refused():
    data = built()
    data.setup("fit")
    data.module.train_dataloader = lambda: [1, 2]
    with refused("data.module", "list", fix="DataLoader"):
        data.train_dataloader()


class Stream(IterableDataset):
    def __iter__(self):
        yield from [(torch.zeros(3, 8, 8), torch.zeros(8, 8, dtype=torch.int64))] * 4


class LongStream(Stream):
    def __len__(self):
        return 4


class Streamed(pl.LightningDataModule):
    def __init__(self, stream):
        super().__init__()
        self.stream = stream

    def train_dataloader(self):
        return DataLoader(self.stream, 2)


def test_stream_of_frames_is_taken_where_it_says_how_many_there_are():
    data = ExternalData(Streamed(LongStream()), CAMVID)
    data.setup("fit")
    assert (data.batch_size, len(data.frames("train"))) == (2, 4)
    with refused("data.module", "how many", fix="__len__"):
        ExternalData(Streamed(Stream()), CAMVID).setup("fit")


class Counted(pl.LightningDataModule):
    """Seven frames, each of its own grey."""

    def __init__(self, sampler):
        super().__init__()
        self.frames = [(torch.full((3, 8, 8), n, dtype=torch.uint8), torch.zeros(8, 8).long()) for n in range(7)]
        self.sampler = sampler

    def train_dataloader(self):
        return DataLoader(self.frames, 2, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.frames, 2, sampler=self.sampler)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [(None, range(7)), (RandomSampler(range(7)), range(7)), (SubsetRandomSampler([1, 5, 6]), [1, 5, 6])],
)
def test_evaluation_on_several_devices_counts_each_frame_once(sampler, expected):
    seen = []
    for rank in range(3):
        torch.manual_seed(rank)  # a device's own order
        data = ExternalData(Counted(sampler), CAMVID, devices=3)
        data.trainer = SimpleNamespace(world_size=3, global_rank=rank)
        loader = data.val_dataloader()
        assert isinstance(loader.sampler, DistributedSampler)  # which Lightning leaves as it is
        assert len(loader) == len([*loader])
        seen += [int(image[0, 0, 0]) for batch in loader for image in batch["image"]]
    assert sorted(seen) == [*expected]


def test_fewer_validation_frames_than_devices_are_refused_before_anything_starts():
    with refused("trainer.devices", "trainer.devices=8", "7 frames", fix="trainer.devices=7"):
        ExternalData(Counted(None), CAMVID, devices=8).setup("fit")


@pytest.mark.parametrize(
    ("overrides", "key"),
    [(["augment=strong"], "augment"), (["loss.class_weights=enet"], "loss.class_weights")],
)
def test_settings_of_our_own_data_sets_are_not_ignored(overrides, key):
    with job(*CHOSEN, "+data.module.batch_size=4", *overrides) as config, refused(key):
        check_effect(config, overrides)
        checked_data(OmegaConf.to_container(config, resolve=True))
