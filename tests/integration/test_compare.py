"""`python src/compare.py` as a user calls it, and its page in a real browser; pages made by hand, with their edges."""

import random
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from fastscnn.reports.comparison.content import Curve, GalleryRow, Gap, Table
from fastscnn.reports.comparison.page import write_page
from fastscnn.reports.evaluation.page import write_page as write_evaluation
from helpers import HOSTILE, comparison, evaluation_report, run_view, write_panels, write_run


def curve(top):
    return [f"{10 * (i + 1)},,{i},{top * (i + 1) / 5}" for i in range(5)]


@pytest.fixture(scope="module")
def compared(run, tmp_path_factory):
    """The process of one comparison, and the folder it was called in."""
    cwd = tmp_path_factory.mktemp("compare")
    runs = cwd / "outputs"
    for seed, miou in ((0, 0.60), (1, 0.65)):
        write_run(runs, miou, seed, rows=curve(miou), started=seed)
        write_run(runs, miou + 0.02, seed, rows=curve(miou), started=seed, pretrain="imagenet")
    write_run(runs, 0.5, rows=curve(0.5), started=5, skip="zero")
    write_run(runs, None, started=6, status="failed", skip="zero")
    for file in runs.rglob("run.json"):
        file.write_text(file.read_text().replace('"epoch": 3', '"epoch": 3, "val/iou/road": 0.9, "val/iou/car": 0.8'))
    for folder in {path.parent for path in runs.rglob("run.json")}:
        write_panels(folder / "images" / "street_epoch0005.png", [(9, 9, 9), (99, 9, 9), (9, 99, 9)])
    (runs / "torn").mkdir()
    (runs / "torn" / "run.json").write_text("{")
    return run("compare.py", "runs=outputs", cwd=cwd), cwd


def opened(browser, folder, chosen="view=runs", **options):
    """The page of a comparison in a headless browser, with what its address says."""
    address = (folder / "outputs" / "compare" / "index.html").as_uri() + f"#{chosen}"
    return in_browser(browser, address, "html[data-drawn]", **options)


@contextmanager
def in_browser(browser, address, ready, width=1280, **options):
    """A page in a headless browser, once an element is there; fails on any request or error."""
    with browser.new_context(viewport={"width": width, "height": 900}, **options) as context:
        page = context.new_page()
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_selector(ready, timeout=60_000)
        yield page
        assert complaints == []
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def wait(page):
    """Until every chart is drawn."""
    page.wait_for_selector("html[data-drawn]", timeout=60_000)


@pytest.fixture(scope="module")
def open_page(browser, compared):
    with opened(browser, compared[1]) as page:
        yield page


@pytest.fixture
def page(open_page):
    """The page of the comparison, as it is when it opens but for the order of its rows."""
    open_page.get_by_role("searchbox").fill("")
    open_page.get_by_role("button", name="All on").click()
    settle(open_page, 5)
    return open_page


def drawn(page, chart):
    """Values that a chart shows, each run's highest: `{label: value}`."""
    script = """(id) => {
        const found = {};
        for (const { text, y } of document.getElementById(id).data)
            text.forEach((label, i) => { if (label) found[label] = Math.max(y[i], found[label] || 0); });
        return found;
    }"""
    return page.evaluate(script, chart)


def column(page, number):
    script = "(rows, number) => rows.map((row) => row.cells[number].textContent)"
    return page.locator("#all tbody tr").evaluate_all(script, number)


def settle(page, names):
    """Wait until a chart shows that many runs; it is drawn in the next frame."""
    script = "(n) => new Set(document.getElementById('curve').data.flatMap((t) => t.text).filter(Boolean)).size === n"
    page.wait_for_function(script, arg=names)


