"""A multirun that is called twice trains no job twice, reports no job that never ran as done, and loses none."""

import json
import threading
import warnings
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fastscnn.cli.multirun import AnnounceMultirun, close_multirun
from fastscnn.cli.skip_finished import claim_file, left_to_do
from fastscnn.runs.identity import Identity
from fastscnn.runs.jobs import VARIABLE, Job, Multirun
from fastscnn.runs.run import Run
from fastscnn.runs.studies import join_study
from fastscnn.utils.locks import is_held, take
from helpers import change_run, full_disk, job, make_run


@pytest.fixture
def multirun(tmp_path, monkeypatch):
    """What the jobs of a multirun know of it; returns its folder."""
    folder = tmp_path / "multirun"
    monkeypatch.setenv(VARIABLE, json.dumps({"folder": str(folder), "group": "g", "swept": ["seed"]}))
    return folder


def settings(tmp_path):
    return f"paths.output_dir={tmp_path / 'outputs'}", "seed=1", "logger=csv"


def test_job_that_another_call_is_starting_is_waited_for_and_then_left_to_it(tmp_path, multirun, capsys):
    first, second = Job(0, ["seed=1"]), Job(0, ["seed=1"])
    with job(*settings(tmp_path)) as config:
        assert left_to_do(config, first)
        found = []
        waiting = threading.Thread(target=lambda: found.append(left_to_do(config, second)))
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        with first.running():
            with Run.create(config) as run:
                waiting.join()
                assert found == [False]
                assert (second.status, second.reason) == ("skipped", "running now")
            assert "another call is starting it" in capsys.readouterr().out
            assert first.folder == second.folder == str(run.folder)
    assert not (tmp_path / "outputs" / ".starting").exists()


def test_job_whose_start_in_another_call_failed_is_done_here(tmp_path, multirun):
    with job(*settings(tmp_path)) as config:
        file = claim_file(config)
        file.parent.mkdir(parents=True)
        other = take(file)
        threading.Timer(0.5, other.release).start()
        mine = Job(0, ["seed=1"])
        with mine.running():
            assert left_to_do(config, mine)
            assert is_held(file)
        assert not file.exists()


def test_jobs_that_ask_for_different_runs_do_not_wait_for_each_other(tmp_path, multirun):
    one, other = Job(0, ["seed=1"]), Job(1, ["seed=2"])
    with job(*settings(tmp_path)) as config:
        assert left_to_do(config, one)
        config.seed = 2
        assert left_to_do(config, other)
        config.seed, config.data.num_workers = 1, 3
        assert is_held(claim_file(config)), "it is the same run, carried out in another way"
    one.release()
    other.release()


@pytest.mark.parametrize(
    ("status", "code"), [("finished", 0), ("running", 0), ("failed", 1), ("killed", 1), ("gone", 1)]
)
def test_job_that_another_call_ran_is_done_only_where_that_call_did_it(tmp_path, multirun, capsys, status, code):
    folder = make_run(tmp_path / "run", status="running" if status in ("running", "killed") else status)
    lock = take(folder / "run.lock") if status == "running" else None
    change_run(folder, error="of another call")
    if status == "gone":
        (folder / "run.json").unlink()
    mine = Job(0, ["seed=1"])
    mine.update(status="skipped", code=0, reason="running now", folder=str(folder))
    assert close_multirun() == code
    table, errors = capsys.readouterr()
    assert ("skipped" if code == 0 else "failed") in table.splitlines()[-1]
    assert ("its run in another call" in errors) == (code == 1)
    if lock:
        lock.release()


@pytest.mark.parametrize("status", ["finished", "running", "failed"])
def test_job_that_another_call_began_is_one_of_this_study_too(tmp_path, multirun, status):
    folder = make_run(tmp_path / "outputs" / "streets" / "run", "seed=1", f"paths.output_dir={tmp_path / 'outputs'}")
    change_run(folder, status=status, studies=["first-12345678"])
    lock = take(folder / "run.lock") if status == "running" else None
    mine = Job(0, ["seed=1"])
    with job(*settings(tmp_path)) as config:
        assert left_to_do(config, mine) == (status == "failed")
        mine.release()
    assert json.loads((folder / "run.json").read_text())["studies"] == ["first-12345678", "g"]
    if lock:
        lock.release()


def test_run_that_is_going_on_takes_over_the_study_that_another_call_adds(tmp_path, multirun):
    with job(*settings(tmp_path)) as config, Run.create(config) as run:
        assert run.record.data["studies"] == []
        assert join_study(run.folder / "run.json", "g")
        assert join_study(run.folder / "run.json", "g") is None, "it is there already"
        run.update(device="a CPU")
    assert json.loads((run.folder / "run.json").read_text())["studies"] == ["g"]


def test_study_is_a_tag_that_wandb_takes():
    jobs = Multirun.of([f"a.very.long.setting.number{number}=1,2" for number in range(9)], Path("x"))
    identity = Identity({"data": "fine", "experiment": "fine_only"}, studies=(jobs.group,))
    assert f"study:{jobs.group}" in identity.tags
    assert "experiment=fine_only" in identity.tags
    assert max(map(len, identity.tags)) <= 64
    assert identity.flat(0)["study"] == jobs.group


def test_full_disk_loses_no_job(tmp_path, monkeypatch, capsys):
    with full_disk(tmp_path / "disk") as disk:
        told = {"folder": str(tmp_path / "disk" / "multirun"), "group": "g", "swept": []}
        monkeypatch.setenv(VARIABLE, json.dumps(told))
        first, second = Job(0, ["seed=1"]), Job(1, ["seed=2"])
        with first.running():
            disk.fill()
            first.update(status="failed", code=1, reason="the disk is full")
        left = [path.name for path in (tmp_path / "disk" / "multirun").iterdir()]
        assert left == ["job-0.json"]
        disk.fill()
        with second.running():
            second.update(status="failed", code=2, reason="it is still full")
        assert close_multirun() == 1
        errors = capsys.readouterr().err
        assert "job 0 (seed=1) failed: the disk is full" in errors
        assert "job 1 (seed=2) failed: it is still full" in errors
        assert errors.count("No space left") == 1


@pytest.mark.parametrize("setting", ["paths.output_dir", "hydra.sweep.dir"])
def test_multirun_whose_folder_cannot_be_written_is_refused_before_it_begins(tmp_path, setting, capsys):
    (tmp_path / "file").touch()
    config = OmegaConf.create(
        {
            "paths": {"output_dir": str(tmp_path)},
            "hydra": {"sweep": {"dir": str(tmp_path / "new")}, "overrides": {"task": []}},
        }
    )
    OmegaConf.update(config, setting, str(tmp_path / "file" / "below"))
    with pytest.raises(SystemExit) as end, warnings.catch_warnings(action="error"):
        AnnounceMultirun().on_multirun_start(config)
    assert end.value.code == 2
    assert f"{setting}={tmp_path / 'file' / 'below'}: {tmp_path / 'file'} is a file" in capsys.readouterr().err
