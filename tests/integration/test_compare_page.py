"""The page of a comparison that is made by hand, in a real browser: what a reader does, and its edges."""

import random
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from test_compare import column, drawn, opened, settle
from test_page import HOSTILE, comparison, view

from fastscnn.reports.comparison.content import Curve, GalleryRow
from fastscnn.reports.comparison.page import write_page

LABELS = [f"group_{place // 3} · seed {place % 3}" for place in range(12)]


@contextmanager
def shown(folder, *runs, **changes):
    """The page of these runs, open in a browser that fails on any error and any request."""
    path = folder / "outputs" / "compare" / "index.html"
    path.parent.mkdir(parents=True)
    write_page(comparison(*runs, **changes), path)
    with opened(folder) as page:
        yield page


def test_keyboard_sorts_numbers_by_value_with_blanks_last(tmp_path):
    draw = random.Random(0)
    cells = [f"{draw.uniform(0, 120):.2f}" for _ in LABELS]
    cells[3] = cells[7] = ""
    runs = [view(label, cells={"run": label, "best": text}) for label, text in zip(LABELS, cells, strict=True)]
    numbers = sorted((text for text in cells if text), key=float)
    with shown(tmp_path, *runs) as page:
        header = page.locator("#all th", has_text="best")
        for direction, expected in (("descending", numbers[::-1]), ("ascending", numbers)):
            header.get_by_role("button").press("Enter")
            assert header.get_attribute("aria-sort") == direction
            assert column(page, 2) == [*expected, "", ""]


def test_only_finished_switches_the_others_off(tmp_path):
    runs = [view(LABELS[0]), view(LABELS[1], status="failed"), view(LABELS[2], status="running")]
    with shown(tmp_path, *runs) as page:
        page.get_by_role("button", name="Only finished").click()
        settle(page, 1)
        assert list(drawn(page, "steps")) == list(drawn(page, "epochs")) == [LABELS[0]]
        assert page.locator("#groups input").first.evaluate("box => box.indeterminate")


def test_thinned_curve_keeps_its_ends_and_its_peak_and_says_so(tmp_path):
    values = [50 + random.Random(place).random() for place in range(20_000)]
    values[12_345] = 99.0
    steps = list(range(1, len(values) + 1))
    with shown(tmp_path, view(curve=Curve(steps, steps, values))) as page:
        xs, ys = page.evaluate("() => ['x', 'y'].map((k) => document.getElementById('steps').data[0][k])")
        points = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None]
        assert points[0] == (1, round(values[0], 2))
        assert points[-1] == (20_000, round(values[-1], 2))
        assert (12_346, 99) in points
        assert 1000 < len(points) < 20_000
        assert "fewer points" in page.locator("#curves .note").first.inner_text()


def test_names_with_markup_are_text(tmp_path):
    label = f"{HOSTILE} · seed 0"
    with shown(tmp_path, view(label, iou={HOSTILE: 50.0}), view(LABELS[0]), title=HOSTILE) as page:
        assert page.locator("h1").text_content() == HOSTILE
        assert column(page, 1)[0] == label
        assert page.locator("#groups .name").first.text_content() == HOSTILE
        assert page.locator("#all tbody input").first.get_attribute("aria-label") == label


def test_charts_have_names_for_those_who_do_not_see_them(tmp_path):
    with shown(tmp_path, view(iou={"road": 90.0})) as page:
        for chart in ("steps", "epochs", "bars"):
            assert page.locator(f"#{chart}").get_attribute("aria-label")


EDGES = {
    "one run": [view()],
    "one validation": [view(values=[10.0])],
    "a run without a curve": [view(LABELS[0]), view(LABELS[1], values=[])],
    "no curve at all": [view(values=[])],
    "no run": [],
}


@pytest.mark.parametrize("runs", EDGES.values(), ids=EDGES)
def test_page_opens_with(runs, tmp_path):
    with shown(tmp_path, *runs) as page:
        assert page.locator("#all tbody tr").count() == len(runs)
        assert page.locator("#gallery").count() == 0
        assert len(drawn(page, "steps")) == len(drawn(page, "epochs")) == sum(bool(run.curve.values) for run in runs)


def test_gallery_shows_the_fourth_panel_where_there_is_one(tmp_path):
    with_skip, without = tmp_path / "with.png", tmp_path / "without.png"
    for path, shade in ((with_skip, 60), (without, 200)):
        cv2.imwrite(str(path), np.full((20, 120, 3), shade, np.uint8))
    rows = [GalleryRow(LABELS[0], "street", with_skip, without), GalleryRow(LABELS[3], "street", with_skip)]
    with shown(tmp_path, view(LABELS[0]), view(LABELS[3]), gallery=rows) as page:
        page.locator("#gallery").scroll_into_view_if_needed()
        page.wait_for_function(
            "[...document.querySelectorAll('#gallery img')].every((image) => image.naturalWidth > 0)"
        )
        captions = ["street: input", "truth", "prediction", "without the skip connection"]
        assert page.locator("#gallery figcaption").all_inner_texts() == captions + captions[:3]
        assert page.locator("#gallery h3").all_inner_texts() == [LABELS[0], LABELS[3]]
