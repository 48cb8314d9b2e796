"""`python src/eval.py` as a user calls it, against training's own validation and the official evaluation."""

import json

import cv2
import pytest
import torch

from helpers import FAST

EVAL = ["trainer.accelerator=cpu", "data.num_workers=0"]


@pytest.fixture(scope="module")
def evaluated(run, trained, tmp_path_factory):
    """An evaluation of the trained run's best checkpoint with its predictions saved, and with its page."""
    cwd = tmp_path_factory.mktemp("eval")
    done = run(
        "eval.py",
        f"checkpoint='{trained[1] / 'checkpoints' / 'best.ckpt'}'",
        "save_predictions=predictions",
        "report=true",
        "paths.run_dir=evaluation",
        *EVAL,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done, cwd


def metrics(cwd):
    return json.loads((cwd / "evaluation" / "eval.json").read_text())["metrics"]


def test_evaluation_gives_the_number_of_trainings_own_validation(evaluated, trained):
    recorded = json.loads((trained[1] / "run.json").read_text())["metrics"]["best"]
    ours = metrics(evaluated[1])
    assert {name for name in recorded if name.startswith("val/")} <= set(ours)
    for name, value in recorded.items():
        if name.startswith("val/"):
            assert ours[name] == pytest.approx(value, abs=1e-6)


def test_official_evaluation_of_the_saved_predictions_gives_the_same_scores(evaluated, cityscapes, run, tmp_path):
    cwd = evaluated[1]
    script = tmp_path / "official.py"
    script.write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        "from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official\n"
        "truths = sorted(str(p) for p in Path(sys.argv[1]).rglob('gtFine/val/*/*_gtFine_labelIds.png'))\n"
        "official.args.predictionPath = sys.argv[2]\n"
        "official.args.quiet, official.args.JSONOutput, official.args.evalInstLevelScore = True, False, False\n"
        "predictions = [official.getPrediction(official.args, truth) for truth in truths]\n"
        "print('RESULT' + json.dumps(official.evaluateImgLists(predictions, truths, official.args), default=float))\n"
    )
    done = run(script, str(cityscapes), str(cwd / "predictions"), cwd=tmp_path)
    results = json.loads(done.stdout.rpartition("RESULT")[2])
    ours = metrics(cwd)
    assert ours["val/miou"] == pytest.approx(results["averageScoreClasses"], abs=1e-6)
    assert ours["val/category_miou"] == pytest.approx(results["averageScoreCategories"], abs=1e-6)
    compared = 0
    for name, official in results["classScores"].items():
        if official == official:
            assert ours[f"val/iou/{name}"] == pytest.approx(official, abs=1e-6)
            compared += 1
    assert compared > 10


def test_predictions_are_whole_label_id_files_under_the_frames_names(evaluated, cityscapes):
    truths = sorted((cityscapes / "gtFine" / "val").rglob("*_gtFine_labelIds.png"))
    for truth in truths:
        name = truth.name.replace("_gtFine_labelIds.png", "_pred_labelIds.png")
        prediction = cv2.imread(str(evaluated[1] / "predictions" / name), cv2.IMREAD_UNCHANGED)
        assert prediction.shape == cv2.imread(str(truth), cv2.IMREAD_UNCHANGED).shape


def test_page_has_the_numbers_of_the_evaluation_and_what_it_measures_adds_up(evaluated):
    folder = evaluated[1] / "evaluation"
    content = json.loads((folder / "eval.json").read_text())
    measured, page = content["report"], (folder / "report.html").read_text()
    near, away = measured["boundary"]["near"], measured["boundary"]["away"]
    assert near["pixels"] + away["pixels"] == content["pixels"]
    assert sum(map(sum, measured["objects"]["pixels"].values())) == content["pixels"]
    right = sum(map(sum, measured["objects"]["right"].values()))
    assert right / content["pixels"] == pytest.approx(content["metrics"]["val/accuracy"])
    low, high = measured["intervals"]["val/miou"]
    assert low <= content["metrics"]["val/miou"] <= high
    for name, value in content["metrics"].items():
        if name.startswith("val/iou/") and value is not None:
            assert f'span>{name.removeprefix("val/iou/")}</td><td class="number">{100 * value:.1f}</td>' in page
    assert page.count("<figure>") == len(measured["worst"]) == content["frames"] == 2
    assert 'class="dot"' in page, "the bins of the calibration"
    assert "The page: evaluation/report.html" in evaluated[0].stdout


def test_table_and_the_folder_are_on_the_screen(evaluated):
    lines = evaluated[0].stdout.strip().splitlines()
    assert "class mIoU" in evaluated[0].stdout
    assert "evaluation" in lines[-1]


