"""Sweep files: every point, as W&B's agent would pass it, is a run that can be started, and what the header says."""

import itertools
import math
import re
import shlex

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fastscnn.cli.launch import CONF
from fastscnn.runs.identity import chosen_identity
from fastscnn.training.fit import checked_data
from fastscnn.training.trainer import validation_interval
from helpers import agent_start, job, sweep

SWEEPS = CONF.parent / "sweeps"
FILES = {path.stem: path for path in sorted(SWEEPS.glob("*.yaml"))}
GRIDS = {
    "table8": {"data": {"fine", "fine_coarse"}, "pretrain": {"none", "imagenet"}},
    "ablations": {
        "skip": {"keep", "zero"},
        "activation": {"relu", "relu6"},
        "data": {"fine", "fine_coarse"},
        "pretrain": {"none", "imagenet"},
    },
    "resolution": {"data": {"fine"}, "resolution": {"full", "half", "quarter"}},
    "seeds": {"data": {"fine"}, "seed": {0, 1, 2, 3, 4}},
    "skip": {"data": {"fine"}, "skip": {"keep", "zero"}},
    "activation": {"data": {"fine"}, "activation": {"relu", "relu6"}, "seed": {0, 1, 2}},
    "quick": {"data": {"streets"}, "trainer.max_epochs": {3}, "skip": {"keep", "zero"}, "seed": {0, 1}},
}


def values(parameter):
    """What W&B may choose for a parameter; of a distribution its two ends."""
    if "values" in parameter:
        return parameter["values"]
    return [parameter["value"]] if "value" in parameter else [parameter["min"], parameter["max"]]


def points(name):
    """Every combination that W&B's grid search hands out, parameter to value."""
    parameters = sweep(name)["parameters"]
    for combination in itertools.product(*map(values, parameters.values())):
        yield dict(zip(parameters, combination, strict=True))


def header_lines(name):
    lines = itertools.takewhile(lambda line: line.startswith("#"), FILES[name].read_text().splitlines())
    return [line[1:].strip() for line in lines]


def multirun_jobs(name):
    """The jobs of the `-m` command in the header, each a list of overrides, expanded as Hydra does."""
    (command,) = (line for line in header_lines(name) if line.startswith("python src/train.py"))
    words = shlex.split(command)
    assert words[:3] == ["python", "src/train.py", "-m"]
    overrides = OverridesParser.create().parse_overrides(words[3:])
    return [job for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]


def test_every_sweep_file_is_known_here():
    assert set(FILES) == {*GRIDS, "learning_rate"}


@pytest.mark.parametrize("name", FILES)
def test_agent_calls_train_with_one_override_for_each_parameter(name, monkeypatch, tmp_path):
    for point in points(name):
        command, _ = agent_start(sweep(name), point, monkeypatch, tmp_path)
        assert command == [
            "/usr/bin/env",
            "python",
            "src/train.py",
            *(f"{key}={value}" for key, value in point.items()),
        ]
    assert (CONF.parent / sweep(name)["program"]).is_file()


@pytest.mark.parametrize("name", FILES)
def test_every_point_composes_and_is_what_its_parameters_say(name, monkeypatch, tmp_path):
    for point in points(name):
        command, _ = agent_start(sweep(name), point, monkeypatch, tmp_path)
        with job(*command[3:]) as config:
            checked_data(OmegaConf.to_container(config, resolve=True))
            labels = chosen_identity(config).flat(config.seed)
            for key, value in point.items():
                if key in labels:
                    assert labels[key] == value
                else:
                    group, setting = key.split(".")
                    assert config[group][setting] == value


@pytest.mark.parametrize("name", GRIDS)
def test_grid_holds_the_options_of_its_question(name):
    config = sweep(name)
    assert config["method"] == "grid"
    assert {key: set(values(parameter)) for key, parameter in config["parameters"].items()} == GRIDS[name]


@pytest.mark.parametrize("name", GRIDS)
def test_multirun_command_of_the_header_is_the_same_grid(name):
    jobs = multirun_jobs(name)
    wanted = [{f"{key}={value}" for key, value in point.items()} for point in points(name)]
    assert len(jobs) == len(wanted)
    assert {frozenset(job) for job in jobs} == {frozenset(point) for point in wanted}


@pytest.mark.parametrize("name", FILES)
def test_header_gives_the_paper_the_number_of_runs_and_both_commands(name):
    text = "\n".join(header_lines(name))
    assert re.search(r"Table \d|[Ss]ections? \d|paper", text)
    assert f"wandb sweep sweeps/{name}.yaml" in text
    assert "wandb agent ENTITY/fast-scnn/ID" in text
    count = sweep(name).get("run_cap") or len(list(points(name)))
    assert re.search(rf"\b{count} runs", text)


@pytest.mark.parametrize("name", FILES)
def test_what_is_maximised_is_logged_and_nothing_swept_is_null(name):
    config = sweep(name)
    assert config["metric"]["name"] == "best/miou"
    assert config["metric"]["goal"] == "maximize"
    assert config["project"] == "fast-scnn"
    for key, parameter in config["parameters"].items():
        for value in values(parameter):
            assert value is not None, key
            assert str(value).lower() not in ("null", "none") or key == "pretrain"


def test_learning_rates_are_searched_evenly_over_the_logarithm_around_the_papers():
    rate = sweep("learning_rate")["parameters"]["optimizer.lr"]
    assert rate["distribution"] == "log_uniform_values"  # log_uniform would take min and max as exponents
    assert math.sqrt(rate["min"] * rate["max"]) == pytest.approx(0.045, rel=0.05)
    with job("data=fine") as config:
        assert rate["min"] < config.optimizer.lr < rate["max"]


def test_multirun_of_learning_rates_stays_within_the_searched_range():
    parameters = sweep("learning_rate")["parameters"]
    constants = {f"{key}={parameter['value']}" for key, parameter in parameters.items() if "value" in parameter}
    for overrides in multirun_jobs("learning_rate"):
        (rate,) = set(overrides) - constants
        assert set(overrides) >= constants
        low, high = values(parameters["optimizer.lr"])
        assert low <= float(rate.removeprefix("optimizer.lr=")) <= high


def test_bands_of_hyperband_lie_within_the_validations_of_a_run():
    config = sweep("learning_rate")
    epochs = config["parameters"]["trainer.max_epochs"]["value"]
    validations = epochs // validation_interval("auto", epochs)
    stop = config["early_terminate"]
    bands = [stop["min_iter"] * stop["eta"] ** power for power in range(3)]
    text = FILES["learning_rate"].read_text()
    assert f"a run has {validations}" in text
    assert "after {}, {} and {}".format(*bands) in text
    assert bands[-1] < validations < bands[-1] * stop["eta"]


def test_grid_ends_by_itself_and_a_search_after_a_number_of_runs():
    for name in FILES:
        assert (sweep(name)["method"] == "grid") != ("run_cap" in sweep(name))
