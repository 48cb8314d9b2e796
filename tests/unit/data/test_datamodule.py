"""Batches: the same pixels for any number of workers, the right frames on every device, faults told."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from fastscnn.data.datamodules.build import build_data
from fastscnn.data.datamodules.loading import per_device_batch
from fastscnn.data.datamodules.sampler import EpochSampler
from fastscnn.data.datamodules.segmentation import SegmentationData
from fastscnn.data.datasets import sources
from fastscnn.data.datasets.classes import CAMVID, CITYSCAPES
from fastscnn.data.datasets.frame_dataset import FrameDataset
from fastscnn.data.datasets.frames import DataError
from fastscnn.data.datasets.sources import frames_for
from fastscnn.data.transforms.augment import PaperAugment, no_augment
from fastscnn.training.optim import total_steps
from fastscnn.training.schedules import poly
from helpers import block_labels, refused, write_cityscapes, write_png

CROP = (32, 64)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"), size=(32, 64), train=7, val=3, test=2, train_extra=2)


def make(root: Path | None, **settings) -> SegmentationData:
    defaults = {
        "dataset": "fine",
        "crop_size": CROP,
        "batch_size": 2,
        "num_workers": 0,
        "augment": PaperAugment(),
    }
    return SegmentationData(root=root, **{**defaults, **settings})


def epochs_of(loader: DataLoader, epochs: int = 2) -> list[list[dict]]:
    batches = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        batches.append(list(loader))
    return batches


def assert_same(one: list[list[dict]], other: list[list[dict]]) -> None:
    for left, right in zip(one, other, strict=True):
        for a, b in zip(left, right, strict=True):
            assert a["name"] == b["name"]
            for key in ("image", "label", "index"):
                assert torch.equal(a[key], b[key])


def test_the_number_of_workers_changes_no_pixel(root):
    reference = epochs_of(make(root).train_dataloader())
    for workers in (1, 2):
        loader = make(root, num_workers=workers).train_dataloader()
        assert loader.persistent_workers
        assert_same(epochs_of(loader), reference)


def test_a_spawned_worker_gives_the_same_pixels(root):
    reference = epochs_of(make(root).train_dataloader(), epochs=1)
    made = make(root).train_dataloader()
    spawned = DataLoader(
        made.dataset,
        batch_size=2,
        sampler=made.sampler,
        collate_fn=made.collate_fn,
        num_workers=1,
        multiprocessing_context="spawn",
    )
    assert_same(epochs_of(spawned, epochs=1), reference)


def test_a_frame_differs_between_epochs_and_between_seeds(root):
    def views(seed: int) -> list[dict[str, bytes]]:
        epochs = epochs_of(make(root, seed=seed, num_workers=2, batch_size=1).train_dataloader(), 3)
        return [{batch["name"][0]: batch["image"].numpy().tobytes() for batch in epoch} for epoch in epochs]

    seen = [*views(0), *views(1)]
    for name in seen[0]:
        assert len({view[name] for view in seen}) == 6


def test_frames_of_one_epoch_do_not_share_their_draws(tmp_path):
    """The same picture under every name: each frame, whichever worker reads it, is augmented differently."""
    write_cityscapes(tmp_path, size=(32, 64), train=8)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    for path in (tmp_path / "leftImg8bit/train").rglob("*.png"):
        write_png(path, pixels)
    (batches,) = epochs_of(make(tmp_path, num_workers=2, batch_size=4).train_dataloader(), 1)
    images = [image.numpy().tobytes() for batch in batches for image in batch["image"]]
    assert len(set(images)) == 8


def test_a_run_that_starts_at_a_later_epoch_sees_that_epochs_pixels(root):
    whole = epochs_of(make(root).train_dataloader(), 3)
    loader = make(root, num_workers=2).train_dataloader()
    loader.sampler.set_epoch(2)
    assert_same([list(loader)], whole[2:])


def test_training_batches_have_the_crop_and_the_tail_is_left_out(root):
    (batches,) = epochs_of(make(root, crop_size=(40, 48), augment=no_augment).train_dataloader(), 1)
    assert len(batches) == 3
    for batch in batches:
        assert batch["image"].shape == (2, 3, 40, 48)
        assert batch["label"].shape == (2, 40, 48)
        assert batch["image"].dtype == batch["label"].dtype == torch.uint8


def test_fewer_frames_than_one_batch_make_one_smaller_batch(root):
    (batches,) = epochs_of(make(root, batch_size=12).train_dataloader(), 1)
    assert [len(batch["name"]) for batch in batches] == [7]


def test_validation_frames_come_whole_one_at_a_time_in_order(tmp_path):
    write_cityscapes(tmp_path, size=(37, 75), train=2, val=3, test=1)
    data = make(tmp_path, batch_size=2)
    batches = list(data.val_dataloader())
    assert [batch["name"][0] for batch in batches] == [frame.name for frame in data.frames("val")]
    assert all(batch["image"].shape == (1, 3, 37, 75) for batch in batches)
    assert [set(batch) for batch in data.test_dataloader()] == [{"image", "index", "name", "source"}]


def test_the_classes_are_known_without_the_disk():
    assert make(Path("/nowhere")).classes is CITYSCAPES
    assert make(None, dataset="camvid").classes is CAMVID


def test_frames_are_counted_by_source(root):
    data = make(root, dataset="fine_coarse")
    assert data.source_counts("train") == {"fine": 7, "coarse": 2}
    assert data.source_counts("val") == {"fine": 3}
    assert {frame.source for frame in frames_for("streets", root, "val")} == {"streets"}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_in_a_file_is_one_sentence_whoever_reads_it(tmp_path, workers):
    write_cityscapes(tmp_path, size=(32, 64), train=2)
    for path in (tmp_path / "gtFine/train").rglob("*.png"):
        write_png(path, np.full((32, 64), 77, np.uint8))
    with pytest.raises(DataError) as error:
        list(make(tmp_path, num_workers=workers).train_dataloader())
    assert "labelIds.png" in str(error.value)
    assert "77" in str(error.value)
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("batch", "devices", "accumulate", "sizes"),
    [(12, 5, 1, "10 or 15"), (12, 4, 2, "8 or 16"), (3, 4, 1, "4")],
)
def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_sizes(batch, devices, accumulate, sizes):
    expected = ("data.batch_size", batch, f"{devices} device")
    with refused(*expected, fix=f"Set data.batch_size={sizes}."):
        per_device_batch(batch, devices, accumulate)
    with refused(*expected, fix=f"Set data.batch_size={sizes}."):
        make(None, batch_size=batch, devices=devices, accumulate=accumulate)


def test_the_global_batch_is_shared_by_devices_and_accumulation_steps():
    assert per_device_batch(12, 2, 3) == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data.num_workers", -1),
        ("data.num_workers", "many"),
        ("data.batch_size", 0),
        ("data.crop_size", (0, 5)),
        ("data.crop_size", (512,)),
        ("data.crop_size", "half"),
        ("data.store", True),
        ("data.store", " "),
        ("seed", -1),
        ("data.dataset", "kitti"),
        ("data.streets.frames", {"frames": 3}),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(setting, value):
    name = setting.removeprefix("data.").partition(".")[0]
    with refused(setting):
        make(None, **{name: value})


def test_setup_tells_a_missing_split_before_anything_starts(tmp_path):
    write_cityscapes(tmp_path, train=2, val=0)
    with refused("data.root", "leftImg8bit/val"):
        make(tmp_path).setup("fit")


def test_auto_takes_the_usable_cores_and_at_most_eight(root, monkeypatch):
    for cores, expected in ((1, 1), (3, 3), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: set(range(cores)), raising=False)
        assert make(root, num_workers="auto").val_dataloader().num_workers == expected
    assert make(root, num_workers="auto", devices=16, batch_size=16).val_dataloader().num_workers == 4


class Recorder(pl.LightningModule):
    """Trains nothing, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int], int]] = []
        self.validated: list[int] = []

    def training_step(self, batch, batch_index):
        checksum = int(batch["image"].long().sum())
        self.seen.append((self.current_epoch, batch["index"].tolist(), checksum))
        return self.weight * 0

    def validation_step(self, batch, batch_index):
        self.validated += batch["index"].tolist()

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        self.steps = total_steps(self.trainer)
        return [optimizer], [poly(optimizer, self.steps)]


