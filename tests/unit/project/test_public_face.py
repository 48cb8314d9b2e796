"""`import fastscnn` is what a user of the library sees: few names, each imported when it is first used."""

import os
import subprocess
import sys

import pytest

import fastscnn
from helpers import SOURCES


def run_python(code):
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    return subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


def modules(*rooms):
    files = [file for room in rooms for file in (SOURCES / "fastscnn" / room).rglob("*.py")]
    return ", ".join(".".join(file.relative_to(SOURCES).with_suffix("").parts) for file in sorted(files))


@pytest.mark.parametrize(
    "imported", ["fastscnn", "fastscnn.cli.launch", modules("streets", "utils")], ids=["package", "launch", "rooms"]
)
def test_import_does_not_load_torch(imported):
    run_python(f"import sys, {imported}; assert not {{'torch', 'wandb', 'albumentations'}} & set(sys.modules)")


def test_every_name_of_the_public_face_is_there_and_no_other():
    assert {name for name in dir(fastscnn) if not name.startswith("_")} >= {*fastscnn.__all__} - {"__version__"}
    for name in fastscnn.__all__:
        assert getattr(fastscnn, name) is getattr(fastscnn, name)
    with pytest.raises(AttributeError, match="Segmentor"):
        fastscnn.Segmentor  # noqa: B018


def test_package_says_that_it_has_types():
    assert (SOURCES / "fastscnn" / "py.typed").is_file()
