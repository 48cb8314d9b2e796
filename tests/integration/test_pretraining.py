"""Pre-training on images in one folder a class, and its transfer, as a user calls them."""

import json

import pytest
import torch

from fastscnn.models.image_classifier import SHARED
from helpers import FAST, write_class_folders

SEGMENT = ["data=fine", "data.batch_size=2", "trainer.max_epochs=1", "logger=csv", *FAST]


def record(folder):
    return json.loads((folder / "run.json").read_text())


def newest(output_dir):
    return max(output_dir.glob("*/*/run.json"), key=lambda path: path.stat().st_mtime).parent


def tensors(folder, name="best"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def pretrained(run, tmp_path_factory):
    """A working directory with one finished pre-training run in outputs/: its process, folder and data."""
    cwd = tmp_path_factory.mktemp("pretrained")
    root = write_class_folders(cwd / "photographs" / "train", images=6).parent
    write_class_folders(root / "val", images=2, seed=1)
    done = run(
        "train.py",
        "experiment=imagenet_pretrain",
        f"data.root={root}",
        "data.crop_size=[32,32]",
        "data.batch_size=6",
        "trainer.max_epochs=2",
        "augment.mixup=0.2",
        *FAST,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done, newest(cwd / "outputs"), root


def test_pretraining_reports_top1_and_top5_and_keeps_the_record(pretrained):
    done, folder, root = pretrained
    data = record(folder)
    assert data["status"] == "finished"
    assert data["choices"]["data"] == "imagenet"
    assert data["dataset"].pop("fingerprint").startswith("18+6 frames, 3 classes, ")
    assert data["dataset"] == {
        "name": "imagenet",
        "root": str(root),
        "synthetic": False,
        "frames": {"train": {"imagenet": 18}, "val": {"imagenet": 6}},
    }
    assert data["metrics"]["best"]["val/top5"] == 1
    assert 0 <= data["metrics"]["best"]["val/top1"] <= 1
    assert data["metrics"]["last"]["train/frames/imagenet"] == 36
    assert data["checkpoints"] == {"best": "checkpoints/best.ckpt", "last": "checkpoints/last.ckpt"}
    assert "top-1" in done.stdout and "top-5" in done.stdout
    assert not (folder / "images").exists()


def test_evaluation_of_a_pretraining_checkpoint_equals_its_validation(run, pretrained, tmp_path):
    _, folder, _ = pretrained
    best = folder / "checkpoints" / "best.ckpt"
    done = run("eval.py", f"checkpoint={best}", "paths.run_dir=judged", *FAST[:1], "data.num_workers=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "judged" / "eval.json").read_text())["metrics"]
    expected = record(folder)["metrics"]["best"]
    assert metrics == {name: pytest.approx(expected[name]) for name in ("val/top1", "val/top5")}
    done = run("eval.py", f"checkpoint={best}", "skip=zero", *FAST[:1], cwd=tmp_path)
    assert done.returncode == 2
    assert "image classifier" in done.stderr


def test_transfer_takes_the_newest_run_says_what_was_taken_and_starts_from_it(run, pretrained, cityscapes):
    _, folder, _ = pretrained
    cwd = folder.parents[2]
    # A learning rate so small that the first epoch leaves the weights where they were.
    arguments = [f"data.root={cityscapes}", "optimizer.lr=1e-12", "optimizer.weight_decay=0", *SEGMENT]
    done = run("train.py", "pretrain=imagenet", *arguments, "paths.run_dir=transfer", cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "of learning_to_downsample and global_feature_extractor taken from outputs/" in done.stdout
    assert "network" not in done.stdout.partition("not taken from the file:")[2].splitlines()[0]
    assert "fc." in done.stdout
    data = record(cwd / "transfer")
    assert data["choices"]["pretrain"] == "imagenet"
    assert data["pretrain"]["run"] == record(folder)["id"]
    assert data["pretrain"]["checkpoint"] == str(folder / "checkpoints" / "best.ckpt")
    source, target = tensors(folder), tensors(cwd / "transfer")
    weights = [n for n in source if n.startswith(tuple(f"network.{part}" for part in SHARED)) and n.endswith("weight")]
    assert len(weights) > 50
    for name in weights:
        assert torch.allclose(source[name], target[name], atol=1e-6), name


def test_transfer_without_a_pretraining_run_stops_with_the_command(run, tmp_path):
    done = run("train.py", "pretrain=imagenet", "logger=csv", *FAST, cwd=tmp_path)
    assert done.returncode == 2
    assert "python src/train.py experiment=imagenet_pretrain data.root=DIR" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()), "nothing is drawn or trained before"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["data=imagenet"], "data.root is not set"),
        (["data=imagenet", "loss=cross_entropy"], "loss=classification"),
        (["experiment=imagenet_pretrain"], "data.root is not set"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(arguments, text, run, tmp_path):
    done = run("train.py", *arguments, "logger=csv", *FAST, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
