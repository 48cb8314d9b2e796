"""A network of a user's own, from docs/own_code.md alone: its diff is applied, and its commands are called."""

import json
import re
import shlex
import subprocess

import numpy as np
import pytest

from fastscnn.export.export import export
from fastscnn.inference.loader import load_trained
from fastscnn.inference.segmenter import Segmenter
from fastscnn.runs.record import read_record
from helpers import FAST, REPO, refused, write_png

CHECKPOINT = "outputs/mine/checkpoints/best.ckpt"
QUICK = {
    "train.py": ["data=fine", "data.batch_size=2", "data.crop_size=[64,128]", "trainer.max_epochs=1", "logger=csv"],
    "benchmark.py": [
        "sizes=[[48,64]]",
        "threads=[1]",
        "frames=1",
        "warm_up=0",
        "rounds=1",
        "backends=[onnx]",
        "write=[labels]",
    ],
}
"""Settings that the page has not, so that the test is quick."""


def section():
    page = (REPO / "docs" / "own_code.md").read_text(encoding="utf-8")
    return page.partition("## Network\n")[2].partition("\n## ")[0]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", section(), re.DOTALL)


def commands():
    return [shlex.split(line)[1:] for line in blocks("sh")[0].splitlines()]


@pytest.fixture(scope="module")
def worked(run, cityscapes, tmp_path_factory):
    """The folder in which all commands of the page were called, and what each printed."""
    cwd = tmp_path_factory.mktemp("own")
    subprocess.run(["git", "apply", "-"], input=blocks("diff")[0], text=True, cwd=cwd, check=True, timeout=60)
    write_png(cwd / "street.png", np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8))
    printed = {}
    for main, *arguments in commands():
        name = main.removeprefix("src/")
        settings = [*QUICK.get(name, []), *(FAST if name in ("train.py", "eval.py") else [])]
        root = [f"data.root={cityscapes}"] if name == "train.py" else []
        done = run(name, *arguments, *settings, *root, cwd=cwd)
        assert done.returncode == 0, f"{main} {arguments}: {done.stdout}{done.stderr}"
        printed[name] = done.stdout.replace("\n", " ")
    return cwd, printed


@pytest.fixture(scope="module")
def trained(worked):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(worked[0])
        return load_trained(worked[0] / CHECKPOINT, trust="my_net")


def test_network_is_a_few_lines_and_every_command_reads_it():
    (diff,) = blocks("diff")
    assert sum(line.startswith("+") and not line.startswith("+++") for line in diff.splitlines()) <= 15
    assert [main for main, *_ in commands()] == [
        f"src/{name}.py" for name in ("train", "eval", "predict", "export", "benchmark", "compare")
    ]


def test_run_is_named_after_the_users_option_and_compared(worked):
    cwd, printed = worked
    record = read_record(cwd / "outputs" / "mine")
    assert (record["name"], record["choices"]["model"]) == ("fine-model_my_net", "my_net")
    assert "MyNet: 6,379 parameters" in printed["train.py"]
    page = (cwd / "outputs" / "compare" / "comparison.md").read_text()
    assert "my_net" in page


def test_evaluation_has_trainings_own_number(worked):
    cwd, _ = worked
    (file,) = (cwd / "outputs").rglob("eval.json")
    evaluated = json.loads(file.read_text())["metrics"]["val/miou"]
    recorded = read_record(cwd / "outputs" / "mine")["metrics"]["best"]["val/miou"]
    assert evaluated == pytest.approx(recorded, abs=1e-6)


def test_benchmark_times_it_beside_ours(worked):
    cwd, _ = worked
    result = json.loads((cwd / "results" / "benchmark.json").read_text())
    assert [model["name"] for model in result["models"].values()] == ["Fast-SCNN", "MyNet (checkpoint)"]
    assert {row["output"] for row in result["rows"] if row["model"] == "MyNet (checkpoint)"} == {"logits", "labels"}


def test_refusal_without_trust_prints_the_whole_command(worked, run):
    cwd, _ = worked
    (page,) = (arguments for main, *arguments in commands() if main == "src/predict.py")
    arguments = [argument for argument in page if not argument.startswith(("trust", "output"))] + ["output=other"]
    done = run("predict.py", *arguments, cwd=cwd)
    assert done.returncode == 2
    assert not (cwd / "other").exists()
    *_, printed = done.stderr.strip().partition("python ")
    assert shlex.split(printed)[1:] == [*arguments, "trust=my_net"]


def test_reading_in_python_needs_trust_too(worked):
    with refused("model.network._target_", "my_net.MyNet", fix="trust=my_net"):
        Segmenter.from_checkpoint(worked[0] / CHECKPOINT)


@pytest.mark.slow
def test_exported_program_of_torch_agrees(trained, tmp_path):
    """The other formats are tried with larger networks, in tests/unit/inference/test_external_networks.py."""
    assert export(trained, tmp_path / "mine.pt2", format="torch", write="probabilities").comparison.largest < 1e-4
