"""Real runs of the real commands on tiny generated data."""

import subprocess

import pytest

from helpers import FAST, command, write_cityscapes


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Run a command to its end: `run("train.py", "data=fine", …, cwd=DIR)`."""

    def run(script, *arguments, cwd, **environment):
        return subprocess.run(
            **command(script, *arguments, cwd=cwd, **environment),
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture(scope="session")
def cityscapes(tmp_path_factory):
    """A tiny data set in the Cityscapes layout."""
    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"), train=5, val=2, train_extra=3)


@pytest.fixture(scope="session")
def trained(run, cityscapes, tmp_path_factory):
    """A finished run: its process, and its folder."""
    cwd = tmp_path_factory.mktemp("work")
    folder = cwd / "the run"
    done = run(
        "train.py",
        "data=fine",
        f"data.root={cityscapes}",
        "data.batch_size=2",
        "trainer.max_epochs=3",
        f"paths.run_dir={folder}".replace(" ", r"\ "),
        *FAST,
        cwd=cwd,
        FASTSCNN_PROGRESS_SECONDS="0.05",
    )
    assert done.returncode == 0, done.stderr
    return done, folder
