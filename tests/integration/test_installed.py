"""The package as `pip install .` leaves it, outside of any checkout."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from helpers import REPO

PARTS = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "src", "conf")


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
    return target


def run_installed(target, folder, *command):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=variables | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"},
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
    for source in (REPO / "src" / "fastscnn").rglob("*.*"):
        if "__pycache__" not in source.parts:
            assert (package / source.relative_to(REPO / "src" / "fastscnn")).is_file(), source
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"fastscnn", "bin"}


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
    assert "experiment: camvid, " in run_installed(installed, tmp_path, script, "--help")
    assert "dataset: camvid" in run_installed(installed, tmp_path, script, "data=camvid", "--cfg", "job")
    assert list(tmp_path.iterdir()) == []
