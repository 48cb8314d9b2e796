"""What the commands do is what they did: configs, keys of the records, weights and labels.

`tests/golden/freeze.py` wrote the files that are compared with; what changed its name on purpose stands in
`tests/golden/renamed.json`.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from golden.compose import configs
from golden.freeze import observed, samples, tensors
from golden.observe import SIZES, TRAININGS

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"

TOLERANCE = 0.25
"""Distance of a training's weights from those that were written, as a share of what its setting changes in them."""
LABELS_THAT_MAY_DIFFER = 0.1
"""Of an untrained network's; another processor changes up to 5%."""


def golden(name):
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return observed(ROOT, tmp_path_factory.mktemp("golden") / "observed")


def renamed(values, names):
    """Keys by their new names; `old` to null says that a key is gone."""
    return {names.get(key, key): value for key, value in values.items() if names.get(key, key) is not None}


def test_every_option_composes_what_it_did():
    names, now = golden("renamed.json")["config"], configs(ROOT)
    for main, options in golden("configs.json").items():
        assert now[main].keys() == options.keys()
        for option, before in options.items():
            if option == "":
                assert now[main][option] == renamed(before, names), main
                continue
            assert now[main][option]["changed"] == renamed(before["changed"], names), (main, option)
            gone = {names.get(key, key) for key in before.get("removed", [])} - {None}
            assert set(now[main][option].get("removed", [])) == gone, (main, option)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["run.json", "eval.json", "metrics.csv"])
def test_records_have_the_keys_that_they_had(found, file):
    names = golden("renamed.json")["keys"]
    now = json.loads((found / "keys.json").read_text(encoding="utf-8"))
    assert set(now[file]) == {names.get(key, key) for key in golden("keys.json")[file]} - {None}


@pytest.mark.slow
@pytest.mark.parametrize("training", TRAININGS)
def test_training_gives_the_weights_that_it_gave(found, training):
    with np.load(GOLDEN / "weights.npz") as before:
        others = [name for name in TRAININGS if name != training]
        setting = min(np.linalg.norm(before[training] - before[name]) for name in others)
        distance = np.linalg.norm(samples(tensors(found)[training]) - before[training])
    assert setting > 0
    assert distance < TOLERANCE * setting


@pytest.mark.slow
def test_exported_network_gives_the_labels_that_it_gave(found):
    with np.load(GOLDEN / "labels.npz") as before, np.load(found / "labels.npz") as now:
        assert len(before.files) == len(SIZES)
        for size in before.files:
            assert len(np.unique(before[size])) > 5, "labels that say something"
            assert np.mean(now[size] != before[size]) < LABELS_THAT_MAY_DIFFER, size
