"""A folder that cannot be written is refused before anything is computed, with the setting that named it."""

import pytest
from omegaconf import OmegaConf

from fastscnn.reports.comparison import compare as comparing
from fastscnn.training import fit as training
from helpers import full_disk, job, make_run, refused


@pytest.fixture
def nothing_computed(monkeypatch):
    def fail(*args, **kwargs):
        pytest.fail("it has begun")

    monkeypatch.setattr(comparing, "read_all", fail)
    monkeypatch.setattr(training, "build_training_data", fail)


@pytest.mark.parametrize("setting", ["paths.run_dir", "paths.output_dir"])
def test_training_refuses_a_folder_below_a_file(tmp_path, nothing_computed, setting):
    (tmp_path / "file").touch()
    with (
        job(f"{setting}={tmp_path / 'file' / 'runs'}", "logger=csv", "trainer.accelerator=cpu") as config,
        refused(setting, tmp_path / "file"),
    ):
        training.fit(config)


def test_training_refuses_a_full_disk(tmp_path, nothing_computed):
    with full_disk(tmp_path / "disk") as disk, job(f"paths.output_dir={tmp_path / 'disk'}") as config:
        disk.fill()
        with refused("paths.output_dir", "No space left"):
            training.fit(config)


def test_resuming_refuses_a_full_disk(tmp_path, nothing_computed, monkeypatch):
    with full_disk(tmp_path / "disk", mebibytes=8) as disk:
        folder = make_run(tmp_path / "disk" / "run", "trainer.max_epochs=4")
        before = (folder / "run.json").read_bytes()
        disk.fill()
        with job(f"resume={folder}") as config, refused("resume", "No space left"):
            training.fit(config)
        assert (folder / "run.json").read_bytes() == before


def test_comparison_refuses_a_folder_below_a_file(tmp_path, nothing_computed):
    (tmp_path / "file").touch()
    settings = {"runs": str(tmp_path), "output": str(tmp_path / "file"), "gallery": 0, "filter": None}
    with refused("output", tmp_path / "file"):
        comparing.compare(OmegaConf.create(settings))
