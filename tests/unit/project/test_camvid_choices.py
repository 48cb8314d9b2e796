"""The choices of benchmarks/camvid_choices.py: what is trained, and the table of what came out."""

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def choices(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("recipe", "camvid_choices"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import camvid_choices

    return camvid_choices


def test_each_run_is_one_change_to_the_recipe_on_a_drive_that_it_has_not_seen(choices, monkeypatch, tmp_path):
    commands = []

    def train(command, threads):
        commands.append(command)
        return {"val/miou": 0.3 + 0.1 * ("skip=zero" not in command), "val/iou/pole": 0.1}

    monkeypatch.setattr(choices, "train", train)
    output = tmp_path / "camvid_choices.json"
    arguments = ["--runs", str(tmp_path / "runs"), "--epochs", "2", "--output", str(output), "--imagenet", "file.ckpt"]
    choices.main(choices.parsed([str(tmp_path), *arguments]))
    assert len(commands) == 15
    assert len({choices.folder_of(command) for command in commands}) == 15
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        recipe, *changed = (compose("train", command) for command in commands[::3])
        assert (recipe.data.held_out, recipe.seed, recipe.data.evaluate_test) == ("0016E5", 0, False)
        assert [compose("train", command).data.held_out for command in commands[1:3]] == ["0006R0", "0001TP"]
    assert recipe.init.checkpoint is None and recipe.pretrain.name == "none"
    for config in changed:
        unlike = [name for name in recipe if name != "paths" and config[name] != recipe[name]]
        assert len(unlike) == 1, unlike
    text = output.with_suffix(".md").read_text()
    assert "| the recipe | 40.0 | 10.0 |  | 3 |" in text
    assert "| without the skip connection | 30.0 | 10.0 | -10.00 [-10.00, -10.00] | 3 |" in text
    assert "Not reached" not in text


def test_start_that_there_is_no_file_for_is_named_as_not_reached(choices, monkeypatch, tmp_path):
    monkeypatch.setattr(choices, "train", lambda *_: {"val/miou": 0.4, "val/iou/pole": 0.1})
    output = tmp_path / "camvid_choices.json"
    choices.main(choices.parsed([str(tmp_path), "--runs", str(tmp_path / "runs"), "--output", str(output)]))
    assert "Not reached: ImageNet sample as the start." in output.with_suffix(".md").read_text()
