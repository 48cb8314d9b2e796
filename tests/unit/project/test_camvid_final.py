"""The seeds of benchmarks/camvid_final.py: what is trained, and the table of what came out."""

import statistics
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def final(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("recipe", "camvid_final"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import camvid_final

    return camvid_final


def test_train_and_val_are_joined_test_is_evaluated_and_the_settings_win(final, tmp_path):
    arguments = final.arguments_of(2, 160, tmp_path, tmp_path, ["data.store=off", "resolution=full"])
    others = ([2, 160, []], [1, 160, ["data.store=off", "resolution=full"]], [2, 60, ["data.store=off"]])
    folders = {
        final.folder_of(final.arguments_of(seed, epochs, tmp_path, tmp_path, own)) for seed, epochs, own in others
    }
    assert len({*folders, final.folder_of(arguments)}) == 4, "a finished run stands for no other settings"
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", arguments)
    assert (config.seed, config.trainer.max_epochs, config.data.store) == (2, 160, "off")
    assert config.data.train_splits == ["train", "val"]
    assert config.data.evaluate_test is True
    assert config.data.held_out is None


def test_means_and_deviations_are_over_the_seeds_and_stand_beside_the_papers_recipe(final):
    seeds = {0: 0.58, 1: 0.61, 2: 0.62}
    found = {seed: {"test/miou": miou, "test/iou/pole": miou / 2, "val/miou": 0.9} for seed, miou in seeds.items()}
    iou = final.spread(found)
    assert iou["mIoU"]["mean"] == pytest.approx(100 * statistics.fmean(seeds.values()))
    assert iou["pole"]["deviation"] == pytest.approx(50 * statistics.stdev(seeds.values()))
    assert final.spread({0: found[0]})["mIoU"] == {"mean": pytest.approx(58), "deviation": None}
    seen = {"miou_on_val_that_was_trained_on": {"0": 80, "1": 70}}
    shown = final.table({"training": "train", "seeds": {"0": 1}, "iou": iou, "paper_recipe": {"mIoU": 46.396}} | seen)
    assert "| mIoU | 60.3 | 2.1 | 46.4 |" in shown
    assert "| pole | 30.2 | 1.0 |  |" in shown


def test_run_that_was_trained_without_the_test_frames_is_evaluated_where_they_are(final, tmp_path, monkeypatch):
    run, here, splits = tmp_path / "seed1", tmp_path / "camvid", []

    def evaluate(command, **settings):
        (split,) = (part.partition("=")[2] for part in command if part.startswith("split="))
        splits.append(split)
        assert {f"checkpoint={run / 'checkpoints' / 'best.ckpt'}", f"data.root={here}"} <= set(command)
        (run / split).mkdir(parents=True)
        (run / split / "eval.json").write_text(f'{{"metrics": {{"{split}/miou": {0.6 if split == "test" else 0.8}}}}}')
        return final.subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(final.subprocess, "run", evaluate)
    assert final.tested(run, {"val/miou": 0.7}, here) == {"val/miou": 0.7}, "there are no test frames"
    assert not splits
    (here / "test").mkdir(parents=True)
    for _ in range(2):
        assert final.tested(run, {}, here) == {"test/miou": 0.6, "val/miou": 0.8}
    assert final.tested(run, {"test/miou": 0.5}, here) == {"test/miou": 0.5, "val/miou": 0.8}, "the run's own"
    assert splits == ["test", "val"], "once each"
