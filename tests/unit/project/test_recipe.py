"""The screening of benchmarks/recipe.py: what it trains, what it keeps, and how it goes on."""

import itertools
import json
import subprocess
import sys
import threading
from argparse import Namespace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from fastscnn.runs.record import LAST, RECORD

ROOT = Path(__file__).resolve().parents[3]
BENCHMARKS, CONF = ROOT / "benchmarks", ROOT / "conf"


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "recipe", raising=False)
    import recipe

    return recipe


def points(gains, noise=0.0):
    """A training that is worth 40 and the gains of its factors; with the second seed less, by the noise."""

    def run(names, fold, seed):
        runs.append((tuple(names), fold, seed))
        miou = 40 + sum(gains.get(name, 0) for name in names) - noise * seed * len(names)
        return {"val/miou": miou / 100, "val/iou/pole": 0.1}

    runs = []
    return run, runs


def screened(recipe, run, factors):
    written = []
    screening = recipe.Screening(run, lambda *state: written.append(state), factors)
    screening.all()
    return screening, written


def test_no_training_reads_the_test_frames(recipe, tmp_path):
    every = [[factor.name for factor in recipe.FACTORS if factor.needs is None], [f.name for f in recipe.FACTORS], []]
    for names in [*every, *([factor.name] for factor in recipe.FACTORS)]:
        for fold in recipe.FOLDS:
            arguments = recipe.arguments_of(names, fold, 0, 30, tmp_path, tmp_path)
            evaluated = [argument for argument in arguments if argument.startswith("data.evaluate_test=")]
            assert evaluated == ["data.evaluate_test=false"]
            assert f"data.held_out={fold}" in arguments
            assert not [argument for argument in arguments if "train_splits" in argument or "split=test" in argument]


def test_every_recipe_can_be_composed(recipe, tmp_path):
    names = [factor.name for factor in recipe.FACTORS]
    arguments = recipe.arguments_of(names, "0016E5", 1, 30, tmp_path, tmp_path)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", arguments)
    assert config.data.evaluate_test is False
    assert config.trainer.max_epochs == config.data.check_val_every_n_epoch == 30


def test_a_factor_that_is_better_with_both_seeds_stays_and_the_next_is_added_to_it(recipe):
    factors = [recipe.Factor(name, [f"x.{name}=1"]) for name in ("good", "bad", "fine")]
    run, runs = points({"good": 5, "bad": -1, "fine": 1})
    screening, _ = screened(recipe, run, factors)
    assert screening.best == ["good", "fine"]
    assert [row.decision for row in screening.rows] == ["base", "stays", "dropped", "stays"]
    assert (("good", "bad"), "0016E5", 0) in runs
    assert (("good", "bad"), "0016E5", 1) not in runs, "the second seed is for what was better with the first"
    assert len(runs) == len(set(runs))


def test_a_gain_of_one_seed_alone_is_dropped(recipe):
    run, _ = points({"lucky": 1}, noise=2)
    screening, _ = screened(recipe, run, [recipe.Factor("lucky", [])])
    assert screening.best == []
    assert screening.rows[1].decision == "dropped"
    assert len(screening.rows[1].runs) == 6


@pytest.mark.parametrize(("stop", "rest"), [(13, ["third"]), (12, ["second", "third"])])
def test_results_are_written_after_every_run_and_name_what_was_not_reached(recipe, stop, rest):
    factors = [recipe.Factor(name, []) for name in ("first", "second", "third")]
    run, runs = points({"first": 1})

    def limited(names, fold, seed):
        if len(runs) == stop:
            raise recipe.OutOfTimeError
        return run(names, fold, seed)

    _, written = screened(recipe, limited, factors)
    assert len(written) >= stop
    rows, best, not_reached = written[-1]
    assert best == ["first"]
    assert not_reached == rest
    assert not {row.name for row in rows} & {"third"}
    result = {"epochs": 30, "factors": [row.as_json() for row in rows], "not_reached": not_reached}
    shown = recipe.table(result | {"best": {"factors": best, "settings": []}})
    assert f"Not reached: {', '.join(rest)}." in shown
    assert "| first | base | 41.0 | 10.0 | +1.00 [+1.00, +1.00] | 6 | stays |" in shown


def test_a_factor_whose_training_fails_is_named_and_the_others_go_on(recipe):
    run, _ = points({"good": 1})

    def failing(names, fold, seed):
        if "broken" in names:
            raise recipe.TrainingError("ended with 1")
        return run(names, fold, seed)

    screening, _ = screened(recipe, failing, [recipe.Factor("broken", []), recipe.Factor("good", [])])
    assert [row.decision for row in screening.rows] == ["base", "failed: ended with 1", "stays"]


