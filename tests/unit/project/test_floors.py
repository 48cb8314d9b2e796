"""Imports go down only: each room stands on a floor, and knows the floors below."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "src" / "fastscnn"
FLOORS = [
    {"cli"},
    {"training", "predict", "export", "benchmark", "reports"},
    {"inference"},
    {"runs", "data"},
    {"models", "kernels", "streets"},
    {"utils"},
]
"""From the top. Rooms of one floor do not know each other."""
ALONE = {"streets": {"utils"}, "kernels": {"utils"}}
"""Rooms that know less than the floors below."""


def imported_rooms(file):
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        rooms |= {name.split(".")[1] for name in names if name.startswith("fastscnn.")}
    return rooms


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_only(file):
    parts = file.relative_to(PACKAGE).parts
    if len(parts) == 1:  # the public face
        return
    room = parts[0]
    floor = next((number for number, rooms in enumerate(FLOORS) if room in rooms), None)
    assert floor is not None, f"{room} stands on no floor"
    below = ALONE.get(room, set().union(*FLOORS[floor + 1 :]))
    assert imported_rooms(file) <= {room} | below


def test_every_room_is_there():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set().union(*FLOORS)


def test_entry_points_are_thin():
    for file in PACKAGE.parent.glob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) < 100
