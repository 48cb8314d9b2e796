"""Text files are UTF-8 whatever the locale: each call that opens one says so."""

import ast
import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[3] / "src"
MODE = re.compile("[rwxabt+]+")
IMPORTED = {"av", "os", "webbrowser"}
"""Modules whose `open` is no file's."""


def says_no_encoding(call):
    """Whether a call opens a text file in the locale's encoding."""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in keywords:
        return False
    if isinstance(call.func, ast.Name) and call.func.id == "open":
        modes = call.args[1:2]
    elif not isinstance(call.func, ast.Attribute):
        return False
    elif call.func.attr in ("read_text", "write_text"):
        return True
    elif call.func.attr == "open" and getattr(call.func.value, "id", None) not in {*IMPORTED, "self"}:
        modes = call.args[:1]
    else:
        return False
    mode = [*modes, *([keywords["mode"]] if "mode" in keywords else [])]
    if not mode:
        return True
    text = mode[0].value if isinstance(mode[0], ast.Constant) else ""
    return isinstance(text, str) and MODE.fullmatch(text) is not None and "b" not in text


def calls(code):
    return [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and says_no_encoding(node)]


@pytest.mark.parametrize(
    "code", ["open(p)", "p.open()", "p.open('w', newline='')", "open(p, 'a')", "(a / b).read_text()", "p.write_text(x)"]
)
def test_call_that_leaves_the_encoding_to_the_locale_is_found(code):
    assert calls(code)


@pytest.mark.parametrize(
    "code", ["open(p, 'rb')", "p.open('wb')", "os.open(p, flags)", "Image.open(path)", "p.read_text(encoding='utf-8')"]
)
def test_call_that_does_not_is_left_alone(code):
    assert not calls(code)


def test_every_text_file_has_its_encoding():
    found = [
        f"{path.relative_to(SOURCES)}:{call.lineno}"
        for path in sorted(SOURCES.rglob("*.py"))
        for call in calls(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "encoding='utf-8' is missing"