@pytest.mark.parametrize("jobs", [2, 6])
def test_runs_side_by_side_give_the_same_table(recipe, jobs):
    """With six jobs the second seed of a factor does not wait for the first."""
    calls, together = itertools.count(), threading.Barrier(jobs)
    run, runs = points({"good": 5, "bad": -1, "fine": 1})

    def waiting(names, fold, seed):
        if next(calls) < jobs:
            together.wait(timeout=60)  # nobody passes before so many are running
        return run(names, fold, seed)

    factors = [recipe.Factor(name, []) for name in ("good", "bad", "fine")]
    screening = recipe.Screening(waiting, lambda *_: None, factors, jobs=jobs)
    screening.all()
    assert [row.decision for row in screening.rows] == ["base", "stays", "dropped", "stays"]
    assert len(runs) == len(set(runs))
    assert ((("good", "bad"), "0016E5", 1) in runs) == (jobs == 6)


def test_a_signal_that_ends_one_run_begins_no_other(recipe):
    begun = []

    def run(number):
        begun.append(number)
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        list(recipe.side_by_side(run, [(number,) for number in range(50)], 1))
    assert len(begun) < 50


def test_a_factor_without_what_it_needs_is_left_out(recipe):
    run, runs = points({})
    screening, _ = screened(recipe, run, [recipe.Factor("decay", [], needs="adamw")])
    assert screening.rows[1].decision == "left out: it needs adamw"
    assert all(names == () for names, _, _ in runs)


def test_what_is_finished_is_not_trained_anew_and_what_was_stopped_is_resumed(recipe, tmp_path, monkeypatch):
    started = []
    arguments = recipe.arguments_of([], "0016E5", 0, 30, tmp_path, tmp_path)
    folder = recipe.folder_of(arguments)
    metrics = {"val/miou": 0.4}

    def record(status):
        (folder / RECORD).write_text(
            json.dumps({"status": status, "choices": {}, "metrics": {"best": {}, "last": metrics}})
        )

    def call(command, **_):
        started.append(command[2:])
        folder.mkdir(parents=True, exist_ok=True)
        record("finished")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(recipe.subprocess, "run", call)
    assert recipe.finished(folder) is None
    assert recipe.train(arguments, 1) == metrics
    assert recipe.finished(folder) == metrics
    assert started.pop() == arguments

    record("interrupted")
    (folder / "leftover").touch()
    assert recipe.finished(folder) is None
    assert recipe.train(arguments, 1) == metrics
    assert started.pop() == arguments, "nothing was saved from which it could go on"
    assert not (folder / "leftover").exists()

    record("interrupted")
    (folder / LAST).parent.mkdir()
    (folder / LAST).touch()
    assert recipe.train(arguments, 1) == metrics
    assert started.pop() == [f"resume={folder}"]


def test_a_screening_whose_runs_are_gone_goes_on_from_its_results(recipe, tmp_path, monkeypatch):
    trained = []

    def train(command, threads):
        trained.append(command)
        if len(trained) > limit:
            raise recipe.OutOfTimeError
        score = 0.4 + 0.05 * ("loss.class_weights=enet" in command) + 0.01 * ("seed=1" in command)
        return {"val/miou": score, "val/iou/pole": score / 2}

    def rows(name, *more):
        output = tmp_path / name
        arguments = {"root": tmp_path, "runs": tmp_path / name.partition(".")[0], "epochs": 2, "hours": 1, "jobs": 1}
        arguments |= {"threads": 1, "known": None, "output": output, "settings": []} | dict(more)
        recipe.main(Namespace(**arguments))
        return json.loads(output.read_text(encoding="utf-8"))

    monkeypatch.setattr(recipe, "train", train)
    monkeypatch.setattr(recipe, "FACTORS", recipe.FACTORS[:2])
    monkeypatch.setattr(recipe.Screening.__init__, "__defaults__", (recipe.FACTORS, 1))
    limit = 99
    whole = rows("whole.json")
    everything, limit = len(trained), 14
    trained.clear()
    stopped = rows("stopped.json")
    assert stopped["factors"][-1]["decision"] == "unfinished"
    limit = 99
    trained.clear()
    again = rows("again.json", ("known", tmp_path / "stopped.json"))
    assert len(trained) == everything - 14
    for ours, theirs in zip(again["factors"], whole["factors"], strict=True):
        assert ours["decision"] == theirs["decision"]
        assert ours["of_each_run"] == pytest.approx(theirs["of_each_run"])
        assert ours["iou"] == pytest.approx(theirs["iou"])


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "Expecting"), ('{"epochs": 30}', "factors"), ('{"epochs": 9, "factors": []}', "9 epochs, not 30")],
)
def test_results_that_are_of_another_screening_are_refused(recipe, tmp_path, capsys, content, words):
    file = tmp_path / "known.json"
    file.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        recipe.known_runs(file, 30)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_the_results_that_are_published_can_be_gone_on_from(recipe):
    file = ROOT / "results" / "camvid_recipe.json"
    epochs = json.loads(file.read_text(encoding="utf-8"))["epochs"]
    assert len(recipe.known_runs(file, epochs)) >= 6
