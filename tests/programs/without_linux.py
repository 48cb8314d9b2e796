"""Run by test_other_systems.py: imports every module anew without what Linux alone has, and writes a file here."""

import importlib
import os
import pkgutil
import signal
import sys
from pathlib import Path

import albumentations  # noqa: F401 (libraries know their own systems)
import av  # noqa: F401
import cv2  # noqa: F401
import hydra  # noqa: F401
import matplotlib  # noqa: F401
import numba  # noqa: F401
import onnxruntime  # noqa: F401
import openvino  # noqa: F401
import pytorch_lightning  # noqa: F401
import timm  # noqa: F401
import torch  # noqa: F401
import torchmetrics  # noqa: F401
import torchvision  # noqa: F401
import wandb  # noqa: F401

for module in ("fcntl", "resource", "pwd", "grp"):
    sys.modules[module] = None
for name in (
    "sched_getaffinity",
    "sysconf",
    "register_at_fork",
    "posix_fallocate",
    "fork",
    "statvfs",
    "getuid",
    "mkfifo",
):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXFSZ", "SIGQUIT", "SIGALRM", "alarm", "setitimer", "pthread_sigmask"):
    delattr(signal, name)
for name in [name for name in sys.modules if name.partition(".")[0] == "fastscnn"]:
    del sys.modules[name]  # the process that starts the tests' commands has imported them with all of Linux

package = importlib.import_module("fastscnn")
names = [found.name for found in pkgutil.walk_packages(package.__path__, "fastscnn.")]
for name in names:
    if ".cuda" not in name and "gpu_" not in name:
        importlib.import_module(name)
print(len(names))

importlib.import_module("fastscnn.utils.machine").describe_machine()
files = importlib.import_module("fastscnn.utils.files")
files.check_writable(Path.cwd(), "output")
files.write_bytes(Path("a"), b"whole", durable=True)
