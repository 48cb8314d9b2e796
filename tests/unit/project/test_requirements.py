"""The locked versions install on every Python that the package says it takes."""

from importlib.metadata import PackageNotFoundError, metadata

import pytest
from packaging.specifiers import SpecifierSet

from helpers import REPO

LOCKED = [line.split("==") for line in (REPO / "requirements.lock").read_text().splitlines() if "==" in line]
OLDEST = "3.11.0"


@pytest.mark.parametrize(("name", "version"), LOCKED, ids=[name for name, _ in LOCKED])
def test_locked_version_takes_the_oldest_python(name, version):
    try:
        package = metadata(name)
    except PackageNotFoundError:
        pytest.skip("it is not installed")
    if package["Version"].partition("+")[0] != version.partition("+")[0]:
        pytest.skip("another version is installed")
    assert OLDEST in SpecifierSet(package["Requires-Python"] or "")
