"""What was measured on a GPU and is kept for it; without one here."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from fastscnn.inference.backends import gpu_choices
from fastscnn.inference.backends.gpu_choices import choice_for, file_of, keep, quickest, read
from fastscnn.kernels.cuda.choice import AFTER, EARLY, LARGE, LATE, Choice, usual

CPU = torch.device("cpu")
CHOSEN = Choice(LATE, True, (4, 64, 2))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_without_a_file_frames_are_computed_as_usual():
    assert choice_for(CPU, 512 * 1024) == Choice() == usual(LARGE - 1)
    assert choice_for(CPU, 1024 * 2048) == Choice(EARLY) == usual(LARGE)


def test_choice_is_that_of_the_frames_nearest_in_size():
    keep(CPU, {512 * 1024: CHOSEN, 1024 * 2048: Choice(AFTER, True)})
    assert read(CPU) == {512 * 1024: CHOSEN, 1024 * 2048: Choice(AFTER, True)}
    assert choice_for(CPU, 512 * 1024) == choice_for(CPU, 600 * 1024) == choice_for(CPU, 256 * 1024) == CHOSEN
    assert choice_for(CPU, 1000 * 1900) == Choice(AFTER, True)
    assert choice_for(CPU, 100 * 1024) == usual(0), "nothing so small was measured"
    assert choice_for(CPU, 4096 * 4096) == usual(LARGE), "nor so large"


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "[]",
        '{"made_with": 7}',
        {"choices": None},
        {"choices": {"large": CHOSEN._asdict()}},
        {"choices": {"9": CHOSEN._asdict() | {"overlaps": 7}}},
        {"choices": {"9": CHOSEN._asdict() | {"walks": 1}}},
        {"choices": {"9": CHOSEN._asdict() | {"label_tile": [1024, 1024, 1]}}},
        {"choices": {"9": {"overlaps": AFTER}}},
        {"made_with": {"gpu": "another", "triton": "3"}},
    ],
)
def test_a_file_that_is_not_of_this_gpu_or_is_broken_is_as_none(broken):
    path = keep(CPU, {9: CHOSEN})
    assert path == file_of(CPU) and read(CPU) == {9: CHOSEN}
    path.write_text(broken if isinstance(broken, str) else json.dumps(json.loads(path.read_text()) | broken))
    assert read(CPU) == {} and choice_for(CPU, 9) == usual(9)


def test_what_was_measured_with_another_triton_is_not_used(monkeypatch):
    keep(CPU, {9: CHOSEN})
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    assert read(CPU) == {}


def test_without_triton_and_without_a_home_frames_are_computed_as_usual(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(importlib.metadata, "version", missing)
    keep(CPU, {9: CHOSEN})
    assert choice_for(CPU, 9) == CHOSEN
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert choice_for(CPU, 9) == usual(9)


def test_the_quickest_is_found_one_field_after_another():
    def time_of(choice):
        return 10 - 3 * (choice.overlaps == LATE) - 2 * choice.walks + 99 * (choice.label_tile == (8, 128, 8))

    best, times = quickest(time_of, LARGE)
    assert best == Choice(LATE, True) and times[best] == 5 and times[usual(LARGE)] == 10
    assert len(times) == 3 + 1 + len(gpu_choices.OPEN["label_tile"]) - 1


def test_what_differs_by_noise_stays_usual():
    assert quickest(lambda choice: 10 - 0.1 * (choice != usual(9)), 9)[0] == usual(9)
