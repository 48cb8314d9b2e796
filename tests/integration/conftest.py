"""Real runs of the real commands on tiny generated data."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import FAST, REPO, command, write_cityscapes
from warm import READ_LATE, SECONDS, WarmCommands

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
BROWSER_FLAGS += ["--disable-sync", "--no-first-run"]
BROWSER_FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Start a command as `subprocess.Popen` does, with captured text: `start("train.py", "data=fine", …, cwd=DIR)`.

    Variables that an interpreter or a library reads as it starts have no effect in the warm process: a command that
    sets any is started in the usual way.
    """
    folder = Path(os.environ.get("FASTSCNN_TESTS_WARM") or tmp_path_factory.mktemp("warm"))
    warm = WarmCommands(folder) if sys.platform == "linux" else None
    with contextlib.ExitStack() as ends:
        if warm:
            ends.callback(warm.close)

        def start(script, *arguments, cwd, **environment):
            process = command(script, *arguments, cwd=cwd, **environment)
            if warm and all(name.startswith(READ_LATE) for name in environment):
                return ends.enter_context(contextlib.closing(warm.start(**process)))
            pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            return subprocess.Popen(**process, **pipes, text=True, start_new_session=True)

        yield start


@pytest.fixture(scope="session")
def run(start):
    """Run a command to its end: `run("train.py", "data=fine", …, cwd=DIR)`, as `subprocess.run` with captured text."""

    def run(*arguments, **keywords):
        process = start(*arguments, **keywords)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def run_line(run):
    """Run a command as a command of ours has printed it, in words that a shell understands."""

    def run_line(line, *more, cwd):
        python, script, *arguments = shlex.split(line)
        assert Path(python).samefile(sys.executable) or python == "python"
        return run(str((Path(cwd) / script).relative_to(REPO / "src")), *arguments, *more, cwd=cwd)

    return run_line


@pytest.fixture(scope="module")
def browser():
    """A headless browser with a camera that shows a test picture; each test opens pages of its own in it.

    One for a module: while it is open, nothing else in this process can run an event loop.
    """
    playwright_api = pytest.importorskip("playwright.sync_api")
    path = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if path is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)}")
    with playwright_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)
        except playwright_api.Error as error:
            pytest.skip(f"{path} does not start: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


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
