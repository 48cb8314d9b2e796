"""Names out of a run's folder: only classes that are meant for their place are called."""

import sys

import pytest

from fastscnn.runs.trust import check_trusted, trusted_packages
from fastscnn.utils.errors import RequestError
from helpers import refused


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "torch.os.system",
        "torch.nn.Linear",
        "fastscnn.utils.files.os.system",
        "fastscnn.training.schedules.poly",
        "a_package_that_nobody_has.AdamW",
        "torch.optim.does_not_exist",
    ],
)
def test_name_that_is_not_meant_for_the_optimizer_is_refused(name):
    with pytest.raises(RequestError) as found:
        check_trusted({"optimizer": {"_target_": name}}, source="run")
    assert found.value.key == "optimizer._target_"


@pytest.mark.parametrize("key", ["scheduler", "callbacks", "logger", "loss", "data", "trainer", "anything"])
def test_no_place_takes_a_function_of_the_system(key):
    with pytest.raises(RequestError):
        check_trusted({key: {"inner": [{"_target_": "os.system", "command": "true"}]}}, source="run")


def test_module_of_another_package_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "harmful_on_import.py").write_text("raise SystemExit(9)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RequestError):
        check_trusted({"optimizer": {"_target_": "harmful_on_import.AdamW"}}, source="run")
    assert "harmful_on_import" not in sys.modules


def test_what_is_meant_passes_and_so_does_what_the_command_line_names():
    check_trusted(
        {
            "optimizer": {"_target_": "torch.optim.AdamW"},
            "scheduler": {"_target_": "fastscnn.training.schedules.cosine"},
            "callbacks": {"ema": {"_target_": "pytorch_lightning.callbacks.EMAWeightAveraging"}},
        },
        source="run",
    )
    check_trusted({"optimizer": {"_target_": "timm.optim.Lamb"}}, source="run")
    check_trusted({"optimizer": {"_target_": "my.AdamW"}}, named={"my.AdamW"}, source="run")


def test_trust_opens_one_package_for_what_is_meant(tmp_path, monkeypatch):
    (tmp_path / "opened.py").write_text("import os\nimport torch\nclass Mine(torch.optim.SGD): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    mine = {"optimizer": {"_target_": "opened.Mine"}}
    with refused("optimizer._target_", "opened.Mine", fix="trust=opened"):
        check_trusted(mine, source="run")
    with refused("optimizer._target_", fix="trust=[other,opened]"):
        check_trusted(mine, source="run", trust=["other"])
    check_trusted(mine, source="run", trust=["opened"])
    for name in ("opened.os.system", "opened.torch.nn.Linear", "opened.torch.load", "os.system"):
        with refused("optimizer._target_", name):
            check_trusted({"optimizer": {"_target_": name}}, source="run", trust=["opened"])


def test_trust_is_a_package_or_a_list_of_them():
    assert trusted_packages(None) == ()
    assert trusted_packages("mine") == ("mine",)
    assert trusted_packages(["mine", "other"]) == ("mine", "other")
    for wrong in ("mine.module", "os.system()", ["mine", ""], [3]):
        with refused("trust"):
            trusted_packages(wrong)
