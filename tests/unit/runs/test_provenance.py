"""What a run's folder says a year later: uncommitted code, packages, the data's fingerprint; and training it again."""

import hashlib
import json
import shutil
import subprocess

import numpy
import pytest
from omegaconf import OmegaConf

from fastscnn.data.fingerprint import fingerprint
from fastscnn.runs import provenance
from fastscnn.runs.provenance import packages, uncommitted, write_provenance
from fastscnn.runs.run import Run
from fastscnn.training.fit import checked_data, fit
from helpers import job, make_run, refused, write_cityscapes


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory):
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"), size=(32, 64), train=4, val=1)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a package of its own in the place of this project's."""
    root = tmp_path / "repository"
    file = root / "src" / "provenance.py"
    file.parent.mkdir(parents=True)
    file.write_text("one = 1\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=root, check=True, timeout=60)
    monkeypatch.setattr(provenance, "__file__", str(file))
    return root


def test_uncommitted_changes_and_new_files_are_in_the_runs_folder_and_named_in_the_record(tmp_path, repository):
    (repository / "src" / "provenance.py").write_text("one = 2\n")
    (repository / "new file.py").write_text("three = 3\n")
    (repository / "large.txt").write_text("x" * provenance.MOST_BYTES)
    folder = tmp_path / "run"
    folder.mkdir()
    found = write_provenance(folder, {})
    text = (folder / "code.diff").read_text()
    assert "-one = 1\n+one = 2\n" in text
    assert "+three = 3\n" in text
    assert len(text) < 10_000
    assert sorted(found["code"]["files"]) == ["new file.py", "src/provenance.py"]
    assert found["code"]["left_out"] == ["large.txt"]
    assert found["code"]["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repository), str(clone)], check=True, timeout=60)
    subprocess.run(["git", "apply", str(folder / "code.diff")], cwd=clone, check=True, timeout=60)
    assert (clone / "src" / "provenance.py").read_text() == "one = 2\n"
    assert (clone / "new file.py").read_text() == "three = 3\n"


def test_code_without_changes_has_no_file_and_an_installed_package_no_code(tmp_path, repository, monkeypatch):
    assert write_provenance(tmp_path, {})["code"]["file"] is None
    assert not (tmp_path / "code.diff").exists()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "elsewhere.py"))
    assert uncommitted() is None


def test_resumed_run_overwrites_nothing(tmp_path, repository):
    (repository / "src" / "provenance.py").write_text("one = 2\n")
    first = write_provenance(tmp_path, {})
    again = write_provenance(tmp_path, {"resumed": [{}], **first})
    assert again["code"]["file"] == "code.diff"
    before = (tmp_path / "code.diff").read_bytes()
    (repository / "src" / "provenance.py").write_text("one = 3\n")
    assert write_provenance(tmp_path, {"resumed": [{}], **first})["code"]["file"] == "code.1.diff"
    assert (tmp_path / "code.diff").read_bytes() == before


def test_every_installed_package_is_listed(tmp_path):
    found = write_provenance(tmp_path, {})["packages"]
    lines = (tmp_path / "packages.txt").read_text().splitlines()
    assert len(lines) == found["count"] == len(packages())
    assert f"numpy=={numpy.__version__}" in lines


def test_fingerprint_is_of_the_content_and_not_of_the_place(cityscapes, tmp_path):
    def of(root):
        with job("data=fine", f"data.root={root}", "data.crop_size=[32,32]", "data.batch_size=2") as config:
            data = checked_data(OmegaConf.to_container(config, resolve=True))
        return fingerprint(data, "train", "val")

    before = of(cityscapes)
    shutil.copytree(cityscapes, tmp_path / "moved")
    assert of(tmp_path / "moved") == before
    assert "19 classes" in before
    label = next((tmp_path / "moved").rglob("*labelIds.png"))
    label.write_bytes(label.read_bytes() + b"more")
    assert of(tmp_path / "moved") != before


def test_replay_takes_the_recorded_config_and_seed_and_a_new_folder(tmp_path):
    folder = make_run(tmp_path / "run", "seed=7", "skip=zero", "trainer.max_epochs=3")
    with job(f"replay={folder}", f"paths.output_dir={tmp_path / 'outputs'}", "logger=csv") as config:
        run = Run.of(config)
    assert (run.config.seed, run.config.model.skip, run.config.trainer.max_epochs) == (7, "zero", 3)
    assert run.identity.choices["skip"] == "zero"
    assert run.config.paths.output_dir == str(tmp_path / "outputs")
    assert run.config.replay is None
    with job(f"replay={folder}", "seed=8") as config, refused("seed", folder):
        Run.of(config)
    with job("replay=nowhere") as config, refused("replay", "nowhere"):
        Run.of(config)


def test_replay_says_which_of_code_packages_data_and_machine_differ(tmp_path, cityscapes, capsys):
    small = ["data=fine", f"data.root={cityscapes}", "data.crop_size=[32,32]", "data.batch_size=2", "logger=csv"]
    small += ["data.num_workers=0", "data.store=off", "trainer.max_epochs=1", "trainer.limit_train_batches=1"]
    small += ["pictures=0", "trainer.accelerator=cpu", "data.evaluate_test=false", "trainer.limit_val_batches=1"]
    with job(*small, f"paths.run_dir={tmp_path / 'first'}") as config:
        fit(config)
    file = tmp_path / "first" / "run.json"
    record = json.loads(file.read_text())
    assert {"code", "packages"} <= set(record)
    record["host"] = "elsewhere"
    record["git"] = {"commit": "0" * 40, "modified": False}
    file.write_text(json.dumps(record))
    listed = tmp_path / "first" / "packages.txt"
    listed.write_text(listed.read_text().replace("numpy==", "numpy==0."))
    capsys.readouterr()
    again = [f"replay={tmp_path / 'first'}", f"paths.run_dir={tmp_path / 'second'}", "logger=csv", "data.num_workers=0"]
    with job(*again) as config:
        fit(config)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("replay: ")]
    assert any(line.startswith("replay: code differs: commit 000000") for line in lines)
    assert any(line.startswith("replay: machine differs: host elsewhere ->") for line in lines)
    assert any("1 packages differ: numpy 0." in line for line in lines)
    assert "replay: the same: data" in lines
    new = json.loads((tmp_path / "second" / "run.json").read_text())
    assert new["metrics"]["last"]["train/loss_epoch"] == record["metrics"]["last"]["train/loss_epoch"]
    assert new["replays"] == str(tmp_path / "first")
