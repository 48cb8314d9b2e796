"""A person always knows how far a long piece of work is: bars on a terminal, lines in time everywhere else."""

import io
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from fastscnn.data.datasets.classes import CAMVID
from fastscnn.training.progress import ProgressLine
from fastscnn.training.segmentation import Segmentation
from fastscnn.utils import progress_display as module
from fastscnn.utils.progress import Progress, say
from fastscnn.utils.progress_display import VARIABLE, seconds_between_lines
from fastscnn.utils.text import duration
from helpers import refused

CONFIG = {
    "model": {"name": "fast_scnn", "in_channels": 3, "activation": "relu", "skip": "keep", "dropout": 0.1},
    "loss": {"auxiliary_weight": 0.4},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 4e-5},
    "scheduler": {"_target_": "fastscnn.training.schedules.poly"},
}
PATIENCE = 60


class Output(io.StringIO):
    """A stdout that says when something has come."""

    def __init__(self, terminal=False):
        super().__init__()
        self.terminal = terminal
        self.changed = threading.Condition()

    def isatty(self):
        return self.terminal

    def write(self, text):
        with self.changed:
            count = super().write(text)
            self.changed.notify_all()
        return count

    def wait(self, pattern):
        """Block, as work that is stuck does, until something is there."""
        with self.changed:
            there = self.changed.wait_for(lambda: re.search(pattern, self.getvalue()), PATIENCE)
        assert there, f"{pattern} never came: {self.getvalue()}"


@pytest.fixture
def stdout(monkeypatch):
    """Takes the place of stdout, when it is called by the test: pytest sets its own between fixtures and test."""

    def stdout(stream=None):
        stream = stream or Output()
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    monkeypatch.setenv(VARIABLE, "0.02")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(module, "SOON", 0.0)
    for name in module.RANKS:
        monkeypatch.delenv(name, raising=False)
    return stdout