def train(
    root: Path,
    epochs: int,
    workers: int,
    checkpoint: Path | None = None,
    data: SegmentationData | None = None,
    **settings,
) -> tuple[Recorder, pl.Trainer]:
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **settings,
    )
    trainer.fit(recorder, datamodule=data or make(root, num_workers=workers), ckpt_path=checkpoint, weights_only=True)
    return recorder, trainer


@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_each_epoch_on_its_own_order_and_pixels(root):
    recorder, _ = train(root, epochs=3, workers=2)
    data = make(root)
    expected = [
        (epoch, batch["index"].tolist(), int(batch["image"].long().sum()))
        for epoch, batches in enumerate(epochs_of(data.train_dataloader(), 3))
        for batch in batches
    ]
    assert recorder.seen == expected
    assert recorder.validated == [0, 1, 2] * 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_resumed_run_goes_on_with_the_pixels_that_the_whole_run_saw(root, tmp_path, workers):
    whole, _ = train(root, epochs=3, workers=0)
    _, trainer = train(root, epochs=1, workers=0)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _ = train(root, epochs=3, workers=workers, checkpoint=tmp_path / "last.ckpt")
    assert resumed.seen == [step for step in whole.seen if step[0] > 0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings", [{}, {"limit_train_batches": 1}, {"limit_train_batches": 0.5}, {"accumulate_grad_batches": 2}]
)
def test_schedule_counts_the_steps_that_lightning_takes(root, settings):
    recorder, trainer = train(root, 2, 0, **settings)
    assert recorder.steps == trainer.global_step == trainer.estimated_stepping_batches


