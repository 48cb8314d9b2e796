"""What answers before anything heavy is imported, and wrong requests."""

import pytest


def imported(done):
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize(
    ("script", "argument", "code"),
    [
        ("train.py", "--help", 0),
        ("train.py", "--cfg=job", 0),
        ("train.py", "data=fin", 2),
        ("train.py", "rerun=maybe", 2),
        ("train.py", "rerun=null", 2),
        ("train.py", "data.evaluate_test=maybe", 2),
        ("eval.py", "checkpoint=x calibrate=maybe", 2),
        ("eval.py", "checkpoint=x report=maybe", 2),
        ("dashboard.py", "dry_run=maybe", 2),
        ("eval.py", "--help", 0),
    ],
)
def test_help_config_and_wrong_overrides_answer_before_torch_is_imported(run, tmp_path, script, argument, code):
    done = run(script, *argument.split(" "), cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == code
    assert "hydra" in imported(done)
    assert not {"torch", "pytorch_lightning", "albumentations", "wandb", "cv2"} & imported(done)
    assert list(tmp_path.iterdir()) == []


def test_help_lists_every_group_with_its_options(run, tmp_path):
    text = run("train.py", "--help", cwd=tmp_path).stdout
    for option in (" *activation=relu ", "  activation=relu6 ", "  augment=none ", "  hydra/launcher=joblib "):
        assert option in text
    assert "AdamW (Loshchilov and Hutter 2019)" in text
    assert "${" not in text.partition("Settings with their defaults")[0]
    assert "momentum: 0.9" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data=fine", "data.root=/nowhere"], ["data.root=/nowhere", "Set data.root=DIR"]),
        (["data=fine"], ["data.root", "CITYSCAPES_DATASET"]),
        (["data.batch_size=1"], ["data.batch_size=1", "data.batch_size=2"]),
        (["trainer.accelerator=gpu"], ["trainer.accelerator=gpu", "cpu"]),
        (["data.batch_size=7", "trainer.accumulate_grad_batches=2"], ["data.batch_size=7", "6 or 8"]),
        (["+trainer.max_epoch=3"], ["trainer.max_epoch"]),
    ],
)
def test_wrong_request_is_one_sentence_with_the_fix_and_leaves_nothing(run, tmp_path, arguments, words):
    done = run("train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words)
    assert list(tmp_path.iterdir()) == []


def test_root_comes_from_the_official_environment_variable(run, cityscapes, tmp_path):
    done = run("train.py", "data=fine", "--cfg=job", "--resolve", cwd=tmp_path, CITYSCAPES_DATASET=str(cityscapes))
    assert f"root: {cityscapes}" in done.stdout
