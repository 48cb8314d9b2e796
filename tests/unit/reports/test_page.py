"""The page of a comparison that is made by hand: its edges, without a browser."""

import json
import math
import re

import pytest

from fastscnn.reports.comparison.content import Curve, Table
from fastscnn.reports.comparison.page import page, write_page
from helpers import HOSTILE, comparison, run_view


def data_of(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON: a browser refuses the page's data")

    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1), parse_constant=refuse)


def test_names_cannot_leave_their_place():
    run = run_view(f"{HOSTILE} · seed 0", iou={HOSTILE: 50.0})
    table = Table(HOSTILE, [HOSTILE], [[HOSTILE]], caption=HOSTILE)
    changes = {"title": HOSTILE, "subtitle": HOSTILE, "metric": HOSTILE, "warnings": [HOSTILE], "tables": [table]}
    text = page(comparison(run, **changes, paper_iou={HOSTILE: {HOSTILE: 1.0}}))
    assert "alert(" in text
    assert "<script>alert" not in text
    data = data_of(text)
    assert "\u2028" not in text.split('id="data">')[1].split("</script>")[0]
    assert data["groups"][0] == HOSTILE
    assert data["runs"][0]["iou"] == {HOSTILE: 50.0}


def test_dollars_in_names_are_text():
    assert "$data ${style}" in page(comparison(run_view(), title="$data ${style}"))


def test_page_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "index.html"
    path.write_text("old")
    write_page(comparison(run_view()), path)
    assert "<h1>Title</h1>" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_old_page_stays_whole_where_the_new_one_fails(tmp_path):
    path = tmp_path / "index.html"
    path.write_text("old")
    with pytest.raises(AttributeError):
        write_page(comparison(run_view(curve=None)), path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("changes", [{"tables": ()}, {"runs": (), "tables": ()}], ids=["no tables", "nothing at all"])
def test_page_without_tables_or_runs_is_written(changes):
    assert "<h1>Title</h1>" in page(comparison(run_view(), **changes))


def test_scores_that_are_no_numbers_are_left_out():
    curve = Curve([1, 2, 3], [10, 20, 30], [10.0, math.nan, 30.0])
    (run,) = data_of(page(comparison(run_view(curve=curve, iou={"road": math.nan, "car": 5.0}))))["runs"]
    assert run["values"] == [1000, 3000]
    assert (run["epochs"], run["steps"]) == ([1, 3], [10, 30])
    assert run["iou"] == {"car": 5.0}
