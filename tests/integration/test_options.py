"""Options as users of Hydra and Lightning type them, in real commands on tiny streets."""

import json

import pytest

from fastscnn.runs.record import read_record
from helpers import FAST

TINY = [
    "data.streets={size:[32,64],train:8,val:2,test:1,train_extra:1}",
    "data.crop_size=[32,64]",
    "data.batch_size=4",
    "data.evaluate_test=false",
    "data.store=off",
    "pictures=0",
    *FAST,
]


def runs_in(folder):
    return [read_record(path.parent) for path in sorted(folder.glob("outputs/*/*/run.json"))]


def test_several_loggers_and_a_sweep_over_loggers(run, tmp_path):
    done = run(
        "train.py",
        "-m",
        "logger=[csv],[csv,tensorboard]",
        "optimizer=adamw",
        "scheduler=cosine",
        "trainer.max_epochs=1",
        *TINY,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    first, second = runs_in(tmp_path)
    assert [record["choices"]["logger"] for record in (first, second)] == ["csv", "csv+tensorboard"]
    assert first["name"] == "streets-optimizer_adamw-scheduler_cosine"
    assert len(list(tmp_path.glob("outputs/*/*/tensorboard/events.*"))) == 1
    assert len(list(tmp_path.glob("outputs/*/*/metrics.csv"))) == 2
    assert not list(tmp_path.glob("outputs/*/*/wandb"))


@pytest.mark.slow
def test_two_processes_share_the_batch_with_an_average_of_the_weights_and_an_early_end(run, tmp_path):
    options = ["trainer=ddp_cpu", "trainer.devices=2", "callbacks=[default,ema,early_stopping]"]
    more = [
        "logger=[csv,tensorboard]",
        "callbacks.early_stopping.patience=1",
        "trainer.max_epochs=6",
        "optimizer.lr=1e-9",
    ]
    done = run(
        "train.py", *options, *more, "data.check_val_every_n_epoch=1", *TINY[:-2], "data.num_workers=0", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (record,) = runs_in(tmp_path)
    assert record["device"].startswith("2 x CPU")
    assert record["choices"]["callbacks"] == "ema+early_stopping"
    assert record["metrics"]["last"]["epoch"] == 2, "the learning rate is too small to gain anything"
    assert len(list(tmp_path.glob("outputs/*/*/tensorboard/events.*"))) == 1


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """The folder of a search, and its command."""
    settings = ["optimizer.lr=choice(1e-7,0.1)", "scheduler.warmup_steps=0", "trainer.max_epochs=8", "logger=csv"]
    settings += ["optimizer.weight_decay=4e-5", "data.check_val_every_n_epoch=8", *TINY]
    return tmp_path_factory.mktemp("search"), ["train.py", "-m", "hparams_search=optuna", *settings]


def trials_in(folder):
    (file,) = folder.glob("outputs/multirun/*/search.json")
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def searched(run, search):
    """A search of three trials: what it printed, and the trials."""
    folder, command = search
    first = run(*command, "hydra.sweeper.n_trials=3", cwd=folder)
    assert first.returncode == 0, first.stderr
    return first, trials_in(folder)["trials"]


def test_search_trains_a_run_for_each_point(search, searched):
    first, tried = searched
    assert [trial["state"] for trial in tried] == ["complete"] * 3
    assert len(runs_in(search[0])) == len({str(trial["settings"]) for trial in tried})
    assert "ConfigStore" not in first.stderr, "no warnings of Hydra's about our own files"


@pytest.mark.slow
def test_search_finds_the_better_learning_rate_and_goes_on_side_by_side(run, search, searched):
    folder, command = search
    first, tried = searched
    beside = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_trials=6", "hydra.sweep.dir=second"]
    second = run(*command, *beside, cwd=folder)
    assert second.returncode == 0, second.stderr
    assert "ConfigStore" not in first.stderr + second.stderr, "no warnings of Hydra's about our own files"
    found = json.loads((folder / "second" / "search.json").read_text())
    assert found["trials"][:3] == tried, "finished trials are not trained again"
    assert found["best"]["settings"] == {"optimizer.lr": 0.1}
    values = {trial["settings"]["optimizer.lr"]: trial["value"] for trial in found["trials"]}
    assert values[0.1] > values[1e-7]
    assert "optimizer.lr=0.1" in second.stdout