def test_checkpoint_of_another_class_count_and_a_missing_one_are_refused(run, trained, tmp_path):
    best = trained[1] / "checkpoints" / "best.ckpt"
    done = run("eval.py", f"checkpoint='{best}'", "data=camvid", "data.root=x", *EVAL, cwd=tmp_path)
    assert done.returncode == 2
    assert "19 classes" in done.stderr
    assert "11 of CamVid" in done.stderr
    done = run("eval.py", "checkpoint=nothing.ckpt", *EVAL, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [done.stderr.strip()]
    assert list(tmp_path.iterdir()) == []


def test_skip_zero_on_the_trained_checkpoint_is_another_network(run, trained, tmp_path):
    content = torch.load(trained[1] / "checkpoints" / "best.ckpt", weights_only=True)
    generator = torch.manual_seed(0)
    for name, weights in content["state_dict"].items():
        if name.startswith("network.classifier") and weights.dim() == 4:
            weights.normal_(generator=generator)  # so short a training says one class everywhere
    torch.save(content, tmp_path / "changed.ckpt")
    scores = []
    for skip in ("keep", "zero"):
        folder = tmp_path / skip
        folder.mkdir()
        changed = f"checkpoint='{tmp_path / 'changed.ckpt'}'"
        done = run("eval.py", changed, f"skip={skip}", "paths.run_dir=evaluation", *EVAL, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert json.loads((folder / "evaluation" / "eval.json").read_text())["model"]["skip"] == skip
        scores.append(metrics(folder)["val/accuracy"])
    assert scores[0] != scores[1]


def test_streets_layout_read_as_fine_is_the_same_job(run, tmp_path):
    small = [
        "data.crop_size=[48,96]",
        "data.batch_size=2",
        "trainer.max_epochs=1",
        "data.scale=[0.5,2.0]",
        "logger=csv",
        *FAST,
    ]
    spec = "data.streets.size=[64,128]"
    counts = ["data.streets.train=4", "data.streets.val=2", "data.streets.test=2", "data.streets.train_extra=2"]
    first = run("train.py", spec, *counts, *small, "paths.run_dir=streets", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    (root,) = (path for path in (tmp_path / "data" / "streets").iterdir() if path.is_dir())
    second = run("train.py", "data=fine", f"data.root={root}", *small, "paths.run_dir=fine", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    values = [json.loads((tmp_path / name / "run.json").read_text())["metrics"]["last"] for name in ("streets", "fine")]
    assert values[0]["val/accuracy"] == values[1]["val/accuracy"]
    assert values[0]["val/miou"] == values[1]["val/miou"]
    best = json.loads((tmp_path / "streets" / "run.json").read_text())["metrics"]["best"]
    assert best["test/accuracy"] > 0
    for done in (first, second):
        assert "Synthetic streets, 19 classes" in done.stdout
        assert "Cityscapes" not in done.stdout, "drawn streets must not pass for a Cityscapes score"


def test_pictures_of_training_and_evaluation_show_the_same_frames(evaluated, trained):
    content = json.loads((evaluated[1] / "evaluation" / "eval.json").read_text())
    record = json.loads((trained[1] / "run.json").read_text())
    assert content["run"] == record["id"]
    trained_on = {key: value for key, value in record["dataset"].items() if key != "fingerprint"}
    assert content["dataset"] == trained_on | {"frames": {"val": {"fine": 2}}, "store": None}
    drawn = {path.name.partition("_epoch")[0] for path in (trained[1] / "images").glob("*.png")}
    assert {picture.removeprefix("images/").removesuffix(".png") for picture in content["pictures"]} == drawn
    for picture in content["pictures"]:
        assert cv2.imread(str(evaluated[1] / "evaluation" / picture)).shape == (64, 3 * 128, 3)


def test_checkpoint_is_evaluated_at_another_resolution_without_change(run, trained, evaluated, tmp_path):
    checkpoint = f"checkpoint='{trained[1] / 'checkpoints' / 'best.ckpt'}'"
    done = run("eval.py", checkpoint, "resolution=half", "pictures=0", "paths.run_dir=evaluation", *EVAL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "evaluation" / "eval.json").read_text())
    full = json.loads((evaluated[1] / "evaluation" / "eval.json").read_text())
    assert (content["resolution"], full["resolution"]) == ("half", "full")
    assert content["pixels"] == full["pixels"]
    assert content["metrics"] != full["metrics"]
    assert content["pictures"] == []


def test_saved_network_is_judged_as_its_checkpoint(evaluated, trained, cityscapes, run, tmp_path):
    best = f"checkpoint='{trained[1] / 'checkpoints' / 'best.ckpt'}'"
    saved = run("export.py", best, "format=safetensors", "output=saved", cwd=tmp_path)
    assert saved.returncode == 0, saved.stderr
    where = [f"data.root={cityscapes}", "paths.run_dir=evaluation"]
    done = run("eval.py", "checkpoint=saved", *where, *EVAL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path) == pytest.approx(metrics(evaluated[1]), nan_ok=True)
