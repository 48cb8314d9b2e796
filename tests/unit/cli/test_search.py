"""`hparams_search=optuna`: trials are chosen by what the jobs return, and called again the search goes on."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.runs.jobs import Multirun
from fastscnn.runs.objective import optimized_value
from fastscnn.training.checks import check_metric
from fastscnn.training.segmentation import Segmentation
from helpers import SEGMENTATION, refused
from hydra_plugins.fastscnn_search.optuna_sweeper import OptunaSweeper, separated

SAMPLER = {"_target_": "optuna.samplers.TPESampler", "seed": 0, "n_startup_trials": 4}


class Jobs:
    """A launcher whose jobs are over at once: their value is a function of their overrides."""

    def __init__(self, value):
        self.value = value
        self.batches = []

    def launch(self, batch, initial_job_idx):
        self.batches.append(len(batch))
        assert initial_job_idx == sum(self.batches[:-1])
        return [SimpleNamespace(return_value=self.value(dict(one.split("=", 1) for one in job))) for job in batch]


def search(folder, value, *arguments, metric=None, n_trials=12, n_jobs=1, direction=None, params=None, **more):
    """Run a search; returns the jobs and what it wrote."""
    settings = {"storage": None, "study_name": None, "sampler": OmegaConf.create(SAMPLER), "params": params} | more
    sweeper = OptunaSweeper(n_trials=n_trials, n_jobs=n_jobs, direction=direction, **settings)
    sweeper.config = OmegaConf.create({"optimized_metric": metric, "hydra": {"sweep": {"dir": str(folder)}}})
    sweeper.hydra_context = SimpleNamespace(config_loader=None)
    sweeper.launcher = jobs = Jobs(value)
    sweeper.validate_batch_is_legal = lambda batch: None
    sweeper.sweep([*arguments])
    return jobs, json.loads((folder / "search.json").read_text())


def near_a_tenth(job):
    return -abs(math.log10(float(job["optimizer.lr"])) + 1)


RATES = {"optimizer.lr": "tag(log, interval(1.0e-5, 10))"}


def test_better_learning_rate_is_found_and_every_trial_is_written_down(tmp_path, capsys):
    jobs, found = search(tmp_path, near_a_tenth, "data=fine", params=RATES, n_trials=30)
    assert jobs.batches == [1] * 30
    assert 0.03 < found["best"]["settings"]["optimizer.lr"] < 0.3
    values = [trial["value"] for trial in found["trials"]]
    assert sum(values[15:]) > sum(values[:15]), "it learns"
    assert found["best"]["value"] == max(values) == values[found["best"]["job"]]
    assert "optimizer.lr=" in capsys.readouterr().out


def test_loss_is_minimized(tmp_path):
    _, found = search(tmp_path, lambda job: -near_a_tenth(job), params=RATES, metric="train/loss")
    assert (found["direction"], found["best"]["value"]) == (
        "minimize",
        min(trial["value"] for trial in found["trials"]),
    )


def test_trials_run_side_by_side_in_batches(tmp_path):
    jobs, found = search(tmp_path, near_a_tenth, params=RATES, n_trials=8, n_jobs=3)
    assert (jobs.batches, len(found["trials"])) == ([3, 3, 2], 8)


def test_same_search_asks_for_the_same_trials(tmp_path):
    found = [search(tmp_path, near_a_tenth, params=RATES, n_jobs=2)[1] for _ in range(2)]
    assert found[0] == found[1]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "0.5"])
def test_job_without_a_value_is_a_failed_trial_and_the_search_goes_on(tmp_path, value):
    _, found = search(
        tmp_path, lambda job: value if float(job["optimizer.lr"]) > 0.1 else near_a_tenth(job), params=RATES
    )
    states = [trial["state"] for trial in found["trials"]]
    assert {*states} == {"fail", "complete"}
    assert found["best"]["settings"]["optimizer.lr"] <= 0.1


def test_search_without_any_value_says_so(tmp_path, capsys):
    _, found = search(tmp_path, lambda job: None, params=RATES, n_trials=2)
    assert found["best"] is None
    assert "no value" in capsys.readouterr().err


def test_command_line_adds_to_what_is_searched_and_fixes_it(tmp_path):
    seen = []
    search(
        tmp_path, lambda job: seen.append(job) or 0.5, "optimizer.lr=0.1", "skip=keep,zero", params=RATES, n_trials=6
    )
    assert {job["optimizer.lr"] for job in seen} == {"0.1"}
    assert {job["skip"] for job in seen} == {"keep", "zero"}


def test_study_in_a_database_is_continued(tmp_path):
    place = {"storage": f"sqlite:///{tmp_path}/search.db", "study_name": "mine"}
    for trials in (2, 4):
        _, found = search(tmp_path, near_a_tenth, params=RATES, n_trials=2, **place)
        assert len(found["trials"]) == trials


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=interval(0.5,2)", FloatDistribution(0.5, 2)),
        ("a=interval(1,8)", FloatDistribution(1, 8)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=tag(log,int(interval(1,8)))", IntDistribution(1, 8, log=True)),
        ("a=tag(log,interval(0.1,10))", FloatDistribution(0.1, 10, log=True)),
        ("a=range(1,8,2)", IntDistribution(1, 7, step=2)),
        ("a=range(4)", IntDistribution(0, 3)),
        ("a=range(0,1,0.5)", CategoricalDistribution([0.0, 0.5])),
        ("a=choice(1,2.5,true,word)", CategoricalDistribution([1, 2.5, True, "word"])),
        ("a=[1,2],[3]", CategoricalDistribution(["[1,2]", "[3]"])),
        ("+a=null,1", CategoricalDistribution(["null", 1])),
    ],
)
def test_sweep_as_hydra_writes_it_is_a_distribution(override, expected):
    fixed, space = separated(OverridesParser.create().parse_overrides([override, "b=1", "~c"]))
    assert fixed == ["b=1", "~c"]
    assert space == {override.partition("=")[0]: expected}


@pytest.mark.parametrize("interval", ["interval(1,0)", "tag(log,interval(0,1))", "int(interval(3,1))"])
def test_interval_without_values_is_refused(interval):
    with refused("optimizer.lr", interval, fix="interval(LOW,HIGH)"):
        separated(OverridesParser.create().parse_overrides([f"optimizer.lr={interval}"]))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"n_trials": 0}, "hydra.sweeper.n_trials"),
        ({"n_jobs": "many"}, "hydra.sweeper.n_jobs"),
        ({"direction": "up"}, "hydra.sweeper.direction"),
        ({"params": {}}, "hydra.sweeper.params"),
        ({"sampler": OmegaConf.create({"_target_": "optuna.samplers.None"})}, "hydra.sweeper.sampler._target_"),
    ],
)
def test_wrong_setting_of_a_search_is_refused(tmp_path, settings, key):
    with refused(key):
        search(tmp_path, near_a_tenth, **{"params": RATES, **settings})


def test_search_without_optuna_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with refused("hparams_search", fix="pip install optuna"):
        search(tmp_path, near_a_tenth, params=RATES)


def test_jobs_are_labelled_and_grouped_by_what_is_searched(tmp_path):
    multirun = Multirun.of(["optimizer.lr=tag(log, interval(0.1,1))", "hparams_search=optuna"], tmp_path)
    assert multirun.swept == ("optimizer.lr",)


def test_value_of_a_run_is_its_best_monitor_or_the_metric_that_is_asked_for():
    record = {"metrics": {"best": {"val/miou": 0.5, "test/miou": 0.4}, "last": {"val/miou": 0.3, "train/loss": 2.0}}}
    assert [optimized_value(record, name) for name in (None, "test/miou", "train/loss", "other")] == [0.5, 0.4, 2, None]
    assert optimized_value({"metrics": {"best": {"val/top1": 0.7}, "last": {}}}, None) == 0.7
    assert optimized_value({"metrics": {"best": {}, "last": {}}}, None) is None


@pytest.mark.parametrize(
    ("metric", "settings", "fix"),
    [
        ("val/mio", {}, "optimized_metric=val/miou"),
        ("test/miou", {"tests": False}, "evaluate_test=true"),
        ("val/miou", {"validates": False}, "held_out"),
    ],
)
def test_metric_that_the_run_does_not_have_is_refused_before_it_trains(metric, settings, fix):
    module = Segmentation(SEGMENTATION, CAMVID)
    for known in (None, "val/miou", "val/iou/sky", "test/miou", "train/loss", "mine"):
        check_metric(known, module, tests=True)
    with refused("optimized_metric", metric, fix=fix):
        check_metric(metric, module, **{"tests": True, **settings})
