"""`python src/predict.py` and `python src/benchmark.py` as a person calls them."""

import json

import cv2
import pytest
from test_predict import files, picture, write_checkpoint, write_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, two photographs and a broken one."""
    folder = tmp_path_factory.mktemp("predict")
    write_checkpoint(folder / "best.ckpt")
    for number in range(2):
        write_image(folder / "photos" / f"{number}.png", picture(number))
    (folder / "photos" / "broken.jpg").write_bytes(b"no photograph")
    return folder


def test_broken_file_is_listed_and_the_others_are_done_and_again(run, folder):
    call = ["predict.py", "checkpoint=best.ckpt", "input=photos", "output=out", "write=[labels,side_by_side]"]
    first = run(*call, cwd=folder)
    assert first.returncode == 1, first.stderr
    assert "failed: photos/broken.jpg: no whole image (13 bytes)" in first.stderr
    assert "1 failed, the other 2 are done." in first.stderr
    assert "Traceback" not in first.stderr
    written = files(folder / "out")
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
        (["input=photos", "output=new"], "checkpoint is not set"),
        (["checkpoint=best.ckpt", "output=new"], "input is not set"),
        (["checkpoint=none.ckpt", "input=photos", "output=new"], "checkpoint=none.ckpt: there is no such file"),
        (["checkpoint=best.ckpt", "input=none", "output=new"], "input=none: there is no such file or folder"),
        (
            ["checkpoint=best.ckpt", "input=photos", "output=new", "backend=tvm"],
            "backend=tvm is not one of torch",
        ),
        (["checkpoint=best.ckpt", "input=photos", "output=new", "wirte=auto"], "Did you mean write?"),
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
        "runtimes=[torch]",
        "sizes=[[64,96]]",
        "threads=[1]",
        "frames=3",
        "burn_in=1",
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