def test_writes_three_files_and_names_what_is_broken(compared):
    done, cwd = compared
    assert (done.returncode, done.stderr) == (0, "")
    folder = cwd / "outputs" / "compare"
    assert {path.name for path in folder.iterdir()} == {"index.html", "comparison.md", "comparison.csv"}
    assert done.stdout.strip().splitlines()[-1].endswith("outputs/compare/index.html")
    assert "torn/run.json cannot be read" in done.stdout
    assert "62.50 ± 3.54 (2)" in done.stdout.replace("\n", " ")
    assert "| Fast-SCNN | 68.62 | 62.50 ± 3.54 (2) |" in (folder / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs=empty"], ["runs=empty", "train.py"]),
        (["runs=outputs", "galery=2"], ["gallery"]),
    ],
)
def test_wrong_request_is_one_sentence(run, compared, arguments, words):
    (compared[1] / "empty").mkdir(exist_ok=True)
    done = run("compare.py", *arguments, cwd=compared[1])
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr


def test_a_click_on_a_header_sorts_and_another_sorts_back(page):
    header = page.locator("#all th", has_text="best %")
    number = header.evaluate("th => th.cellIndex")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert column(page, number) == ["67.00", "65.00", "62.00", "60.00", "50.00", ""]
    header.get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(page, number) == ["50.00", "60.00", "62.00", "65.00", "67.00", ""]


def test_a_switch_takes_a_run_out_of_curves_and_bars_and_back(page):
    assert sorted(drawn(page, "curve").values()) == [50, 60, 60, 65, 65]
    page.get_by_role("checkbox", name="fine-skip_zero · seed 0").first.click()
    settle(page, 4)
    assert 50 not in drawn(page, "curve").values()
    bars = "() => document.getElementById('bars').data.map((trace) => trace.name)"
    assert "fine-skip_zero" not in page.evaluate(bars)
    page.get_by_role("button", name="All off").click()
    settle(page, 0)
    assert [name for name in page.evaluate(bars) if not name.startswith("paper")] == []
    page.get_by_role("button", name="All on").click()
    settle(page, 5)
    assert "fine-skip_zero" in page.evaluate(bars)


def test_a_group_is_switched_at_once_and_shows_when_it_is_on_in_part(page):
    group = page.locator("#groups input").first
    page.get_by_role("checkbox", name="fine · seed 0").click()
    settle(page, 4)
    assert group.evaluate("box => box.indeterminate")
    group.click()
    settle(page, 5)
    group.click()
    settle(page, 3)
    assert sum(label.startswith("fine ·") for label in drawn(page, "curve")) == 0


def test_filter_hides_rows_and_switches_what_is_shown(page):
    page.get_by_role("searchbox").fill("pretrain_imagenet")
    assert page.locator("#all tbody tr:visible").count() == 2
    assert "2 of 6 runs shown" in page.locator("#shown").inner_text()
    page.get_by_role("button", name="Shown off").click()
    settle(page, 3)
    assert not any("imagenet" in label for label in drawn(page, "curve"))


def test_curves_of_imagenet_pretraining_are_dashed(page):
    dashes = page.evaluate(
        "() => document.getElementById('curve').data.map((t) => [t.text[0].includes('imagenet'), t.line.dash])"
    )
    assert len(dashes) == 3
    assert all((dash == "dash") == pretrained for pretrained, dash in dashes)


def test_narrow_dark_page_fits_and_shows_pictures(browser, compared):
    with opened(browser, compared[1], width=390, color_scheme="dark") as page:
        page.wait_for_function("() => document.documentElement.scrollWidth <= 390")
        image = page.locator("#gallery img").first
        image.scroll_into_view_if_needed()
        page.wait_for_function("() => document.querySelector('#gallery img').naturalWidth > 0")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
        assert "ValueError: no" in page.locator("#all tr.failed").text_content()


LABELS = [f"group_{place // 3} · seed {place % 3}" for place in range(12)]


@contextmanager
def shown(browser, folder, *runs, chosen="view=runs", width=1280, color_scheme="light", **changes):
    """The page of these runs, open in a browser that fails on any error and any request."""
    path = folder / "outputs" / "compare" / "index.html"
    path.parent.mkdir(parents=True)
    write_page(comparison(*runs, **changes), path)
    with opened(browser, folder, chosen, width=width, color_scheme=color_scheme) as page:
        yield page