@pytest.fixture
def clock(monkeypatch):
    """Time that the test moves: `clock[0] += 60`."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_work_that_is_stuck_in_one_step_is_shown(stdout):
    output = stdout()
    with Progress("decoding", 500, "frame") as progress:
        progress.doing = "waiting for the disk"
        output.wait(r"decoding: frame 0 of 500; waiting for the disk \(0 s\)\n")
        progress.advance(120)
        output.wait(r"decoding: frame 120 of 500, [\d,.]+ frames/s, .+ left\n")
        progress.doing = "reading berlin.png"
        output.wait(r"decoding: frame 120 of 500, .+ left; reading berlin.png \(0 s\)\n")


def test_work_that_counts_nothing_says_how_long_it_has_been_going_on(stdout):
    output = stdout()
    with Progress("int8: calibrating"):
        output.wait(r"^int8: calibrating \(\d+ s\)\n")


def test_innermost_work_is_the_one_that_is_shown(stdout):
    output = stdout()
    with Progress("epoch 3 of 1000", 250_000, "step"):
        output.wait("epoch 3 of 1000: step 0 of 250,000\n")
        with Progress("validation of epoch 3", 40, "image"):
            output.wait("validation of epoch 3: image 0 of 40\n")
        before = len(output.getvalue())
        output.wait(rf"(?s).{{{before}}}.*epoch 3 of 1000: step 0 of 250,000\n")


def test_what_is_done_soon_is_not_mentioned(monkeypatch, stdout):
    output = stdout()
    monkeypatch.setattr(module, "SOON", 3600.0)
    with Progress("decoding", 4, "frame", summary=True) as progress:
        for _ in range(4):
            time.sleep(0.05)
            progress.advance()
    lines = output.getvalue().splitlines()  # the time between two lines was over, so that the end has one
    assert len(lines) == 1 and re.fullmatch(r"decoding: 4 frames in \d+ s, [\d.]+ frames/s", lines[0])
    monkeypatch.setenv(VARIABLE, "3600")
    with Progress("decoding", 4, "frame", summary=True) as progress:
        progress.advance(4)
    assert len(output.getvalue().splitlines()) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_thread_ends_with_the_outermost_block_also_after_an_error_that_skipped_inner_ones(stdout, error):
    output = stdout()
    with pytest.raises(error), Progress("train: working", bar=False):
        Progress("training", unit="step").start()  # as a Lightning callback does, which may miss the end
        output.wait("training")
        raise error
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
    with Progress("next"):
        output.wait("next")


def test_lines_of_several_threads_are_whole(stdout):
    class Slow(Output):
        def write(self, text):
            for letter in text:  # another thread may run between any two
                super().write(letter)
                time.sleep(0)
            return len(text)

    slow = stdout(Slow())
    with Progress("decoding", 9, "frame"):
        for number in range(300):
            say(f"epoch {number}")
        slow.wait("decoding")
    lines = slow.getvalue().splitlines()
    assert [line for line in lines if not line.startswith("decoding")] == [f"epoch {number}" for number in range(300)]
    assert all(re.fullmatch(r"decoding: frame 0 of 9", line) for line in lines if line.startswith("decoding"))


def test_only_the_first_process_of_a_distributed_run_prints(monkeypatch, stdout):
    output = stdout()
    monkeypatch.setenv("LOCAL_RANK", "1")
    with Progress("decoding", 9, "frame", summary=True) as progress:
        progress.advance()
        time.sleep(0.1)
    assert output.getvalue() == ""


def test_lines_go_where_stdout_was_though_it_is_redirected_meanwhile(monkeypatch, stdout):
    output = stdout()
    with Progress("writing onnx"):
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        output.wait("writing onnx")


def test_disk_that_is_full_under_the_output_ends_no_work(monkeypatch, stdout):
    class Full(Output):
        def flush(self):
            raise OSError(28, "No space left on device")

    full = stdout(Full())
    with Progress("decoding", 9, "frame") as progress:
        full.wait("decoding")
        progress.advance()
    assert progress.done == 1


def test_name_that_the_output_cannot_encode_is_shown_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    say("прага.mp4: 3 frames")
    assert raw.getvalue() == rb"\u043f\u0440\u0430\u0433\u0430.mp4: 3 frames" + b"\n"


def test_rate_and_time_left_do_not_count_what_came_before_the_first_unit(clock):
    progress = Progress("epoch 1 of 2", unit="step")
    progress.begin(1000, 3000)
    assert progress.line() == "epoch 1 of 2: step 1,000 of 3,000"
    clock[0] += 600
    progress.reach(1001)
    clock[0] += 100
    progress.reach(1201)
    progress.facts = ("loss 0.312",)
    assert progress.line() == "epoch 1 of 2: step 1,201 of 3,000, loss 0.312, 2.0 steps/s, 15 min left"
    progress.doing = "computing step 1,202"
    clock[0] += 300
    assert progress.line().endswith("0.5 steps/s, 60 min left; computing step 1,202 (5 min)")


def test_durations_are_read_at_a_glance():
    texts = [duration(seconds) for seconds in (0.4, 119, 120, 7199, 12_000, 187_300)]
    assert texts == ["0 s", "119 s", "2 min", "2 h 0 min", "3 h 20 min", "2 d 4 h"]


def test_default_keeps_the_promised_30_seconds(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert seconds_between_lines() < 30


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf"])
def test_interval_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with refused(VARIABLE, text):
        seconds_between_lines()


def test_terminal_gets_bars_that_go_away_and_what_is_printed_stands_above_them(stdout):
    terminal = stdout(Output(terminal=True))
    with Progress("train: working", bar=False):
        with Progress("epoch 1 of 2", 400, "step") as progress:
            progress.facts = ("loss 0.312", "4.1 images/s")
            progress.reach(12)
            terminal.wait(r"epoch 1 of 2.*12/400 · loss 0.312 · 4.1 images/s")
            with Progress("validation", 40, "image"):
                terminal.wait(r"epoch 1 of 2[^\n]*\n[^\n]*validation[^\n]*0/40")
            print("a remark")
            say("epoch 1/2  val/miou 0.5")
            terminal.wait(r"a remark\n(?s:.*)epoch 1/2  val/miou 0.5\n")
        assert sys.stdout is terminal
        assert terminal.getvalue().endswith("\x1b[2K"), "the lines of the bars are erased"
    assert "train: working" not in terminal.getvalue()
    assert "step 12 of 400" not in terminal.getvalue()


def test_dumb_terminal_gets_lines(monkeypatch, stdout):
    terminal = stdout(Output(terminal=True))
    monkeypatch.setenv("TERM", "dumb")
    with Progress("decoding", 9, "frame"):
        terminal.wait("decoding: frame 0 of 9\n")
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_process_shows_nothing_of_its_parent_and_may_show_its_own(stdout):
    output = stdout()

    def child():
        with Progress("drawing", 3, "frame"):
            output.wait("drawing: frame 0 of 3")

    with Progress("decoding", 9, "frame"):
        processes = [multiprocessing.get_context("fork").Process(target=child) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        output.wait("decoding")


class SlowFrames(Dataset):
    """Frames of which some come only when they are allowed to."""

    def __init__(self, count, allowed):
        self.count, self.allowed = count, allowed

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.allowed:
            assert self.allowed[index].wait(PATIENCE)
        return {
            "image": torch.full((3, 32, 32), index, dtype=torch.uint8),
            "label": torch.zeros(32, 32, dtype=torch.uint8),
            "name": f"frame{index}",
            "source": "camvid",
        }


@pytest.mark.parametrize("workers", [0, 1])
def test_training_and_validation_are_shown_while_they_wait(stdout, tmp_path, workers):
    output = stdout()
    events = {name: multiprocessing.get_context("fork").Event() for name in ("first", "fifth", "val")}
    expected = {
        "first": r"epoch 1 of 1: step 0 of 3; waiting for the first batch \(\d+ s\)\n",
        "fifth": r"epoch 1 of 1: step 2 of 3, loss \d\.\d{3}, [\d,.]+ images/s, .+ left; waiting for the next batch",
        "val": r"validation of epoch 1: image 2 of 3, [\d,.]+ images/s, .+ left; waiting for the next batch",
    }

    def release():
        for name, pattern in expected.items():
            output.wait(pattern)
            events[name].set()

    releaser = threading.Thread(target=release)
    releaser.start()
    settings = {"num_workers": workers, "multiprocessing_context": "fork" if workers else None}
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        callbacks=[ProgressLine()],
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(
        Segmentation(CONFIG, CAMVID),
        DataLoader(SlowFrames(6, {0: events["first"], 4: events["fifth"]}), batch_size=2, **settings),
        DataLoader(SlowFrames(3, {2: events["val"]}), batch_size=1, **settings),
    )
    releaser.join()
    assert len([line for line in output.getvalue().splitlines() if re.match(r"epoch 1/1  step 3 .* best", line)]) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_helper_is_imported_without_what_is_slow():
    code = "import sys, fastscnn.utils.progress; print({'torch', 'rich', 'numpy'} & set(sys.modules))"
    path = os.pathsep.join(sys.path)
    environment = {"PYTHONPATH": path}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr
