"""A run on images of one's own: trained, continued, evaluated, with the frames that it drew at its start."""

import json

import pytest
import torch
from hydra import compose, initialize_config_dir

from fastscnn.data.datasets.folder_splits import read_list
from fastscnn.inference.segmenter import Segmenter
from fastscnn.runs.record import read_record
from fastscnn.training.evaluate import evaluate
from fastscnn.training.fit import fit
from helpers import CONF, FAST, FOLDER_CLASSES, job, refused, write_folder

pytestmark = pytest.mark.usefixtures("shallow_networks")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_folder(tmp_path_factory.mktemp("photos"), [f"day {number % 2}/{number}" for number in range(8)])
    (root / "classes.yaml").write_text(FOLDER_CLASSES)
    return root


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "run"
    chosen = ["data=folder", f"data.root='{root}'", "data.batch_size=2", "data.crop_size=[32,32]", "logger=csv", *FAST]
    chosen += ["trainer.max_epochs=1", f"data.store='{folder.parent / 'store'}'", "loss.class_weights=enet"]
    with job(*chosen, f"paths.run_dir='{folder}'") as config:
        fit(config)
    return folder


def test_record_names_the_data_and_the_frames_that_were_drawn(trained, root):
    record = read_record(trained)
    assert record["status"] == "finished"
    assert record["dataset"]["frames"] == {"train": {"folder": 6}, "val": {"folder": 2}}
    assert record["dataset"]["root"] == str(root)
    lists = trained / record["dataset"]["lists"]
    named = {split: read_list(lists / f"{split}.txt") for split in ("train", "val", "test")}
    assert sorted(named["train"] + named["val"]) == sorted(f"day {number % 2}/{number}" for number in range(8))
    assert len(named["val"]) == 2
    assert named["test"] == []
    assert "val/iou/road" in record["metrics"]["best"]
    assert record["class_weights"]["pixels"].keys() == {"sky", "tree", "road"}


def test_checkpoint_has_the_classes_of_the_folder(trained):
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["fastscnn"]["classes"]["names"] == ("sky", "tree", "road")


def test_checkpoint_says_what_size_its_frames_had_and_segmenter_takes_it(trained):
    """Frames of 32x48; an image of twice that is shrunk to one and a half of it."""
    checkpoint = trained / "checkpoints" / "best.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    assert content["fastscnn"]["config"]["data"]["frame_size"] == [32, 48]
    assert Segmenter.from_checkpoint(checkpoint).seen_size((64, 96)) == (48, 72)


def test_run_keeps_its_frames_though_the_folder_grows(trained, root):
    before = {split: read_list(trained / "lists" / f"{split}.txt") for split in ("train", "val")}
    write_folder(root, [f"later/{number}" for number in range(40)])
    with job(f"resume='{trained}'", "trainer.max_epochs=2") as config:
        fit(config)
    record = read_record(trained)
    assert record["metrics"]["last"]["epoch"] == 2
    assert record["dataset"]["frames"] == {"train": {"folder": 6}, "val": {"folder": 2}}
    assert {split: read_list(trained / "lists" / f"{split}.txt") for split in ("train", "val")} == before
    chosen = [f"checkpoint='{trained / 'checkpoints' / 'best.ckpt'}'", f"paths.run_dir='{trained.parent / 'eval'}'"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        scores = evaluate(compose("eval", [*chosen, "trainer.accelerator=cpu", "data.num_workers=0"]))
    content = json.loads((trained.parent / "eval" / "eval.json").read_text())
    assert content["frames"] == 2
    assert scores.miou == pytest.approx(record["metrics"]["best"]["val/miou"], abs=1e-6)


def test_classes_that_were_renamed_or_reordered_are_refused_with_the_first_that_differs(trained, root):
    file = root / "classes.yaml"
    file.write_text(FOLDER_CLASSES.replace("tree", "hedge"))
    try:
        with (
            job(f"resume='{trained}'", "trainer.max_epochs=9") as config,
            refused("data", "class 1 is tree there", "hedge"),
        ):
            fit(config)
        chosen = [f"checkpoint='{trained / 'checkpoints' / 'best.ckpt'}'", f"paths.output_dir='{trained.parent}'"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("eval", [*chosen, "trainer.accelerator=cpu", "data.num_workers=0"])
        with refused("data", "class 1 is tree there", fix="classes.yaml"):
            evaluate(config)
    finally:
        file.write_text(FOLDER_CLASSES)
    assert read_record(trained)["status"] == "finished"
