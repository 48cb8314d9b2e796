"""The package as `pip install .` leaves it, outside of any checkout."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from helpers import REPO, random_image, write_image

PARTS = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "src", "conf", "weights")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the installed package, and one to run programs in with it."""
    checkout, target = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("site-packages")
    for name in PARTS:
        copy = shutil.copytree if (REPO / name).is_dir() else shutil.copy
        copy(REPO / name, checkout / name)
    shutil.rmtree(checkout / "src" / "fastscnn.egg-info", ignore_errors=True)
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(checkout)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(checkout)
    take_machine_code(REPO / "src" / "fastscnn", target / "fastscnn")
    return target


def take_machine_code(checkout, package):
    """Numba's machine code of the same sources, which takes seconds to make; it knows a source by its size and time."""
    for file in checkout.rglob("__pycache__/*.nb[ic]"):
        source = file.parents[1] / f"{file.name.partition('.')[0]}.py"
        installed = package / source.relative_to(checkout)
        if installed.read_bytes() == source.read_bytes():
            shutil.copystat(source, installed)
            shutil.copy(file, installed.parent / "__pycache__" / file.name)


def run_installed(target, folder, *command, beside=""):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=variables | {"PYTHONPATH": f"{target}{os.pathsep}{beside}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_package_has_all_that_it_reads_and_nothing_beside_itself(installed):
    package = installed / "fastscnn"
    parts = {str(path.relative_to(REPO / "conf")) for path in (REPO / "conf").rglob("*.yaml")}
    assert {str(path.relative_to(package / "conf")) for path in (package / "conf").rglob("*")} >= parts
    assert (package / "py.typed").is_file()
    weights = {path.relative_to(REPO / "weights") for path in (REPO / "weights").rglob("*") if path.is_file()}
    assert weights
    assert {path.relative_to(package / "weights") for path in (package / "weights").rglob("*")} >= weights
    for source in (REPO / "src" / "fastscnn").rglob("*.*"):
        if "__pycache__" not in source.parts:
            assert (package / source.relative_to(REPO / "src" / "fastscnn")).is_file(), source
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {
        "fastscnn",
        "hydra_plugins",
        "bin",
    }


@pytest.mark.slow
def test_installed_network_and_kernels_run(installed, tmp_path):
    version = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    code = f"""
import torch, fastscnn
from fastscnn import FastSCNN, Segmenter, upsample_labels
assert fastscnn.__file__.startswith({str(installed)!r}), fastscnn.__file__
assert fastscnn.__version__ == {version!r}, fastscnn.__version__
logits = FastSCNN().eval()(torch.zeros(1, 3, 32, 64))
assert torch.equal(upsample_labels(logits, (32, 64)), logits.argmax(1))
assert callable(Segmenter.from_checkpoint)
"""
    run_installed(installed, tmp_path, "-c", code)


def test_installed_command_composes_the_configs_that_it_carries(installed, tmp_path):
    script = str(installed / "bin" / "fastscnn-train")
    assert " experiment=camvid " in run_installed(installed, tmp_path, script, "--help")
    assert "dataset: camvid" in run_installed(installed, tmp_path, script, "data=camvid", "--cfg", "job")
    assert list(tmp_path.iterdir()) == []


NO_NETWORK = """
import socket
def refused(*arguments):
    raise AssertionError("the network was asked for")
socket.socket.connect = socket.getaddrinfo = refused
"""


def test_installed_package_labels_a_photograph_with_what_it_carries(installed, tmp_path):
    write_image(tmp_path / "photo.jpg", random_image(0))
    (tmp_path / "off").mkdir()
    (tmp_path / "off" / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    script = str(installed / "bin" / "fastscnn-predict")
    code = f"""
import runpy, sys
from fastscnn import Segmenter
segmenter = Segmenter.from_pretrained("camvid")
assert segmenter("photo.jpg").shape == (40, 56)
assert "bicyclist" in segmenter.classes.names
assert "rider" in Segmenter.from_pretrained("streets").classes.names
sys.argv = [{script!r}, "input=photo.jpg", "output=out"]
runpy.run_path({script!r}, run_name="__main__")
"""
    printed = run_installed(installed, tmp_path, "-c", code, beside=tmp_path / "off")
    assert "checkpoint is not set: predicting with the shipped network camvid" in printed
    assert "Suited to street photographs" in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "photo_labels.png",
        "photo_overlay.png",
        "predict.json",
    }


def test_installed_command_finds_the_sweeper_that_it_carries(installed, tmp_path):
    arguments = ["-m", "hparams_search=optuna", "hydra.sweeper.n_trials=0", f"paths.output_dir={tmp_path}"]
    code = f"""
import sys
sys.argv = ["fastscnn-train", *{arguments!r}]
from fastscnn.cli.train import main
try:
    main()
except SystemExit as end:
    assert end.code == 2, end.code
assert sys.modules["hydra_plugins.fastscnn_search"].__file__.startswith({str(installed)!r})
"""
    run_installed(installed, tmp_path, "-c", code)
