"""`python src/train.py -m`: a run for each job, failures told at once, and only what is left when called again."""

import json

import pytest

from fastscnn.runs.record import read_record
from helpers import FAST, wandb_records

RATES = "optimizer.lr=0.045,1e+36,0.01"


def folders(output_dir):
    found = [path.parent for path in sorted(output_dir.glob("*/*/run.json"))]
    return sorted(found, key=lambda folder: read_record(folder)["started"])


@pytest.fixture(scope="module")
def settings(cityscapes):
    """Two epochs of two steps, in which a learning rate of 1e+36 overflows."""
    return [
        "data=fine",
        f"data.root={cityscapes}",
        "data.batch_size=2",
        "trainer.max_epochs=2",
        "optimizer.power=0",
        *FAST,
    ]


@pytest.fixture(scope="module")
def called(run, settings, tmp_path_factory):
    """The multirun's first call, and where it was called."""
    cwd = tmp_path_factory.mktemp("multirun")
    return run("train.py", "-m", RATES, *settings, cwd=cwd), cwd


def test_failing_job_is_told_at_once_and_the_next_one_starts_clean(called):
    done, cwd = called
    assert done.returncode == 1
    assert "W&B:" not in done.stderr, done.stderr
    assert done.stderr.count("Traceback") == 1 and "NonFiniteLoss" in done.stderr
    assert "Error executing job" not in done.stderr
    runs = folders(cwd / "outputs")
    assert [read_record(folder)["status"] for folder in runs] == ["finished", "failed", "finished"]
    assert len({read_record(folder)["wandb_id"] for folder in runs}) == 3
    assert [wandb_records(folder, "exit")[0].exit_code for folder in runs] == [0, 1, 0]
    (group,) = {read_record(folder)["group"] for folder in runs}
    assert {wandb_records(folder, "run")[0].run_group for folder in runs} == {group}
    assert group.startswith("optimizer.lr-")


def test_summary_names_each_job_and_the_last_lines_the_failed_ones(called):
    done, cwd = called
    (table,) = [part for part in done.stdout.split("\n\n") if part.startswith("3 jobs, group optimizer.lr-")]
    lines = table.splitlines()[1:4]
    assert [line.split()[:3] for line in lines] == [
        ["0", "optimizer.lr=0.045", "finished"],
        ["1", "optimizer.lr=1e+36", "failed"],
        ["2", "optimizer.lr=0.01", "finished"],
    ]
    for line, folder in zip(lines, folders(cwd / "outputs"), strict=True):
        assert line.endswith(str(folder.relative_to(cwd)))
    assert "val/miou 0." in lines[0]
    last = done.stderr.strip().splitlines()[-2:]
    assert last[0].startswith("job 1 (optimizer.lr=1e+36) failed: NonFiniteLoss: ")
    assert last[1] == "Call the multirun again: it runs only what is not finished."


def test_multirun_called_again_runs_only_what_is_not_finished(run, called, settings):
    first, third = folders(called[1] / "outputs")[::2]
    group = read_record(first)["group"]
    data = json.loads((third / "run.json").read_text())
    (third / "run.json").write_text(json.dumps(data | {"status": "failed", "error": "the power went"}))
    done = run("train.py", "-m", *settings, RATES, "pictures=0", cwd=called[1])
    assert done.returncode == 1, "the second job fails again"
    assert f"job 0 (optimizer.lr=0.045): finished already in {first.relative_to(called[1])}; rerun=true" in done.stdout
    assert f"job 2 (optimizer.lr=0.01): goes on in {third.relative_to(called[1])}" in done.stdout
    runs = folders(called[1] / "outputs")
    assert [read_record(folder)["status"] for folder in runs] == ["finished", "failed", "finished", "failed"]
    assert {read_record(folder)["group"] for folder in runs} == {group}
    assert len(read_record(third)["resumed"]) == 1 and "resumed" not in read_record(first)
    statuses = [line.split()[2] for line in done.stdout.partition("3 jobs, group")[2].splitlines()[1:4]]
    assert statuses == ["skipped", "failed", "continued"]


@pytest.mark.slow
def test_two_calls_in_the_same_moment_train_no_job_twice(start, settings, tmp_path):
    calls = [start("train.py", "-m", "seed=0,1", *settings, "logger=csv", cwd=tmp_path) for _ in "ab"]
    printed = [call.communicate(timeout=250) for call in calls]
    assert [call.returncode for call in calls] == [0, 0], printed
    seeds = [read_record(folder)["seed"] for folder in folders(tmp_path / "outputs")]
    assert sorted(seeds) == [0, 1]
    assert {read_record(folder)["status"] for folder in folders(tmp_path / "outputs")} == {"finished"}


@pytest.mark.parametrize("beside", [False, True])
def test_misspelt_setting_leaves_nothing_of_its_multirun_and_nothing_else_is_removed(run, tmp_path, beside):
    other = tmp_path / "outputs" / "multirun" / "another" / "multirun.yaml"
    if beside:
        other.parent.mkdir(parents=True)
        other.write_text("{}")
    done = run("train.py", "-m", "data=streets", "trainer.max_epochz=1,2", cwd=tmp_path)
    assert done.returncode == 2
    assert "trainer.max_epochs" in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [other] * beside
    assert (tmp_path / "outputs").exists() == beside
