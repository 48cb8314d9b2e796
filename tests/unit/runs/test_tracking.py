"""W&B runs: what is kept of them, how they end, and that nothing is asked or lost without a server."""

import errno
import glob
import json
import os
import shlex
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import wandb
from wandb.sdk import wandb_setup
from wandb.sdk.lib.service import service_process

from fastscnn.runs.offline import holds_run, set_aside_dead, set_aside_empty
from fastscnn.runs.run import Run
from fastscnn.utils.locks import take
from helpers import job, refused, track, wandb_config_of, wandb_records

pytestmark = pytest.mark.usefixtures("offline")
KEY = "0123456789" * 4


def history_of(folder):
    return [
        {".".join(item.nested_key): json.loads(item.value_json) for item in row.item}
        for row in wandb_records(folder, "history")
    ]


def test_run_keeps_its_identity_and_whole_config_and_ends_with_0(tmp_path):
    with track(tmp_path) as run:
        run.log({"val/miou": 0.5})
    (kept,) = wandb_records(tmp_path, "run")
    assert (kept.run_id, kept.display_name, kept.run_group) == ("abcd1234", "fine-abcd1234", "fine")
    assert (kept.project, list(kept.tags)) == ("tests", ["data=fine", "skip=keep"])
    expected = {"config": {"data": {"lr": 0.1}, "seed": 3}, "data": "fine", "seed": 3}
    assert expected.items() <= wandb_config_of(tmp_path).items()
    assert [end.exit_code for end in wandb_records(tmp_path, "exit")] == [0]


@pytest.mark.parametrize("error", [ValueError("lost"), KeyboardInterrupt(), SystemExit(0)])
def test_block_that_fails_ends_its_run_with_1_and_goes_on_failing(tmp_path, error):
    with pytest.raises(type(error)), track(tmp_path):
        raise error
    assert [end.exit_code for end in wandb_records(tmp_path, "exit")] == [1]
    assert wandb.run is None


def test_axis_of_every_metric_is_the_global_step(tmp_path):
    with track(tmp_path) as run:
        for step, miou in enumerate([0.1, 0.5, 0.3]):
            run.log({"val/miou": miou, "train/loss": 1 - miou, "trainer/global_step": 10 * step})
        run.log({"picture": 1})
        assert run.summary["val/miou"] == 0.3, "W&B's own maximum begins anew in each session of a resumed run"
        assert run.summary["train/loss"] == 0.7
    assert [row["trainer/global_step"] for row in history_of(tmp_path)] == [0, 10, 20, 20]
    axes = {metric.name or metric.glob_name: metric.step_metric for metric in wandb_records(tmp_path, "metric")}
    assert axes == {"trainer/global_step": "", "*": "trainer/global_step"}


def test_resumed_run_keeps_its_id_beside_its_earlier_files_and_says_how_to_send_both(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_RUN_ID", "of-another")
    for step in (1, 2):
        with track(tmp_path, resume=True) as run:
            assert run.id == "abcd1234"
            run.log({"val/miou": 0.1 * step, "trainer/global_step": step})
        pattern = shlex.split(capsys.readouterr().out.splitlines()[-1])[-1]
        time.sleep(1)  # W&B names its folders by the second
    assert len(list(tmp_path.glob("wandb/offline-run-*-abcd1234"))) == 2
    assert sorted(glob.glob(pattern)) == sorted(map(str, tmp_path.glob("wandb/offline-run-*-abcd1234")))


def test_second_run_is_refused_while_one_is_open(tmp_path):
    with track(tmp_path) as run:
        with pytest.raises(RuntimeError, match="abcd1234 is still open"), track(tmp_path / "second", "efgh5678"):
            pytest.fail("opened")
        run.log({"val/miou": 0.5})
    assert [row["val/miou"] for row in history_of(tmp_path)] == [0.5]
    assert not list((tmp_path / "second").iterdir())


def test_run_after_a_failed_one_is_a_run_of_its_own(tmp_path):
    with pytest.raises(ValueError), track(tmp_path / "a", "aaaa") as run:
        run.log({"val/miou": 0.1})
        raise ValueError
    with track(tmp_path / "b", "bbbb") as run:
        run.log({"val/miou": 0.2})
    for name, run_id, miou, code in (("a", "aaaa", 0.1, 1), ("b", "bbbb", 0.2, 0)):
        assert wandb_records(tmp_path / name, "run")[0].run_id == run_id
        assert [row["val/miou"] for row in history_of(tmp_path / name)] == [miou]
        assert wandb_records(tmp_path / name, "exit")[0].exit_code == code


def test_without_a_key_the_run_is_offline_and_one_line_says_how_to_send_it(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_MODE")
    folder = tmp_path / "a folder"
    with track(folder) as run:
        assert run.offline
    captured = capsys.readouterr()
    (line,) = (captured.out + captured.err).splitlines()
    assert "offline" in line and "no key" in line
    path = Path(shlex.split(line)[-1])
    assert path.parent == folder / "wandb"
    assert list(path.glob("*.wandb"))


@pytest.mark.parametrize("key", [KEY, "too-short"])
def test_key_that_no_server_takes_leaves_the_run_offline(tmp_path, monkeypatch, capsys, key):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", address)
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    with track(tmp_path) as run:
        assert run.offline
        assert run.id == "abcd1234"
        run.log({"val/miou": 0.5})
    captured = capsys.readouterr()
    (line,) = (captured.out + captured.err).splitlines()
    assert address in line and "check the key" in line
    assert list(Path(shlex.split(line)[-1]).glob("*.wandb"))


def test_disabled_mode_writes_and_prints_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with track(tmp_path / "run") as run:
        run.log({"val/miou": 0.5})
    assert not list((tmp_path / "run").iterdir())
    assert capsys.readouterr() == ("", "")


def test_wrong_mode_or_project_is_a_wrong_request(tmp_path, monkeypatch):
    with refused("logger.wandb.project"), track(tmp_path, project="a/b"):
        pytest.fail("opened")
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "foo")
    with refused("logger.wandb.mode", "mode=foo", fix="WANDB_MODE"), track(tmp_path):
        pytest.fail("opened")


def test_run_of_a_sweep_has_the_sweeps_id_and_its_whole_config(tmp_path, monkeypatch):
    (tmp_path / "sweep.yaml").write_text("data: {value: fine}\noptimizer.lr: {value: 0.2}\n")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "of-the-agent")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "sweep.yaml"))
    with track(tmp_path):
        pass
    assert (wandb_records(tmp_path, "run")[0].run_id, wandb_records(tmp_path, "run")[0].sweep_id) == (
        "of-the-agent",
        "sweep1",
    )
    config = wandb_config_of(tmp_path)
    assert (config["data"], config["config"]["data"], config["optimizer.lr"]) == ("fine", {"lr": 0.1}, 0.2)


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_record_names_its_wandb_run_if_there_is_one(tmp_path, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    with job("skip=zero", f"paths.output_dir={tmp_path}") as config, Run.create(config) as run:
        assert run.record.data["wandb_id"] == (run.record.data["id"] if mode == "offline" else None)
    if mode == "offline":
        assert wandb_config_of(run.folder)["config"]["model"]["skip"] == "zero"
        assert wandb_config_of(run.folder)["skip"] == "zero"


def service():
    """W&B's service process, which does the work."""
    return wandb_setup._singleton._connection._proc._process


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP])
def test_service_that_dies_or_freezes_leaves_the_run_alone(tmp_path, what, capsys):
    with job(f"paths.output_dir={tmp_path / 'the outputs'}") as config, Run.create(config) as run:
        logger = run.loggers[1]
        process = service()
        process.send_signal(what)
        for step in range(50):
            logger.log_metrics({f"metric {number}": 1.0 for number in range(50)}, step)
    assert run.record.data["status"] == "finished"
    assert process.wait(timeout=60) == -signal.SIGKILL, "nothing waits for it any more"
    last = capsys.readouterr().err.splitlines()[-1]
    assert "did not arrive" in last
    assert f"{run.folder / 'metrics.csv'} holds all of it" in last
    with job(f"paths.output_dir={tmp_path / 'the outputs'}") as config, Run.create(config) as run:
        run.loggers[1].log_metrics({"val/miou": 0.5}, 1)
    assert capsys.readouterr().err == "", "the next run has a service of its own"
    assert [row["val/miou"] for row in history_of(run.folder)] == [0.5]


