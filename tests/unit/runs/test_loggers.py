"""`logger=[...]`: several at once beside `metrics.csv`, and what is wrong with one is found before anything starts."""

import importlib.util
import sqlite3

import pytest
from omegaconf import open_dict
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastscnn.runs import loggers
from fastscnn.runs.identity import chosen_identity
from fastscnn.runs.record import read_record
from fastscnn.runs.renamed import present_overrides, upgraded
from fastscnn.runs.run import Run
from helpers import job, refused, wandb_records

OWN = """
from pytorch_lightning.loggers import CSVLogger

class Mine(CSVLogger):
    def __init__(self, save_dir, flavour="plain"):
        super().__init__(save_dir, name="mine", version=flavour)

class NoLogger:
    pass
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_loggers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def scalars(folder):
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def mlflow_rows(database, query):
    with sqlite3.connect(database) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize(
    ("overrides", "names", "choice"),
    [
        (["logger=csv"], ["csv"], "csv"),
        (["logger=[csv]"], ["csv"], "csv"),
        (["logger=[]"], ["csv"], "csv"),
        (["logger=[csv,tensorboard]"], ["csv", "TensorBoard"], "csv+tensorboard"),
        (["logger=tensorboard"], ["csv", "TensorBoard"], "tensorboard"),
        (["logger=[csv,tensorboard]", "logger.tensorboard=null"], ["csv"], "csv"),
        (["debug=one_batch"], ["csv"], "csv"),
    ],
)
def test_chosen_loggers_and_metrics_csv_are_there_and_the_record_names_them(tmp_path, overrides, names, choice):
    with job(*overrides, f"paths.output_dir={tmp_path}") as config, Run.create(config) as run:
        assert [logger.name for logger in run.loggers] == names
        for logger in run.loggers:
            logger.log_metrics({"val/miou": 0.5}, 3)
    record = read_record(run.folder)
    assert record["choices"]["logger"] == choice
    assert "logger" not in record["overrides"]
    assert "0.5" in (run.folder / "metrics.csv").read_text()
    if "TensorBoard" in names:
        assert scalars(run.folder) == {"val/miou": [(3, 0.5)]}


def test_default_is_weights_and_biases():
    with job() as config:
        assert chosen_identity(config).choices["logger"] == "wandb"


def test_mlflow_run_ends_as_the_run_does_and_goes_on_with_it(tmp_path):
    database = tmp_path / "mlflow.db"
    place = [f"paths.output_dir={tmp_path}", "logger=[csv,mlflow]"]
    with pytest.raises(ZeroDivisionError), job(*place) as config, Run.create(config) as run:
        run.loggers[1].log_metrics({"val/miou": 0.25}, 1)
        raise ZeroDivisionError
    ((name, status, run_id),) = mlflow_rows(database, "select name, status, run_uuid from runs")
    assert (name, status) == (f"streets seed=0 {run.record.data['id']}", "FAILED")
    assert dict(mlflow_rows(database, "select key, value from params"))["optimizer/lr"] == "0.045"
    assert read_record(run.folder)["loggers"] == {"mlflow": run_id}

    again = Run(run.config, run.identity)
    again.record = run.record
    with job(*place) as config, loggers.opened_loggers(config, run.record, run.identity) as opened:
        opened[0].log_metrics({"val/miou": 0.5}, 2)
    assert mlflow_rows(database, "select run_uuid, step, value from metrics order by step") == [
        (run_id, 1, 0.25),
        (run_id, 2, 0.5),
    ]
    assert mlflow_rows(database, "select status from runs") == [("FINISHED",)]


@pytest.mark.usefixtures("own_module")
def test_logger_of_a_users_own_gets_the_runs_folder_and_its_arguments(tmp_path):
    own = "logger={mine:{_target_:own_loggers.Mine,flavour:sweet}}"
    with job("logger=csv", f"+{own}", f"paths.output_dir={tmp_path}") as config, Run.create(config) as run:
        run.loggers[1].log_metrics({"val/miou": 0.5}, 1)
    assert "0.5" in (run.folder / "mine" / "sweet" / "metrics.csv").read_text()
    assert read_record(run.folder)["choices"]["logger"] == "csv+mine"


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("overrides", "key", "fix"),
    [
        (["+logger.tensorboard.flavour=sweet"], "logger.tensorboard.flavour", "~logger.tensorboard.flavour"),
        (["+logger.tensorboard.save_dir=here"], "logger.tensorboard.save_dir", "~logger.tensorboard.save_dir"),
        (["+logger.wandb.flavour=sweet"], "logger.wandb.flavour", "~logger.wandb.flavour"),
        (["+logger.wandb.id=abc"], "logger.wandb.id", "~logger.wandb.id"),
        (["logger.tensorboard._target_=own_loggers.NoLogger"], "logger.tensorboard._target_", "CSVLogger"),
        (["logger.tensorboard._target_=own_loggers.Missing"], "logger.tensorboard._target_", "PYTHONPATH"),
        (["+logger.other=5"], "logger.other", "logger=[csv,tensorboard]"),
    ],
)
def test_wrong_logger_is_refused_before_a_folder_is_made(tmp_path, overrides, key, fix):
    place = f"paths.output_dir={tmp_path / 'outputs'}"
    with job("logger=[wandb,tensorboard]", *overrides, place) as config, refused(key, fix=fix):
        Run.create(config)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(("option", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_logger_whose_library_is_not_installed_says_what_to_install(monkeypatch, option, package):
    real = importlib.util.find_spec
    missing = (package, f"{package}X")
    monkeypatch.setattr(loggers, "find_spec", lambda name: None if name in missing else real(name))
    with job(f"logger=[csv,{option}]") as config, refused("logger", fix=f"pip install {package}"):
        loggers.check_loggers(config)


@pytest.mark.usefixtures("offline")
def test_arguments_of_weights_and_biases_reach_it(tmp_path):
    more = ["+logger.wandb.notes=why", "+logger.wandb.tags=[mine]", "logger.wandb.project=other"]
    with job(*more, f"paths.output_dir={tmp_path}") as config, Run.create(config) as run:
        pass
    (kept,) = wandb_records(run.folder, "run")
    assert (kept.notes, list(kept.tags), kept.project) == ("why", ["mine"], "other")


def test_earlier_names_of_the_settings_are_understood():
    given = ["logger.project=mine", "logger.entity=us", "logger.name=csv"]
    assert present_overrides(given) == ["logger.wandb.project=mine", "logger.wandb.entity=us", "logger=csv"]


@pytest.mark.parametrize("name", ["csv", "wandb"])
def test_run_of_before_is_resumed_with_the_logger_that_it_had(name):
    settings = {"name": name} | ({"project": "mine", "entity": None} if name == "wandb" else {})
    with job(f"logger={name}") as config:
        now = config.copy()
        config.logger = settings
        old = upgraded(config).logger
    if name == "wandb":
        assert (old.wandb.project, old.wandb.entity) == ("mine", None)
        now.logger.wandb.project = "mine"
    assert old == now.logger


@pytest.mark.parametrize("option", ["cross_entropy", "ohem", "classification"])
def test_run_of_before_is_resumed_with_the_loss_and_the_trainer_that_it_had(option):
    with job(f"loss={option}") as config:
        earlier = config.copy()
        with open_dict(earlier):
            del earlier.loss["_target_"], earlier.trainer["_target_"]
            if option == "classification":
                earlier.loss.name = option
        assert upgraded(earlier) == upgraded(config) == config
