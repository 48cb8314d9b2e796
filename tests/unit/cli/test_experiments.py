"""Experiments: each is what its name says, and its header gives the command that makes it."""

import itertools
import re
import shlex
from functools import cache

import pytest
from omegaconf import OmegaConf

from fastscnn.cli.launch import CONF
from fastscnn.runs.identity import chosen_identity
from helpers import job

FILES = {path.stem: path for path in sorted((CONF / "experiment").glob("*.yaml"))}
CHOICES = {
    "fine_only": ["data=fine"],
    "fine_coarse": ["data=fine_coarse"],
    "fine_imagenet": ["data=fine", "pretrain=imagenet"],
    "fine_coarse_imagenet": ["data=fine_coarse", "pretrain=imagenet"],
    "no_skip": ["data=fine", "skip=zero"],
    "relu6": ["data=fine", "activation=relu6"],
    "half_resolution": ["data=fine", "resolution=half"],
    "quarter_resolution": ["data=fine", "resolution=quarter"],
    "camvid": ["data=camvid"],
}
PAPER = {  # as the paper's tables print them
    "fine_only": "68.62",
    "fine_imagenet": "69.15",
    "fine_coarse": "69.22",
    "fine_coarse_imagenet": "69.19",
    "no_skip": "64.30",
    "half_resolution": "62.8",
    "quarter_resolution": "51.9",
}


@cache
def seen(*overrides):
    """The config of `train.py OVERRIDES` and the identity of its run."""
    with job(*overrides) as config:
        return OmegaConf.to_container(config, resolve=True), chosen_identity(config)


def header(name):
    lines = FILES[name].read_text().splitlines()
    assert lines[0] == "# @package _global_"
    return [line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines[1:])]


@pytest.mark.parametrize("name", CHOICES)
def test_experiment_is_what_its_name_says_and_nothing_else(name):
    assert seen(f"experiment={name}")[0] == seen(*CHOICES[name])[0]


@pytest.mark.parametrize("name", CHOICES)
def test_runs_of_an_experiment_are_labelled_by_its_choices(name):
    _, identity = seen(f"experiment={name}")
    assert identity.name == seen(*CHOICES[name])[1].name
    for choice in CHOICES[name]:
        group, option = choice.split("=")
        assert identity.choices[group] == option


@pytest.mark.parametrize("name", FILES)
def test_commands_of_the_header_make_the_experiment(name):
    commands = [line for line in header(name) if line.startswith("python src/train.py experiment=")]
    assert commands
    for command in commands:
        chosen, *settings = shlex.split(command)[2:]
        assert chosen == f"experiment={name}"
        by_name, by_hand = seen(chosen, *settings), seen(*settings, *(CHOICES.get(name, [chosen])))
        assert by_name[0] == by_hand[0]


@pytest.mark.parametrize("name", CHOICES)
def test_header_leaves_nothing_to_fill_in_but_files_and_folders(name):
    (command,) = (line for line in header(name) if line.startswith("python src/train.py"))
    settings = dict(override.split("=") for override in shlex.split(command)[3:])
    assert settings == {"data.root": "DIR"}


@pytest.mark.parametrize("name", PAPER)
def test_header_gives_the_papers_number_where_it_stands_and_the_cost(name):
    text = " ".join(header(name))
    assert PAPER[name] in text
    assert re.search(r"Table \d, row \d|section \d", text)
    assert "1,000 epochs" in text
    assert "Titan" in text


@pytest.mark.parametrize("name", CHOICES)
def test_experiment_is_a_few_lines_under_a_short_header(name):
    lines = FILES[name].read_text().splitlines()
    comments = [line for line in lines[1:] if line.startswith("#")]
    assert 2 <= len(comments) <= 8
    assert len(lines) - len(comments) <= 5