def test_keyboard_sorts_numbers_by_value_with_blanks_last(browser, tmp_path):
    draw = random.Random(0)
    cells = [f"{draw.uniform(0, 120):.2f}" for _ in LABELS]
    cells[3] = cells[7] = ""
    runs = [run_view(label, cells={"run": label, "best": text}) for label, text in zip(LABELS, cells, strict=True)]
    numbers = sorted((text for text in cells if text), key=float)
    with shown(browser, tmp_path, *runs) as page:
        header = page.locator("#all th", has_text="best")
        for direction, expected in (("descending", numbers[::-1]), ("ascending", numbers)):
            header.get_by_role("button").press("Enter")
            assert header.get_attribute("aria-sort") == direction
            assert column(page, 2) == [*expected, "", ""]


def test_only_finished_switches_the_others_off(browser, tmp_path):
    runs = [run_view(LABELS[0]), run_view(LABELS[1], status="failed"), run_view(LABELS[2], status="running")]
    with shown(browser, tmp_path, *runs) as page:
        page.get_by_role("button", name="Only finished").click()
        settle(page, 1)
        assert list(drawn(page, "curve")) == [LABELS[0]]
        assert page.locator("#groups input").first.evaluate("box => box.indeterminate")


def test_thinned_curve_keeps_its_ends_and_its_peak_and_says_so(browser, tmp_path):
    values = [50 + random.Random(place).random() for place in range(20_000)]
    values[12_345] = 99.0
    steps = list(range(1, len(values) + 1))
    with shown(browser, tmp_path, run_view(curve=Curve(steps, steps, values))) as page:
        xs, ys = page.evaluate("() => ['x', 'y'].map((k) => document.getElementById('curve').data[0][k])")
        points = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None]
        assert points[0] == (1, round(values[0], 2))
        assert points[-1] == (20_000, round(values[-1], 2))
        assert (12_346, 99) in points
        assert 1000 < len(points) < 20_000
        assert "fewer points" in page.locator("#curves .note").first.inner_text()


def test_names_with_markup_are_text(browser, tmp_path):
    label = f"{HOSTILE} · seed 0"
    with shown(browser, tmp_path, run_view(label, iou={HOSTILE: 50.0}), run_view(LABELS[0]), title=HOSTILE) as page:
        assert page.locator("h1").text_content() == HOSTILE
        assert column(page, 1)[0] == label
        assert page.locator("#groups .name").first.text_content() == HOSTILE
        assert page.locator("#all tbody input").first.get_attribute("aria-label") == label


EDGES = {
    "one run": [run_view()],
    "one validation": [run_view(values=[10.0])],
    "a run without a curve": [run_view(LABELS[0]), run_view(LABELS[1], values=[])],
    "no curve at all": [run_view(values=[])],
    "no run": [],
}


@pytest.mark.parametrize("runs", EDGES.values(), ids=EDGES)
def test_page_opens_with(browser, runs, tmp_path):
    with shown(browser, tmp_path, *runs) as page:
        assert page.locator("#all tbody tr").count() == len(runs)
        assert page.locator("#gallery").count() == 0
        assert len(drawn(page, "curve")) == sum(bool(run.curve.values) for run in runs)


def test_slider_moves_between_prediction_truth_and_input_and_the_worst_frame_comes_first(browser, tmp_path):
    good, bad, cut = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "cut.png"
    for path, last in ((good, (9, 99, 9)), (bad, (99, 9, 9)), (cut, (200, 9, 9))):
        write_panels(path, [(9, 9, 99), (9, 99, 9), last])
    rows = [GalleryRow(LABELS[0], "first", good, cut), GalleryRow(LABELS[3], "second", bad)]
    with shown(browser, tmp_path, run_view(LABELS[0]), run_view(LABELS[3]), gallery=rows) as page:
        page.locator("#gallery").scroll_into_view_if_needed()
        captions = page.locator("#gallery figcaption").all_inner_texts()
        assert [text.partition("\n")[0] for text in captions] == [
            "second · 0.0 % of pixels agree",
            "first · 100.0 % of pixels agree",
        ]
        opacity = """() => ['input', 'truth', 'prediction'].map((name) =>
            Number(getComputedStyle(document.querySelector(`#gallery .${name}`)).opacity))"""
        for value, expected in (("0", [1, 1, 1]), ("1", [1, 1, 0]), ("1.5", [1, 0.5, 0]), ("2", [1, 0, 0])):
            page.locator("#between").fill(value)
            assert page.evaluate(opacity) == expected
        visible = "() => getComputedStyle(document.querySelector('#gallery .cut')).visibility"
        assert page.evaluate(visible) == "hidden"
        page.locator("#without").check()
        assert page.evaluate(visible) == "visible"


