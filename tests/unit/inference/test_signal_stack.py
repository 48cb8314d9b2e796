"""Signals are handled as before when OpenVINO's plugins have come and gone."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")
SRC = Path(__file__).parents[3] / "src"
PROGRAM = """
import faulthandler, gc, os, signal
from fastscnn.inference.files.runtimes import openvino_core
faulthandler.enable()
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
cores = [openvino_core() for _ in range(3)]
while cores:
    del cores[0]  # in the order in which they were made
    gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)
assert seen == [1, 1, 1]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="OpenVINO sets a signal stack on Linux alone")
def test_signal_after_cores_are_gone_is_handled():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
