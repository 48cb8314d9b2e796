"""Nothing that happens to a tracker, at any moment, stops, slows or fails the run, and what was not sent is said."""

import contextlib
import threading
import time

import pytest
from pytorch_lightning.loggers.logger import Logger

from fastscnn.runs import tracker as module
from fastscnn.runs.tracker import Tracker
from fastscnn.utils.errors import RequestError

MOMENTS = ["open", "log_hyperparams", "log_metrics", "log_image", "save", "finalize", "close"]


class Fake(Logger):
    """A logger that keeps what it gets, and to which something happens at one moment."""

    name, version = "fake", 0

    def __init__(self, moment=None, happens=lambda: None):
        super().__init__()
        self.moment, self.happens = moment, happens
        self.got, self.exit = [], None

    def at(self, moment, *got):
        if moment == self.moment:
            self.happens()
        self.got.append((moment, *got))

    @contextlib.contextmanager
    def block(self):
        self.at("open")
        try:
            yield self
            self.exit = 0
        except Exception:
            self.exit = 1
            raise
        finally:
            self.at("close")

    def log_hyperparams(self, params):
        self.at("log_hyperparams", params)

    def log_metrics(self, metrics, step=None):
        self.at("log_metrics", metrics, step)

    def log_image(self, key, images, step=None):
        self.at("log_image", key, images)

    def save(self):
        self.at("save")

    def finalize(self, status):
        self.at("finalize", status)


def a_run(fake, **settings):
    """What Lightning and our callbacks ask of a logger, in order."""
    with Tracker("T", Fake, fake.block, **settings).running() as tracker:
        _ = tracker.experiment
        tracker.log_hyperparams({"lr": 1})
        for step in (1, 2):
            tracker.log_metrics({"loss": 0.5}, step)
            tracker.log_image("picture", ["a.png"], step=step)
        tracker.save()
        tracker.finalize("success")


def test_everything_arrives_in_order_and_nothing_is_said(capsys):
    fake = Fake()
    a_run(fake)
    metrics = [[("log_metrics", {"loss": 0.5}, step), ("log_image", "picture", ["a.png"])] for step in (1, 2)]
    start, end = [("open",), ("log_hyperparams", {"lr": 1})], [("save",), ("finalize", "success"), ("close",)]
    assert fake.got == [*start, *metrics[0], *metrics[1], *end]
    assert fake.exit == 0
    assert capsys.readouterr() == ("", "")


def test_metrics_are_those_of_the_moment_that_they_were_logged():
    fake = Fake()
    metrics = {"loss": 1.0}
    with Tracker("T", Fake, fake.block).running() as tracker:
        tracker.log_metrics(metrics, 1)
        metrics["loss"] = 2.0
    assert ("log_metrics", {"loss": 1.0}, 1) in fake.got


def test_logger_learns_that_the_run_failed():
    fake = Fake()
    with pytest.raises(ValueError, match="of the run"), Tracker("T", Fake, fake.block).running():
        raise ValueError("of the run")
    assert fake.exit == 1


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("error", [ConnectionResetError("Connection lost"), SystemExit(1), KeyboardInterrupt()])
def test_error_at_any_moment_is_contained_and_said(moment, error, capsys):
    def happens():
        raise error

    freed = []
    fake = Fake(moment, happens)
    a_run(fake, abandon=lambda: freed.append(True), advice=lambda: "Do this.")
    lines = capsys.readouterr().err.splitlines()
    assert type(error).__name__ in lines[-1] and lines[-1].endswith("Do this.")
    assert "did not arrive" in lines[-1]
    assert len([line for line in lines if "the run goes on without it" in line]) == (moment != "close")
    assert len(lines) <= 2
    assert freed == ([True] if moment in ("open", "close") else []), "a logger that still works ends by itself"


@pytest.mark.parametrize("moment", ["log_metrics", "log_image", "finalize"])
def test_logger_learns_how_the_run_ended_and_not_how_a_call_did(moment):
    fake = Fake(moment, lambda: 1 / 0)
    a_run(fake)
    assert fake.exit == 0
    arguments = {"log_metrics": ({"loss": 0.5}, 1), "log_image": ("picture", []), "finalize": ("failed",)}
    fake = Fake(moment, lambda: 1 / 0)
    with pytest.raises(KeyError), Tracker("T", Fake, fake.block).running() as tracker:
        getattr(tracker, moment)(*arguments[moment])
        raise KeyError
    assert fake.exit == 1
    assert fake.got[-1] == ("close",)


def test_logger_stays_open_until_the_run_ends_after_a_call_failed():
    fake = Fake("save", lambda: 1 / 0)
    with Tracker("T", Fake, fake.block).running() as tracker:
        tracker.save()
        while tracker.reason is None:
            time.sleep(0.01)
        tracker.log_metrics({"loss": 0.5}, 1)
        assert fake.exit is None
    assert fake.got == [("open",), ("close",)]


def test_slow_logger_is_waited_for_as_long_as_its_calls_end(monkeypatch, capsys):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1.5)
    fake = Fake("log_metrics", lambda: time.sleep(0.3))
    with Tracker("T", Fake, fake.block).running() as tracker:
        for step in range(6):
            tracker.log_metrics({"loss": 0.5}, step)
    assert len(fake.got) == 8 and fake.exit == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("moment", MOMENTS)
def test_logger_that_hangs_at_any_moment_is_given_up(moment, capsys, monkeypatch):
    for name in ("OPEN_SECONDS", "CLOSE_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(module, name, 0.3)
    freed = threading.Event()
    fake = Fake(moment, lambda: freed.wait(60))
    a_run(fake, abandon=freed.set, advice=lambda: "Do this.")
    assert freed.is_set(), "what it holds was freed"
    last = capsys.readouterr().err.splitlines()[-1]
    assert "did not arrive" in last and last.endswith("Do this.")


def test_what_was_logged_before_the_error_is_told_apart(capsys):
    fake = Fake("log_image", lambda: 1 / 0)
    a_run(fake)
    assert capsys.readouterr().err.splitlines()[-1].startswith("T: what was logged after step 1 did not arrive (Zero")


def test_logger_that_hangs_while_the_run_goes_on_is_dropped(monkeypatch, capsys):
    monkeypatch.setattr(module, "STUCK_SECONDS", 0.1)
    freed = threading.Event()
    fake = Fake("log_metrics", lambda: freed.wait(60))
    with Tracker("T", Fake, fake.block, abandon=freed.set).running() as tracker:
        while tracker.reason is None:
            tracker.log_metrics({"loss": 1.0}, 1)
    assert "the run goes on without it" in capsys.readouterr().err


def test_logger_that_opens_late_follows(monkeypatch):
    monkeypatch.setattr(module, "OPEN_SECONDS", 0.1)
    ready = threading.Event()
    fake = Fake("open", lambda: ready.wait(60))
    with Tracker("T", Fake, fake.block).running() as tracker:
        tracker.log_metrics({"loss": 1.0}, 1)
        assert fake.got == []
        ready.set()
    assert ("log_metrics", {"loss": 1.0}, 1) in fake.got and fake.exit == 0


def test_wrong_settings_are_a_wrong_request(capsys):
    def happens():
        raise RequestError("logger.project is wrong")

    with pytest.raises(RequestError, match=r"logger\.project"):
        a_run(Fake("open", happens))
    assert capsys.readouterr() == ("", "")


def test_what_the_logger_cannot_do_is_not_there():
    tracker = Tracker("T", Fake, Fake().block)
    assert hasattr(tracker, "log_image")
    assert not hasattr(tracker, "log_table")