def many(groups=30, seeds=3):
    """Runs of groups whose names begin alike."""
    made = []
    for number in range(groups):
        for seed in range(seeds):
            values = [number + seed + place for place in range(5)]
            more = {"train/loss": Curve([1, 2, 3], [10, 20, 30], [3.0, 1.0 + seed, 0.5])}
            label = f"fine-pretrain_imagenet-option_{number} · seed {seed}"
            made.append(run_view(label, values, more=more, iou={"road": 50.0 + number}))
    return made


def several_columns(runs):
    rows = [[group, "Cityscapes", "0, 1, 2", "62.00 ± 0.30 (3)"] for group in dict.fromkeys(run.group for run in runs)]
    return [Table("Means over seeds", ["runs", "data", "seeds", "best %"], rows, numeric=frozenset({3}))]


@pytest.fixture(scope="module", params=[(1400, "light"), (420, "dark")], ids=["wide", "narrow and dark"])
def crowded(request, browser, tmp_path_factory):
    """The page of thirty groups of three seeds, and its width."""
    width, scheme = request.param
    groups = list(dict.fromkeys(run.group for run in many()))
    gaps = [
        Gap("data", group, groups[0], 1.0 + i, (0.5 + i, 1.5 + i), f"+{1 + i}.00") for i, group in enumerate(groups)
    ]
    heat = Table("Classes", ["runs", "road"], [["base", "50"], ["better", "+5"], ["worse", "-5"]], heat=5.0)
    folder = tmp_path_factory.mktemp("crowded")
    write_panels(folder / "a.png", [(9, 9, 99), (9, 99, 9), (99, 9, 9)])
    changes = {"tables": [*several_columns(many()), heat], "gaps": gaps, "warnings": ["A file cannot be read."]}
    changes |= {"gallery": [GalleryRow(groups[0], "first", folder / "a.png")], "width": width, "color_scheme": scheme}
    with shown(browser, folder, *many(), chosen="", **changes) as page:
        yield page, width


def test_means_of_thirty_groups_have_a_band_a_label_and_a_look_of_their_own(crowded):
    page, width = crowded
    found = page.evaluate("""() => {
        const { data, layout } = document.getElementById('curve');
        const means = data.filter((t) => t.text.length);
        return {
            means: means.map((t) => [t.y[4], t.line.color, t.line.dash, t.marker.maxdisplayed && t.marker.symbol]),
            bands: data.filter((t) => t.fill === 'toself').map((t) => t.y[4]),
            labels: layout.annotations.map((a) => [a.name, a.y]),
        };
    }""")
    assert [y for y, *_ in found["means"]] == [number + 5 for number in range(30)]
    assert found["bands"] == [number + 6 for number in range(30)]
    assert len({tuple(look) for _, *look in found["means"]}) == 30
    swatches = page.locator("#groups li svg").evaluate_all("all => all.map((one) => one.innerHTML)")
    assert len(set(swatches)) == 30, "the list shows the same looks"
    assert len({name for name, _ in found["labels"]}) == 30
    heights = sorted(y for _, y in found["labels"])
    assert min(b - a for a, b in pairwise(heights)) > 0.02
    assert heights[0] > -0.05 and heights[-1] < 1.05, "every label is beside the chart"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    number = page.locator("#first td.number").first.bounding_box()
    assert number["x"] + number["width"] <= width, "the number is in view"
    label = page.locator("#first tbody th").first.bounding_box()
    page.locator("#first .scroll").evaluate("box => box.scrollLeft = 1000")
    assert page.locator("#first tbody th").first.bounding_box()["x"] == label["x"], "the label stays"