def test_ranks_train_together_on_the_batches_of_one_device_and_validate_every_frame_once(root):
    class Attached(SegmentationData):
        place = (0, 1, 1)

        def _place(self):
            return self.place

    def loaders(place):
        data = Attached(dataset="fine", root=root, crop_size=CROP, batch_size=6, num_workers=0)
        data.place = place
        return data.train_dataloader(), data.val_dataloader()

    one, _ = loaders((0, 1, 1))
    ranks = [loaders((rank, 3, 1)) for rank in range(3)]
    steps = zip(*(rank[0] for rank in ranks), strict=True)
    together = [{name for batch in batches for name in batch["name"]} for batches in steps]
    assert together == [set(batch["name"]) for batch in one]
    validated = sorted(batch["name"][0] for _, val in ranks for batch in val)
    assert validated == [frame.name for frame in frames_for("fine", root, "val")]
    accumulating, _ = loaders((0, 1, 3))
    assert [len(batch["name"]) for batch in accumulating] == [2, 2, 2]


def write_tiny_streets(root: Path, spec, progress) -> None:
    write_cityscapes(root, size=(32, 64), train=2, val=1, test=1)
    (root / "streets.json").write_text("{}")


def test_streets_are_generated_once_where_the_settings_say(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "write_streets", write_tiny_streets)
    data = make(None, dataset="streets", streets={"size": [128, 256]})
    for _ in range(2):
        data.prepare_data()
    assert capsys.readouterr().out.count("\n") == 1
    data.setup("fit")
    assert data.source_counts("train") == {"streets": 2}
    assert data.root.parent == Path("data/streets")
    assert make(None, dataset="streets", streets={"size": [256, 512]}).root != data.root
    assert make(None, dataset="streets", streets={"size": [128, 256]}).root == data.root


@pytest.mark.filterwarnings("ignore")
def test_data_is_complete_when_it_is_built_and_lightning_prepares_it_before_a_frame_is_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "write_streets", write_tiny_streets)
    data = make(None, dataset="streets", streets={"size": [128, 256]}, crop_size="full")
    assert list(tmp_path.iterdir()) == []
    with refused("data.root", "data.root=data/streets/"):
        data.setup("fit")
    assert list(tmp_path.iterdir()) == []
    calls = []
    for name in ("prepare_data", "setup"):
        called = getattr(data, name)
        monkeypatch.setattr(data, name, lambda *a, name=name, called=called, **k: (calls.append(name), called(*a, **k)))
    recorder, _ = train(tmp_path, epochs=1, workers=0, data=data)
    assert calls == ["prepare_data", "setup"]
    assert (len(recorder.seen), data.crop_size) == (1, (32, 64))


def test_a_wrong_augmentation_is_refused_when_it_is_built_also_where_the_crop_is_known_later():
    with refused("augment.brightness"):
        build_data(
            {"dataset": "streets", "root": None, "batch_size": 2, "num_workers": 0, "crop_size": "full"},
            {"name": "paper", "brightness": 2},
        )


def test_reading_frames_leaves_the_network_alone():
    """Importing the augmentation starts no connection: albumentations looks for updates unless told not to."""
    code = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise SystemExit('connected')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import fastscnn.data.transforms.strong, sys\n"
        "assert 'fastscnn.training' not in sys.modules\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3] / "src")
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)


def test_frames_and_keys_of_the_sampler_meet_in_the_dataset(root):
    frames = frames_for("fine", root, "train")
    dataset = FrameDataset(frames, CITYSCAPES, PaperAugment()(CROP), seed=3)
    key = next(iter(EpochSampler(len(frames), seed=3)))
    assert torch.equal(dataset[key]["image"], dataset[key]["image"])
    assert torch.equal(dataset[key[1]]["image"], dataset[(0, key[1])]["image"])
    assert not torch.equal(dataset[(1, key[1])]["image"], dataset[key]["image"])
    assert block_labels((32, 64), 0).shape == tuple(dataset[key]["label"].shape)
