"""Ctrl-C ends a command with one line from its first moment to its last."""

import os
import signal
import subprocess
import sys

import pytest

from helpers import SOURCES

SLOW_IMPORT = "import time; print('importing', flush=True); time.sleep(60)\n"
STOPPED = """
import atexit, logging
from fastscnn.cli.start import start
def command(config):
    log = logging.getLogger("torch")
    log.info("while it works")
    atexit.register(lambda: log.info("cache stats"))
    from fastscnn.utils.signals import Interrupted
    raise Interrupted(2)
if __name__ == "__main__":
    start("dashboard", command)
"""

BROKEN_BITMAP = """
from fastscnn.cli.start import start
def command(config):
    import cv2, numpy
    whole = cv2.imencode(".bmp", numpy.zeros((60, 80, 3), numpy.uint8))[1]
    assert cv2.imdecode(whole[:1000], cv2.IMREAD_COLOR) is None
if __name__ == "__main__":
    start("dashboard", command)
"""

FIRST_MATPLOTLIB = """
from fastscnn.cli.start import start
def command(config):
    import matplotlib.font_manager
if __name__ == "__main__":
    start("dashboard", command)
"""


@pytest.mark.parametrize(
    "name", ["train", "eval", "predict", "export", "benchmark", "compare", "dashboard", "check_data", "runs"]
)
def test_ctrl_c_within_the_first_imports_is_no_traceback(tmp_path, name):
    (tmp_path / "hydra.py").write_text(SLOW_IMPORT)
    (tmp_path / "omegaconf.py").write_text(SLOW_IMPORT)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{SOURCES}"}
    process = subprocess.Popen(
        [sys.executable, SOURCES / f"{name}.py"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"importing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"stopped by SIGINT\n")


def test_nothing_follows_the_last_sentence(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(STOPPED)
    done = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 130
    assert done.stderr == "stopped by SIGINT\n"
    assert "cache stats" not in done.stdout
    assert "while it works" in done.stdout + done.stderr


def test_opencv_prints_no_lines_beside_ours(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(BROKEN_BITMAP)
    done = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_first_import_of_matplotlib_on_a_machine_prints_nothing(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(FIRST_MATPLOTLIB)
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path / "fonts")}
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list((tmp_path / "fonts").iterdir()), "it was the first"
