"""`python src/dashboard.py` as a user calls it, without a key and without the extra package."""

import csv
import json

import pytest

from fastscnn.reports.wandb.dashboard import sections


def test_dry_run_shows_the_dashboard_without_key_network_or_package(run, tmp_path):
    (tmp_path / "wandb_workspaces.py").write_text("raise ImportError")
    done = run("dashboard.py", "dry_run=true", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "The skip connection" in done.stdout
    assert "val/miou over epoch" in done.stdout


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, ["wandb login", "WANDB_API_KEY", "dry_run=true"]),
        ({"WANDB_MODE": "offline"}, ["WANDB_MODE=offline"]),
        ({"WANDB_API_KEY": "short"}, ["wandb login", "key"]),
        ({"PYTHONPATH": "."}, ["pip install wandb-workspaces"]),
    ],
)
def test_what_is_missing_is_told_in_one_sentence(run, tmp_path, environment, words):
    (tmp_path / "wandb_workspaces.py").write_text("raise ImportError")  # found where PYTHONPATH names this folder
    done = run("dashboard.py", "entity=me", cwd=tmp_path, **environment)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words)
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["wandb_workspaces.py"]


def test_curves_are_of_names_that_a_run_logged(trained):
    with (trained[1] / "metrics.csv").open() as file:
        names = set(next(csv.reader(file)))
    record = json.loads((trained[1] / "run.json").read_text())["metrics"]["last"]
    curves = [panel for section in sections() for panel in section.panels if panel.kind == "curve"]
    assert curves
    for curve in curves:
        assert set(curve.metrics) <= set(record)  # names, but for train/loss of so short a run
        assert curve.x in names
