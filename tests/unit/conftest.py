"""Fixtures of several rooms."""

import multiprocessing
import os
from multiprocessing import forkserver
from unittest import mock

import pytest

from parsed_once import each_file_parsed_once


@pytest.fixture(scope="session", autouse=True)
def configs_parsed_once():
    """Tests compose the same configs some hundred times."""
    with each_file_parsed_once():
        yield


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """W&B as in a new process of a user who set nothing but `WANDB_MODE=offline`."""
    import wandb

    from fastscnn.runs.tracking import ENVIRONMENT

    for variable in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(variable)
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)  # put back after the test
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    wandb.teardown()


@pytest.fixture(scope="module")
def shallow_networks():
    """In this module Fast-SCNN has three bottlenecks instead of nine: its tests are of what is around a network."""
    from own_blocks import shallow

    with shallow():
        yield


@pytest.fixture(scope="module")
def forked_runtimes():
    """In this module the child processes of external runtimes are copies of one that has imported these already.

    Variables and limits that a test sets do not reach them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fastscnn.inference.files.external", "onnxruntime", "openvino"])
    with mock.patch.dict(os.environ, {"CI": "true"}):  # no thread of OpenVINO's telemetry, which a copy would wait for
        forkserver.ensure_running()
    with mock.patch("fastscnn.utils.isolated.SPAWN", context):
        yield