def test_tracker_that_cannot_be_started_leaves_the_run_alone(tmp_path, monkeypatch, capsys):
    def no_service(settings):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(service_process, "start", no_service)
    with job(f"paths.output_dir={tmp_path}") as config, Run.create(config) as run:
        run.loggers[1].log_metrics({"val/miou": 0.5}, 1)
    data = json.loads((run.folder / "run.json").read_text())
    assert (data["status"], data["wandb_id"]) == ("finished", None)
    assert "Cannot allocate memory" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, 7, 90, 150])
def test_offline_folder_without_a_run_is_set_aside_before_the_next_run_and_one_with_a_run_stays(tmp_path, size):
    folder = tmp_path / "streets" / "dead"
    with track(folder, "dead"):
        pass
    wandb.teardown()
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    record = {"choices": {}, "metrics": {}}
    (folder / "run.json").write_text(json.dumps(record | {"status": "failed"}))
    assert holds_run(path)
    assert set_aside_dead(tmp_path) == [] and path.exists()
    os.truncate(path, size)
    assert not holds_run(path)
    lock = take(folder / "run.lock")
    (folder / "run.json").write_text(json.dumps(record | {"status": "running"}))
    assert set_aside_dead(tmp_path) == [], "its first data may still come"
    lock.release()
    with job(f"paths.output_dir={tmp_path}") as config, Run.create(config):
        pass
    assert not list(folder.glob("wandb/offline-run-*"))
    assert len(list(folder.glob("wandb/empty-offline-run-*/*.wandb"))) == 1


def test_resumed_run_sets_its_own_empty_offline_folder_aside(tmp_path):
    (tmp_path / "wandb" / "offline-run-1-a").mkdir(parents=True)
    (tmp_path / "wandb" / "offline-run-1-a" / "run-a.wandb").write_bytes(b":W&B\xe1\xbe\x00")
    assert [path.name for path in set_aside_empty(tmp_path)] == ["empty-offline-run-1-a"]


@pytest.mark.parametrize("data", [b"another form" * 10, bytes(2**16)])
def test_file_of_a_form_that_is_not_known_is_left_alone(tmp_path, data):
    (tmp_path / "a.wandb").write_bytes(data)
    assert holds_run(tmp_path / "a.wandb")


def test_multirun_inside_a_sweep_is_refused_before_it_makes_anything(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "of-the-agent")
    with (
        job("hydra.mode=MULTIRUN", f"paths.output_dir={tmp_path / 'outputs'}") as config,
        refused("logger", "of-the-agent", fix="WANDB_RUN_ID"),
    ):
        Run.create(config)
    assert not (tmp_path / "outputs").exists()


def test_csv_logger_does_without_wandb(tmp_path, monkeypatch):
    with job("logger=csv", f"paths.output_dir={tmp_path}") as config, monkeypatch.context() as patch:
        patch.setitem(sys.modules, "wandb", None)  # its import fails
        with Run.create(config) as run:
            assert [logger.name for logger in run.loggers] == ["csv"]