CONTRASTS = """() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (css) => { // as a number of each channel, whatever the notation
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = css;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const mix = (below, [r, g, b, a]) => [r, g, b].map((v, i) => a * v + (1 - a) * below[i]);
    const ground = (element) => {
        const layers = [];
        for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
        return layers.reverse().reduce(mix, [255, 255, 255]);
    };
    const light = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
    const found = [];
    const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
        const element = words.currentNode.parentElement, text = words.currentNode.textContent.trim();
        if (!text || element.closest('script, style, option') || !element.getClientRects().length) continue;
        const style = getComputedStyle(element), below = ground(element);
        const ink = mix(below, rgba(element.closest('svg') ? style.fill : style.color));
        const [one, other] = [luminance(ink), luminance(below)];
        found.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), text]);
    }
    return found;
}"""


def test_all_text_has_a_contrast_of_at_least_four_and_a_half(crowded):
    found = crowded[0].evaluate(CONTRASTS)
    assert len(found) > 300
    assert [(round(contrast, 2), text) for contrast, text in found if contrast < 4.5] == []


def accessibility(page):
    """Role, name and properties of what assistive technology is given, by Chromium's own tree."""
    session = page.context.new_cdp_session(page)
    nodes = [node for node in session.send("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    session.detach()
    for node in nodes:
        properties = {one["name"]: one["value"].get("value") for one in node.get("properties", [])}
        yield node["role"]["value"], node.get("name", {}).get("value", ""), properties


def test_every_control_chart_table_and_region_has_a_role_and_a_name(crowded):
    page, _ = crowded
    found = list(accessibility(page))
    named = ("button", "checkbox", "combobox", "slider", "searchbox", "table", "region", "image", "list", "link")
    assert [role for role, name, _ in found if role in named[:-2] and not name] == []
    assert [
        role for role, name, properties in found if properties.get("focusable") and not name and role != "RootWebArea"
    ] == []
    charts = {name.partition(",")[0].partition(".")[0]: name for role, name, _ in found if role == "image"}
    assert "fine-pretrain_imagenet-option_29, mean of 3: 34 %" in charts["val/miou over epochs"]
    assert "fine-pretrain_imagenet-option_3: +4.00" in charts["Differences in points"]
    assert {"first"} < set(charts), "pictures have names"
    roles = [role for role, _, _ in found]
    assert {"columnheader", "rowheader", "heading", "status"} <= set(roles)
    levels = [properties["level"] for role, _, properties in found if role == "heading"]
    assert levels[0] == 1 and set(levels[1:]) == {2}
    assert roles.count("rowheader") == 90 + 30 + 3
    assert not {"SvgRoot", "graphics-symbol"} & set(roles), "the inner parts of a chart are left out"
    assert page.locator("#between").get_attribute("aria-valuetext") == "prediction"


def test_keyboard_reaches_everything_in_order_and_zooms_the_curves(crowded):
    page, _ = crowded
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the table of all runs"
    places = page.evaluate("""() => [...document.querySelectorAll('a, button, input, select, [tabindex]')]
        .filter((e) => e.tabIndex >= 0 && e.getClientRects().length).map((e) => e.tabIndex)""")
    assert set(places) == {0}, "the order is that of the page"
    page.locator("#curve").focus()
    ends = "() => document.getElementById('curve')._fullLayout.xaxis.range"
    first, last = page.evaluate(ends)
    page.keyboard.press("+")
    page.wait_for_function(f"([a, b]) => {{ const r = ({ends})(); return r[0] > a && r[1] < b; }}", arg=[first, last])
    page.keyboard.press("0")
    page.wait_for_function(
        f"([a, b]) => {{ const r = ({ends})(); return r[0] === a && r[1] === b; }}", arg=[first, last]
    )


def test_address_keeps_what_is_chosen(browser, tmp_path):
    with shown(browser, tmp_path, *many(4), chosen="") as page:
        page.locator("#metric").select_option("train/loss")
        page.locator("#axis").select_option("steps")
        page.locator("#logy").check()
        page.locator("#smooth").fill("0.5")
        page.get_by_role("searchbox").fill("option_1")
        page.get_by_role("button", name="Shown off").click()
        page.locator("#all th", has_text="best").get_by_role("button").click()
        address = page.url
        page.goto("about:blank")
        page.goto(address)
        wait(page)
        assert page.locator("#metric").input_value() == "train/loss"
        assert page.locator("#all tbody tr:visible").count() == 3
        assert page.locator("#all th[aria-sort=descending]").text_content() == "best"
        kind, lines = page.evaluate("""() => {
            const { layout, data } = document.getElementById('curve');
            return [layout.yaxis.type, data.filter((t) => t.text.length).map((t) => t.y)];
        }""")
        assert kind == "log"
        assert len(lines) == 3
        assert lines[0][0] == pytest.approx(3.0)
        assert lines[0][1] == pytest.approx((2 * 2.0 + 3.0) / 3), "smoothed, then the mean over the seeds"


def test_tables_are_saved_as_csv_and_latex_and_charts_as_svg(browser, tmp_path):
    gap = Gap("data", "fine", "base", 1.5, (0.5, 2.5), "+1.50 [+0.50, +2.50] paired")
    table = Table("Means & more", ["runs", "best %"], [["a_b, c", "1.0 ± 0.2"]], numeric=frozenset({1}))
    wanted = (("#first", "CSV"), ("#first", "LaTeX"), ("#effects", "SVG"), ("#curves", "SVG"), ("#all", "CSV"))
    with shown(browser, tmp_path, *many(2), tables=[table], gaps=[gap], chosen="") as page:
        saved = {}
        for section, name in wanted:
            with page.expect_download() as waiting:
                page.locator(section).get_by_role("button", name=name).click()
            saved[section, name] = Path(waiting.value.path()).read_text()
        assert saved["#first", "CSV"] == 'runs,best %\n"a_b, c",1.0 ± 0.2\n'
        assert "a\\_b, c & 1.0 $\\pm$ 0.2 \\\\" in saved["#first", "LaTeX"]
        assert "\\begin{tabular}{lr}" in saved["#first", "LaTeX"]
        assert saved["#effects", "SVG"].startswith("<svg")
        assert saved["#curves", "SVG"].startswith("<svg")
        assert saved["#all", "CSV"].splitlines()[0] == "run,best"
        assert page.evaluate("document.getElementById('forest').data[0].error_x.array") == [1.0]


def test_page_without_curves_differences_or_pictures_says_what_to_do(browser, tmp_path):
    with shown(browser, tmp_path, run_view(values=[]), chosen="") as page:
        assert "when compare.py is called again" in page.locator("#no-curve").inner_text()
        assert "baseline=NAME" in page.locator("#no-forest").inner_text()
        assert "best validation" in page.locator("#no-bars").inner_text()
        assert "pictures=4" in page.locator("section", has=page.locator("h2", has_text="Pictures")).inner_text()
        page.get_by_role("searchbox").fill("nothing has this")
        assert "clear the filter" in page.locator("#shown").inner_text()


def test_page_of_an_evaluation_fits_wide_and_narrow_screens_and_shows_its_pictures(browser, tmp_path):
    write_evaluation(evaluation_report(), tmp_path / "report.html")
    with in_browser(browser, (tmp_path / "report.html").as_uri(), "#worst img", color_scheme="dark") as page:
        for width in (1400, 420):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            number = page.locator("#classes td.number").first.bounding_box()
            assert number["x"] + number["width"] <= width, "the number is in view"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
        page.locator("#worst img").last.scroll_into_view_if_needed()
        page.wait_for_function("() => [...document.images].every((image) => image.naturalWidth > 0)")
        assert page.locator("#worst img").count() == 4
