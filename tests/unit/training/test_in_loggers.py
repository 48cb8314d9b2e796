"""What a training and an evaluation show in W&B and TensorBoard beside scalars."""

import json

import numpy as np
import pytest
import wandb
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from fastscnn.runs.identity import Identity
from fastscnn.runs.record import read_record
from fastscnn.training.evaluate import evaluate
from fastscnn.training.fit import fit
from helpers import CONF, FAST, job, wandb_config_of, wandb_records, write_cityscapes

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs with W&B (offline, with its model as an artifact) and TensorBoard."""
    home = tmp_path_factory.mktemp("loggers")
    root = write_cityscapes(home / "data", size=(32, 64), train=4, val=2)
    settings = ["data=fine", f"data.root={root}", "data.batch_size=2", "trainer.max_epochs=2", *FAST, "data.store=off"]
    settings += ["trainer.check_val_every_n_epoch=1", "trainer.log_every_n_steps=1", "pictures=1"]
    settings += ["logger=[wandb,tensorboard]", "+logger.wandb.log_model=true", f"paths.run_dir='{home / 'run'}'"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        with job(*settings, "seed=3") as config:
            fit(config)
        wandb.teardown()  # within this block: W&B's service leaves a variable that later processes would go by
    return home / "run"


def history(folder):
    rows = wandb_records(folder, "history")
    return [{".".join(item.nested_key) or item.key: item.value_json for item in row.item} for row in rows]


def media(folder, prefix):
    """What was logged under keys with this prefix: key parts below it to value, for each row."""
    found = []
    for row in wandb_records(folder, "history"):
        for name in dict.fromkeys(item.nested_key[0] for item in row.item if item.nested_key):
            if name.startswith(prefix):
                items = [item for item in row.item if list(item.nested_key)[:1] == [name]]
                found.append({"/".join(list(item.nested_key)[1:]): json.loads(item.value_json) for item in items})
    return found


def test_frames_have_masks_of_prediction_and_truth(trained):
    pictures = media(trained, "val/pictures/")
    assert len(pictures) == 2, "one frame of each epoch"
    for picture in pictures:
        assert picture["_type"] == "image-file"
        assert {key.split("/")[1] for key in picture if key.startswith("masks/")} == {"prediction", "truth"}
        assert picture["height"] <= 512


def test_best_validation_has_a_confusion_matrix_and_a_table_of_classes(trained):
    assert media(trained, "best/confusion")
    tables = media(trained, "best/classes")
    assert tables[0]["_type"] == "table-file"
    assert (tables[0]["nrows"], tables[0]["ncols"]) == (19, 3)


def test_rates_the_norm_of_the_gradients_and_facts_are_logged(trained):
    found = history(trained)
    assert len([row for row in found if "rate/images_per_second" in row]) == 2
    norms = [(row["trainer/global_step"], float(row["train/grad_norm"])) for row in found if "train/grad_norm" in row]
    assert [step for step, _ in norms] == ["1", "2", "3", "4"]
    assert all(norm > 0 for _, norm in norms)
    config = {}
    for record in wandb_records(trained, "config"):
        config |= {item.key: json.loads(item.value_json) for item in record.update}
    assert config["frames"] == {"train": 4, "val": 2}
    assert config["parameters"] > 1_000_000 and config["multiply_adds"] > 0 and "CPU" in config["device"]


def test_best_checkpoint_is_an_artifact_offline_too(trained):
    requests = [record.log_artifact for record in wandb_records(trained, "request") if record.HasField("log_artifact")]
    artifacts = [request.artifact for request in requests] + list(wandb_records(trained, "artifact"))
    (model,) = [artifact for artifact in artifacts if artifact.type == "model"]
    assert model.name == f"model-{read_record(trained)['id']}"
    assert set(model.aliases) == {"best", "latest"}


def test_name_in_a_legend_has_the_seed_and_what_is_swept(trained):
    (run,) = wandb_records(trained, "run")
    assert run.display_name == f"fine seed=3 {read_record(trained)['id']}"
    assert run.job_type == "train"
    chosen = {"data": "fine", "skip": "zero"}
    swept = Identity(chosen, overrides={"optimizer.lr": "0.1"}, swept=("optimizer.lr", "skip"))
    assert swept.title(0) == "fine-skip_zero optimizer.lr=0.1 seed=0"


def test_tensorboard_gets_the_same_pictures_and_scalars(trained):
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = loading.EventAccumulator(str(trained / "tensorboard"))
    found.Reload()
    tags = found.Tags()
    assert any(name.startswith("val/pictures/") for name in tags["images"]) and "best/confusion" in tags["images"]
    expected = {"val/miou", "best/miou", "train/loss_epoch", "train/grad_norm", "rate/epoch_seconds"}
    assert expected <= set(tags["scalars"])
    assert [event.step for event in found.Scalars("val/miou")] == [2, 4]


def test_evaluation_is_a_run_of_its_own_in_the_group_of_its_training(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    GlobalHydra.instance().clear()
    settings = [f"checkpoint='{trained / 'checkpoints' / 'best.ckpt'}'", "skip=zero", "logger=wandb", "pictures=0"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("eval", [*settings, f"paths.run_dir='{tmp_path / 'eval-1'}'", "data.num_workers=0"])
    scores = evaluate(config)
    (run,) = wandb_records(tmp_path / "eval-1", "run")
    assert (run.job_type, run.run_group) == ("eval", "fine")
    assert run.display_name.startswith("fine-skip_zero seed=3")
    evaluated = wandb_config_of(tmp_path / "eval-1")["config"]["evaluated"]
    assert evaluated["of_run"] == read_record(trained)["id"]
    rows = [float(row["val/miou"]) for row in history(tmp_path / "eval-1") if "val/miou" in row]
    assert np.allclose(rows, [scores.miou])
