"""What Linux alone has is not needed: simulated by taking it away from the modules of Python that have it."""

import os
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parents[3] / "src"
WITHOUT = """
import importlib, os, pkgutil, signal, sys
from pathlib import Path

import albumentations, cv2, hydra, matplotlib, numba, pytorch_lightning, timm, torch, torchmetrics, torchvision, wandb
import av, onnxruntime, openvino  # they know their own systems

for module in ("fcntl", "resource", "pwd", "grp"):
    sys.modules[module] = None
for name in "sched_getaffinity sysconf register_at_fork posix_fallocate fork statvfs getuid mkfifo".split():
    delattr(os, name)
for name in "SIGHUP SIGUSR1 SIGUSR2 SIGXFSZ SIGQUIT SIGALRM alarm setitimer pthread_sigmask".split():
    delattr(signal, name)

import fastscnn

names = [found.name for found in pkgutil.walk_packages(fastscnn.__path__, "fastscnn.")]
for name in names:
    if ".cuda" not in name and "gpu_" not in name:
        importlib.import_module(name)
print(len(names))

from fastscnn.utils.machine import describe_machine
from fastscnn.utils.files import check_writable, write_bytes

describe_machine()
check_writable(Path.cwd(), "output")
write_bytes(Path("a"), b"whole", durable=True)
"""


def test_every_module_is_there_without_what_linux_alone_has(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(SOURCES), "NO_ALBUMENTATIONS_UPDATE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 100
    assert (tmp_path / "a").read_bytes() == b"whole"
