"""The page of an evaluation that is made by hand, and the link that a comparison has to it."""

import json
import re

import pytest

from fastscnn.reports.comparison.evaluation_pages import evaluation_pages
from fastscnn.reports.comparison.page import page as comparison_page
from fastscnn.reports.comparison.records import read_all
from fastscnn.reports.evaluation.page import page, write_page
from fastscnn.runs.evaluation_report import PAGE
from helpers import comparison, evaluation_report, run_view


def test_names_cannot_leave_their_place_and_nothing_is_loaded():
    text = page(evaluation_report())
    assert "alert(" in text
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|eval\.json)", text)
    assert "default-src 'none'" in text


def test_numbers_are_those_of_the_evaluation():
    text = page(evaluation_report())
    row = re.search(r"<tr><td>[^/]*/span>road</td>(.*?)</tr>", text).group(1)
    assert '<td class="number">50.0</td>' in row
    assert "41.0 to 62.0" in row
    assert text.count("<figure>") == 1
    assert "road taken for" in text and "90.0 %" in text
    assert ">75</td>" in text, "12 of 16 pixels of road are right"


def test_backend_without_probabilities_has_a_sentence_in_the_place_of_the_curve():
    assert "backend=torch" in page(evaluation_report())
    bins = [{"confidence": 0.9, "accuracy": 0.5, "pixels": 20}]
    content = evaluation_report().content | {"calibration": {"ece": 0.4, "bins": bins, "temperature": 1.0}}
    text = page(evaluation_report(content=content))
    assert "40.00 %, at temperature 1" in text
    assert text.count('class="dot"') == 1


@pytest.fixture
def evaluated(tmp_path):
    """A folder with an evaluation of a run, and its page."""
    folder = tmp_path / "outputs" / "eval-#1" / "one"
    folder.mkdir(parents=True)
    content = {"checkpoint": "best.ckpt", "run": "a · seed 0", "split": "val", "metrics": {"val/miou": 0.5}}
    (folder / "eval.json").write_text(json.dumps(content))
    write_page(evaluation_report(), folder / PAGE)
    return folder


def test_comparison_links_to_the_page_of_an_evaluation_of_its_run(evaluated, tmp_path):
    _, evaluations, warnings = read_all([tmp_path / "outputs"])
    assert not warnings
    output = tmp_path / "outputs" / "compare"
    pages = evaluation_pages(evaluations, [run_view("a · seed 0")], output)
    text = comparison_page(comparison(run_view("a · seed 0"), evaluations=pages))
    assert 'href="../eval-%231/one/report.html"' in text
    assert "<td>val</td><td>full</td><td>keep</td><td>50.00</td>" in text
    assert evaluation_pages(evaluations, [run_view("another")], output) == ()
    (evaluated / PAGE).unlink()
    assert evaluation_pages(evaluations, [run_view("a · seed 0")], output) == ()
    assert "Pages of evaluations" not in comparison_page(comparison(run_view()))
