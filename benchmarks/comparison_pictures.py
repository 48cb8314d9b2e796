"""The pictures of the comparison page in the docs: twenty groups of three seeds, 1400 and 420 px, light and dark.

    python benchmarks/comparison_pictures.py [FOLDER]

Writes docs/pictures/comparison_{wide,dark,narrow}.jpg from generated runs, and the whole page at each width and in each
mode into FOLDER where one is named. Needs Chromium on the PATH.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from compare_page import BROWSERS, FLAGS, ROOT, write_run
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

PICTURES = ROOT / "docs" / "pictures"
GROUPS, SEEDS, EPOCHS = 20, 3, 100
WIDE, NARROW = 1400, 420
FROM = "#effects"
"""The differences to the baseline come first in a picture; what stands above them on the page is a long table."""


def photograph(browser: Browser, page: Path, width: int, mode: str, whole: Path | None) -> Image.Image:
    """The page from the forest plot to its end at a width, light or dark; the whole page goes into `whole`."""
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=mode)  # type: ignore[arg-type]
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-drawn]")
    picture = Image.open(io.BytesIO(tab.screenshot(full_page=True))).convert("RGB")
    top = tab.eval_on_selector(FROM, "part => part.getBoundingClientRect().top + scrollY")
    tab.close()
    if whole:
        picture.save(whole / f"{width}_{mode}.png")
    return picture.crop((0, int(top), picture.width, picture.height))


def save(picture: Image.Image, name: str, width: int, height: int) -> None:
    """The upper part of a picture, `width` pixels wide and at most `height` high, in the docs."""
    scale = width / picture.width
    picture = picture.crop((0, 0, picture.width, min(picture.height, round(height / scale))))
    picture = picture.resize((width, round(picture.height * scale)), Image.Resampling.LANCZOS)
    picture.save(PICTURES / f"comparison_{name}.jpg", quality=72, optimize=True, progressive=True)


def main(whole: Path | None) -> None:
    if whole:
        whole.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        for number in range(GROUPS * SEEDS):
            write_run(Path(folder) / "outputs", number, EPOCHS, SEEDS)
        command = [sys.executable, str(ROOT / "src" / "compare.py"), f"runs={folder}/outputs", f"output={folder}/page"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        page = Path(folder) / "page" / "index.html"
        browser = play.chromium.launch(executable_path=next(filter(None, map(shutil.which, BROWSERS))), args=FLAGS)
        save(photograph(browser, page, WIDE, "light", whole), "wide", 1000, 1500)
        save(photograph(browser, page, WIDE, "dark", whole), "dark", 1000, 1500)
        modes = [photograph(browser, page, NARROW, mode, whole) for mode in ("light", "dark")]
        height = min(picture.height for picture in modes)
        both = Image.new("RGB", (2 * NARROW, height))
        for place, picture in enumerate(modes):
            both.paste(picture.crop((0, 0, NARROW, height)), (place * NARROW, 0))
        save(both, "narrow", 2 * NARROW, 1900)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
