"""Arguments that Hydra takes without a word, and that are not what their user means, are refused in a sentence."""

import subprocess
import sys

import pytest

from fastscnn.cli.arguments import check_arguments
from helpers import SOURCES, refused


@pytest.mark.parametrize(
    ("command", "argument", "fix"),
    [
        ("predict", "input=", "input=VALUE"),
        ("predict", "output= ", "output=VALUE"),
        ("train", "+data.root=", "leave data.root out"),
        ("train", "hydra.run.dir=/tmp/run", "paths.run_dir"),
        ("eval", "++hydra.run.dir=/tmp/run", "paths.run_dir"),
        ("predict", "hydra.run.dir=/tmp/run", "predict.py --help"),
    ],
)
def test_what_means_something_else_is_refused(command, argument, fix):
    with refused(argument.lstrip("+").partition("=")[0], fix):
        check_arguments(["data=camvid", argument], command)


def test_all_else_is_left_to_hydra():
    check_arguments(
        ["--config-dir=", "~callbacks", "~data.root=", "-m", "a=''", "data=a,b", "hydra.sweep.dir=x"], "train"
    )


def test_variable_that_is_not_set_does_not_take_the_folder_of_the_call(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"not read")
    command = [sys.executable, SOURCES / "predict.py", "input=", f"output={tmp_path / 'labels'}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr == "input= has no value. Set input=VALUE, or leave input out.\n"
    assert {path.name for path in tmp_path.iterdir()} == {"photo.jpg"}
