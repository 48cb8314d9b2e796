"""A run's folder that a disk, a copy or an editor damaged: one sentence with the file, and nothing else is lost."""

import json

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fastscnn.cli.skip_finished import _print_once, left_to_do
from fastscnn.runs.jobs import VARIABLE, Job
from fastscnn.runs.record import read_record
from fastscnn.runs.resume import resumption
from fastscnn.runs.resume_point import restart_command
from fastscnn.runs.run import Run
from helpers import change_run, job, make_run, refused

CONFIGS = {
    "cut": b"a: [1, 2",
    "zeros": bytes(500),
    "list": b"[1, 2]",
    "empty": b"",
    "word": b"hello",
    "part": b"seed: 1\n",
    "binary": b"\xff\xfe\x00data",
    "deep": b"[" * 100_000,
    "wrong": b"{data: 5, model: {}, optimizer: {}, trainer: {}, logger: {}, paths: {}}",
    "broken reference": b"{data: {a: '${b}'}, model: {}, optimizer: {}, trainer: {}, logger: {}, paths: {}}",
}
RECORDS = {
    "cut": b"{",
    "empty": b"",
    "list": b"[]",
    "nothing": b"{}",
    "part": b'{"status": "interrupted"}',
    "binary": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "wrong status": b'{"status": 5, "choices": {}, "metrics": {}}',
    "wrong metrics": b'{"status": "failed", "choices": {}, "metrics": {"last": 5}}',
}


def resume(folder, *overrides):
    with job(f"resume='{folder}'", *overrides) as config:
        return resumption(config.resume, HydraConfig.get().overrides.task, config)


@pytest.fixture
def stopped(tmp_path):
    return make_run(tmp_path / "run", "trainer.max_epochs=4")


@pytest.mark.parametrize("content", CONFIGS.values(), ids=CONFIGS)
def test_damaged_config_is_named_with_a_fix(stopped, content):
    (stopped / ".hydra" / "config.yaml").write_bytes(content)
    with refused("resume", stopped / ".hydra" / "config.yaml", fix="start a new run"):
        resume(stopped)


@pytest.mark.parametrize("content", RECORDS.values(), ids=RECORDS)
def test_damaged_record_is_named_with_a_fix(stopped, content):
    (stopped / "run.json").write_bytes(content)
    with refused("resume", stopped / "run.json", fix="start a new run"):
        resume(stopped)


@pytest.mark.parametrize("content", [b"a: [1", bytes(50), b"hello", b"a: 1", b"[1, 2]", b"- x: [\n"])
def test_damaged_overrides_are_replaced(stopped, content, capsys):
    file = stopped / ".hydra" / "overrides.yaml"
    file.write_bytes(content)
    with job(f"resume='{stopped}'", "trainer.max_epochs=6") as config, Run.of(config):
        pass
    assert OmegaConf.load(file) == ["trainer.max_epochs=6"]
    assert (stopped / ".hydra" / "overrides.1.yaml").read_bytes() == content
    assert f"{file} cannot be read" in capsys.readouterr().out
    assert read_record(stopped)["status"] == "finished"


def test_damaged_overrides_leave_the_command_of_the_record(stopped):
    (stopped / ".hydra" / "overrides.yaml").write_bytes(b"a: [1")
    change_run(stopped, command="python src/train.py seed=7")
    assert restart_command(stopped) == "python src/train.py seed=7"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00\x01,\n", b"a,b\n1,2\n", b"trainer/global_step,loss\n1,\0\0\0\0\n3,4\n"]
)
def test_damaged_metrics_are_set_aside(stopped, content, capsys):
    metrics = stopped / "metrics.csv"
    metrics.write_bytes(content)
    with job(f"resume='{stopped}'") as config, Run.of(config) as run:
        run.loggers[0].log_metrics({"train/loss": 1.0}, 21)
    assert (stopped / "metrics.damaged.csv").read_bytes() == content
    assert metrics.read_text() == "trainer/global_step,train/loss\n21,1.0\n"
    assert "metrics.damaged.csv" in capsys.readouterr().out
    assert read_record(stopped)["status"] == "finished"


@pytest.mark.parametrize(
    ("file", "content"),
    [("run.json", content) for content in RECORDS.values()]
    + [(".hydra/config.yaml", content) for content in CONFIGS.values()],
    ids=[f"record {name}" for name in RECORDS] + [f"config {name}" for name in CONFIGS],
)
def test_other_damaged_run_ends_no_job(tmp_path, monkeypatch, capsys, file, content):
    monkeypatch.setenv(VARIABLE, json.dumps({"folder": str(tmp_path / "multirun"), "group": "g", "swept": ["seed"]}))
    _print_once.cache_clear()
    settings = f"paths.output_dir={tmp_path / 'outputs'}", "seed=1", "logger=csv"
    other = make_run(tmp_path / "outputs" / "streets" / "2026-01-01_00-00-00-1", *settings[1:])
    (other / file).write_bytes(content)
    mine = Job(0, ["seed=1"])
    with job(*settings) as config:
        assert left_to_do(config, mine)
    mine.release()
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert str(other / file) in errors
