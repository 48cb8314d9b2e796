"""Imports go one way: the entry points, training, inference, reports, the ground, and utils below all."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "fastscnn"
GROUND = {"data", "kernels", "network", "runs"}
MIDDLE = {"training", "inference", "reports"}


def imported_rooms(file):
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        rooms |= {name.split(".")[1] for name in names if name.startswith("fastscnn.")}
    return rooms - {"errors", "memory", "utils"}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_only(file):
    parts = file.relative_to(PACKAGE).parts
    room = parts[0] if len(parts) > 1 else None
    if room is None:
        assert imported_rooms(file) == set()
        return
    if room == "utils":
        assert imported_rooms(file) == set()
        return
    assert room in GROUND | MIDDLE, f"{room} stands on no floor"
    allowed = {room} | (GROUND if room in MIDDLE else set())
    assert imported_rooms(file) <= allowed


def test_entry_points_are_thin():
    for file in PACKAGE.parent.glob("*.py"):
        assert len(file.read_text().splitlines()) < 100
