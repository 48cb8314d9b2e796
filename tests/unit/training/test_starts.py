"""The files that a run starts from are part of what it is: by their digests, found once in a multirun."""

import hashlib
import json

import pytest
import torch

from fastscnn.cli.skip_finished import earlier_run
from fastscnn.runs.jobs import VARIABLE
from fastscnn.runs.run import Run
from fastscnn.training.starts import resolve_starts
from fastscnn.training.transfer import find_weights
from helpers import change_run, job, make_run, refused

pytestmark = pytest.mark.usefixtures("shallow_networks")


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def weights(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"learning_to_downsample.weight": torch.full((2,), float(value))}, file)
    return file


def pretraining(outputs, name, value):
    """A finished pre-training below a folder of runs."""
    folder = outputs / "imagenet" / name
    file = weights(folder / "checkpoints" / "best.ckpt", value)
    record = {"id": name, "status": "finished", "finished": f"2026-01-01T00:00:0{value}+00:00", "metrics": {}}
    record |= {"choices": {"data": "imagenet"}, "checkpoints": {"best": "checkpoints/best.ckpt"}}
    (folder / "run.json").write_text(json.dumps(record))
    return file


@pytest.mark.parametrize("name", ["pretrain", "init"])
def test_digest_of_the_file_stands_in_the_config_and_in_the_record(tmp_path, name):
    file = weights(tmp_path / "a.pth", 1)
    chosen = ["pretrain=imagenet"] if name == "pretrain" else []
    with job("logger=csv", *chosen, f"{name}.checkpoint={file}", f"paths.run_dir={tmp_path / 'run'}") as config:
        resolve_starts(config)
        assert config[name].sha256 == digest(file)
        with Run.create(config) as run:
            pass
    assert run.record.data["settings"][f"{name}.sha256"] == digest(file)
    if name == "pretrain":
        assert find_weights(config.pretrain, tmp_path).sha256 == digest(file)


def test_other_weights_are_another_run_and_the_same_file_elsewhere_is_the_same_run(tmp_path):
    first, second = weights(tmp_path / "a.pth", 1), weights(tmp_path / "b.pth", 2)
    moved = tmp_path / "moved.pth"
    moved.write_bytes(first.read_bytes())
    run = tmp_path / "run"
    asked = ["logger=csv", "pretrain=imagenet", f"paths.run_dir={run}"]
    with job(*asked, f"pretrain.checkpoint={first}") as config:
        resolve_starts(config)
        with Run.create(config):
            pass
    change_run(run, status="finished")
    for file, same in ((first, True), (moved, True), (second, False)):
        with job(*asked, f"pretrain.checkpoint={file}") as config:
            resolve_starts(config)
            assert (earlier_run(config) is not None) == same, file


def test_jobs_of_a_multirun_start_from_one_pretraining_also_where_a_newer_one_ends_meanwhile(tmp_path, monkeypatch):
    outputs, folder = tmp_path / "outputs", tmp_path / "multirun"
    folder.mkdir()
    monkeypatch.setenv(VARIABLE, json.dumps({"folder": str(folder), "group": "g", "swept": ["seed"]}))
    before = pretraining(outputs, "before", 1)
    found = []
    for number in range(2):
        with job("pretrain=imagenet", f"paths.output_dir={outputs}") as config:
            resolve_starts(config)
            found.append((config.pretrain.checkpoint, config.pretrain.sha256))
        pretraining(outputs, "newer", 2 + number)
    assert found == [(str(before), digest(before))] * 2
    monkeypatch.delenv(VARIABLE)
    with job("pretrain=imagenet", f"paths.output_dir={outputs}") as config:
        resolve_starts(config)
        assert config.pretrain.sha256 != digest(before), "a call of its own takes the newest"


def test_file_that_is_not_the_one_of_a_record_is_refused(tmp_path):
    file = weights(tmp_path / "a.pth", 1)
    asked = ["pretrain=imagenet", f"pretrain.checkpoint={file}", f"pretrain.sha256={'0' * 64}"]
    with job(*asked) as config, refused("pretrain.sha256", file, digest(file)[:12]):
        resolve_starts(config)


def test_run_goes_on_where_its_file_lies_elsewhere_now(tmp_path):
    first = weights(tmp_path / "a.pth", 1)
    run = make_run(
        tmp_path / "run", "pretrain=imagenet", f"pretrain.checkpoint={first}", f"pretrain.sha256={digest(first)}"
    )
    moved = first.rename(tmp_path / "moved.pth")
    with job("logger=csv", "pretrain=imagenet", f"pretrain.checkpoint={moved}", f"paths.run_dir={run}") as config:
        resolve_starts(config)
        found = Run.resume(run, None, config)
    assert found.config.pretrain.checkpoint == str(first)
    assert found.resumption.epochs == 2
