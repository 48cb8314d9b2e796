"""`python src/compare.py` as a user calls it, and its page in a real browser."""

import shutil
from contextlib import contextmanager

import pytest
from test_reports import write_run
from test_reports_page import picture

playwright_api = pytest.importorskip("playwright.sync_api")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync", "--no-first-run"]


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
        picture(folder / "images" / "street_epoch0005.png", [(9, 9, 9), (99, 9, 9), (9, 99, 9)])
    (runs / "torn").mkdir()
    (runs / "torn" / "run.json").write_text("{")
    return run("compare.py", "runs=outputs", cwd=cwd), cwd


@contextmanager
def opened(folder, **options):
    """The page in a headless browser; fails where it asked the network or logged an error."""
    path = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if path is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)}")
    with playwright_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        except playwright_api.Error as error:
            pytest.skip(f"{path} does not start: {str(error).splitlines()[0]}")
        page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((folder / "outputs" / "compare" / "index.html").as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        yield page
        assert complaints == []
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
        browser.close()


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
    return [row.locator("td").nth(number).text_content() for row in page.locator("#all tbody tr").all()]


def settle(page, names):
    """Wait until a chart shows that many runs; it is drawn in the next frame."""
    script = "(n) => new Set(document.getElementById('steps').data.flatMap((t) => t.text).filter(Boolean)).size === n"
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
        (["runs=nowhere"], ["runs=nowhere", "no folder"]),
        (["runs=empty"], ["runs=empty holds no run", "train.py"]),
        (["runs=outputs", 'filter="colour=red"'], ["filter names colour", "skip"]),
        (["runs=outputs", "metric=val/mio"], ["metric=val/mio", "val/miou"]),
        (["runs=outputs", "baseline=fina"], ["baseline=fina", "'fine'"]),
        (["runs=outputs", "galery=2"], ["Did you mean gallery"]),
    ],
)
def test_wrong_request_is_one_sentence(run, compared, arguments, words):
    (compared[1] / "empty").mkdir(exist_ok=True)
    done = run("compare.py", *arguments, cwd=compared[1])
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr


def test_a_click_on_a_header_sorts_and_another_sorts_back(compared):
    with opened(compared[1]) as page:
        header = page.locator("#all th", has_text="best %")
        number = header.evaluate("th => th.cellIndex")
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == "descending"
        assert column(page, number) == ["67.00", "65.00", "62.00", "60.00", "50.00", ""]
        header.get_by_role("button").press("Enter")
        assert header.get_attribute("aria-sort") == "ascending"
        assert column(page, number) == ["50.00", "60.00", "62.00", "65.00", "67.00", ""]


def test_a_switch_takes_a_run_out_of_curves_and_bars_and_back(compared):
    with opened(compared[1]) as page:
        assert sorted(drawn(page, "steps").values()) == [50, 60, 60, 65, 65]
        assert drawn(page, "steps") == drawn(page, "epochs")
        page.get_by_role("checkbox", name="fine-skip_zero · seed 0").first.click()
        settle(page, 4)
        assert 50 not in drawn(page, "steps").values()
        assert 50 not in drawn(page, "epochs").values()
        bars = "() => document.getElementById('bars').data.map((trace) => trace.name)"
        assert "fine-skip_zero" not in page.evaluate(bars)
        page.get_by_role("button", name="All off").click()
        settle(page, 0)
        assert [name for name in page.evaluate(bars) if not name.startswith("paper")] == []
        page.get_by_role("button", name="All on").click()
        settle(page, 5)
        assert "fine-skip_zero" in page.evaluate(bars)


def test_a_group_is_switched_at_once_and_shows_when_it_is_on_in_part(compared):
    with opened(compared[1]) as page:
        group = page.locator("#groups input").first
        page.get_by_role("checkbox", name="fine · seed 0").click()
        settle(page, 4)
        assert group.evaluate("box => box.indeterminate")
        group.click()
        settle(page, 5)
        group.click()
        settle(page, 3)
        assert sum(label.startswith("fine ·") for label in drawn(page, "epochs")) == 0


def test_filter_hides_rows_and_switches_what_is_shown(compared):
    with opened(compared[1]) as page:
        page.get_by_role("searchbox").fill("pretrain_imagenet")
        assert page.locator("#all tbody tr:visible").count() == 2
        assert "2 of 6 runs shown" in page.locator("#shown").inner_text()
        page.get_by_role("button", name="Shown off").click()
        settle(page, 3)
        assert not any("imagenet" in label for label in drawn(page, "steps"))


def test_curves_of_imagenet_pretraining_are_dashed(compared):
    with opened(compared[1]) as page:
        dashes = page.evaluate(
            "() => document.getElementById('steps').data.map((t) => [t.text[0].includes('imagenet'), t.line.dash])"
        )
        assert len(dashes) == 3
        assert all((dash == "dash") == pretrained for pretrained, dash in dashes)


def test_narrow_dark_page_fits_and_shows_pictures(compared):
    with opened(compared[1], color_scheme="dark") as page:
        page.set_viewport_size({"width": 390, "height": 800})
        page.wait_for_function("() => document.documentElement.scrollWidth <= 390")
        image = page.locator("#gallery img").first
        image.scroll_into_view_if_needed()
        page.wait_for_function("() => document.querySelector('#gallery img').naturalWidth > 0")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
        assert "ValueError: no" in page.locator("#all tr.failed").text_content()
