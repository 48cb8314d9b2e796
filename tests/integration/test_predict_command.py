"""`python src/predict.py` and `python src/benchmark.py` as a person calls them."""

import json
import signal
import time
import zipfile

import cv2
import pytest

from helpers import files_in, random_image, write_checkpoint, write_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, two photographs and a broken one."""
    folder = tmp_path_factory.mktemp("predict")
    write_checkpoint(folder / "best.ckpt")
    for number in range(2):
        write_image(folder / "photos" / f"{number}.png", random_image(number))
    (folder / "photos" / "broken.jpg").write_bytes(b"no photograph")
    return folder


def test_broken_file_is_listed_and_the_others_are_done_and_again(run, folder):
    call = ["predict.py", "checkpoint=best.ckpt", "input=photos", "output=out", "write=[labels,side_by_side]"]
    first = run(*call, cwd=folder)
    assert first.returncode == 1, first.stderr
    assert "failed: photos/broken.jpg: is not a complete image (13 bytes)" in first.stderr
    assert "1 failed, the other 2 are done." in first.stderr
    assert "Traceback" not in first.stderr
    written = files_in(folder / "out")
    assert written == sorted(
        [f"{n}_{kind}.png" for n in (0, 1) for kind in ("labels", "side_by_side")] + ["predict.json"]
    )
    assert cv2.imread(str(folder / "out" / "0_labels.png"), cv2.IMREAD_UNCHANGED).shape == (40, 56)
    (folder / "photos" / "broken.jpg").unlink()
    again = run(*call, cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "2 of 2 were there already." in again.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["format=cityscapes", "output=new"], "checkpoint is not set, and no shipped network"),
        (["checkpoint=best.ckpt", "output=new"], "input is not set"),
        (["checkpoint=none.ckpt", "input=photos", "output=new"], "checkpoint=none.ckpt: there is no such file"),
        (["checkpoint=best.ckpt", "input=none", "output=new"], "input=none: there is no such file or folder"),
        (
            ["checkpoint=best.ckpt", "input=photos", "output=new", "backend=tvm"],
            "Set backend to one of auto, torch, compile, triton, onnx, openvino",
        ),
        (["checkpoint=best.ckpt", "input=photos", "output=new", "writes=auto"], "Did you mean write?"),
    ],
)
def test_wrong_request_is_one_sentence(run, folder, arguments, sentence):
    done = run("predict.py", *arguments, cwd=folder)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "new").exists()


def test_benchmark_writes_numbers_tables_and_plot(run, folder):
    done = run(
        "benchmark.py",
        "checkpoint=best.ckpt",
        "models=[fast_scnn]",
        "backends=[torch]",
        "sizes=[[64,96]]",
        "threads=[1]",
        "frames=3",
        "warm_up=1",
        "rounds=2",
        "output=speed/table6.json",
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "speed" / "table6.json").read_text())
    assert {row["runtime"] for row in result["rows"]} == {"torch eager", "torch, ours"}
    assert result["machine"]["processor"] and result["versions"]["torch"]
    assert "python src/benchmark.py" in result["command"] or "benchmark.py" in result["command"]
    assert "| Fast-SCNN | 1.14 (1.11) |" in (folder / "speed" / "table6.md").read_text()


def test_stopped_by_hand_everything_is_whole_and_the_same_command_goes_on(run, start, folder, tmp_path):
    for number in range(400):
        write_image(tmp_path / "photos" / f"{number}.png", random_image(number))
    call = ["predict.py", f"checkpoint={folder / 'best.ckpt'}", "input=photos", "output=out"]
    going = start(*call, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("*_overlay.png")) and time.monotonic() < deadline:
        time.sleep(0.01)
    going.send_signal(signal.SIGINT)
    _, told = going.communicate(timeout=60)
    assert going.returncode == 128 + signal.SIGINT, told
    assert "the same command goes on with the other" in told
    assert "Traceback" not in told
    written = files_in(tmp_path / "out")
    assert 1 < len(written) < 801
    assert not [name for name in written if "unfinished" in name]
    for name in written:
        assert name == "predict.json" or cv2.imread(str(tmp_path / "out" / name)) is not None
    again = run(*call, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "of 400 were there already." in again.stdout
    assert len(files_in(tmp_path / "out")) == 801


def test_archive_of_val_scores_as_training_did_by_the_official_script(run, trained, cityscapes, tmp_path):
    done = run(
        "predict.py",
        f"checkpoint='{trained[1] / 'checkpoints' / 'best.ckpt'}'",
        "format=cityscapes",
        "split=val",
        f"data.root={cityscapes}",
        "output=submission",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "For the benchmark server, checked: submission/val.zip"
    assert "The server takes all 500 frames of val, and data.root has 2." in done.stdout
    with zipfile.ZipFile(tmp_path / "submission" / "val.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    script = tmp_path / "official.py"
    script.write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        "from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official\n"
        "truths = sorted(str(p) for p in Path(sys.argv[1]).rglob('gtFine/val/*/*_gtFine_labelIds.png'))\n"
        "official.args.predictionPath = sys.argv[2]\n"
        "official.args.quiet, official.args.JSONOutput, official.args.evalInstLevelScore = True, False, False\n"
        "predictions = [official.getPrediction(official.args, truth) for truth in truths]\n"
        "scores = official.evaluateImgLists(predictions, truths, official.args)\n"
        "print('RESULT', scores['averageScoreClasses'])\n"
    )
    judged = run(script, str(cityscapes), str(tmp_path / "unpacked"), cwd=tmp_path)
    score = float(judged.stdout.rpartition("RESULT")[2])
    best = json.loads((trained[1] / "run.json").read_text())["metrics"]["best"]
    assert score == pytest.approx(best["val/miou"], abs=1e-4)
