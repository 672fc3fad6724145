"""The report's pages in a real browser: `make browser-test`, which is no part of `make test`.

Needs Chromium (Debian's package chromium) and playwright to drive it; skips, saying so, where either is missing. With
AUTODISP_RUNS=FOLDER it also opens reports on all runs below that folder. Screenshots lie in the folder that
AUTODISP_SHOTS names.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autodisp.observers.picture import keep_picture
from autodisp.prediction.disparity_images import panel
from autodisp.report.comparison import find_runs
from autodisp.report.comparison_page import write_comparison
from autodisp.report.reading import read_run
from autodisp.report.run_page import write_run_page
from tests.made_runs import config_of, record_of, write_run, write_search, write_training

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install -e '.[browser]'"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")
LOOKS = [(1400, "light"), (1400, "dark"), (400, "light"), (400, "dark")]
UNSEEN = """() => {
  const pictures = [...document.querySelectorAll("img")];
  const wide = document.documentElement.clientWidth;
  return pictures.filter((picture) => {
    const box = picture.getBoundingClientRect();
    const empty = !(picture.complete && picture.naturalWidth > 0);
    const inside = box.left >= 0 && box.left < wide && (box.right <= wide + 1 || picture.closest(".wide"));
    return empty || box.width < 20 || box.height < 8 || !inside;
  }).map((picture) => picture.outerHTML.slice(0, 200));
}"""


def make_disparity(root: Path) -> Path:
    folder = write_search(root / "disparity", task="disparity", space="autodispnet", epochs=6)
    left, truth = torch.rand(3, 48, 96), torch.rand(1, 48, 96) * 20
    keep_picture(folder, "prediction", panel(left, truth, truth + torch.randn(1, 48, 96), truth > 1))
    return folder


def make_classification(root: Path) -> Path:
    """Rolled back once, its whole spectrum measured, cells with all 14 edges at one point."""
    nodes = [
        [["sep_conv_3x3" if source % 2 else "skip_connect", source] for source in range(2 + node)] for node in range(4)
    ]
    records: list[dict[str, Any]] = [{"event": "start", "constant": 10.0, "valid/accuracy": 11.0}]
    spectrum = np.linspace(-0.1, 0.3, 56).tolist()
    records += [record_of(epoch, spectrum=spectrum) for epoch in range(5)]
    records += [{"event": "restart", "decided_epoch": 4, "returned_epoch": 2, "ratio": 1.4, "weight_decay": 3e-3}]
    records += [record_of(3, restart=1), record_of(4, restart=1, genotype={"normal": nodes, "reduce": nodes})]
    return write_run(root / "classification", records, config=config_of(policy="ada"))


def make_hostile(root: Path) -> Path:
    evil = '"><script>document.title="taken"</script><img src=x onerror="document.title=1">'
    config = config_of(policy=evil) | {evil: evil, "dataset": {"name": evil}}
    folder = write_run(root / evil.replace("/", ""), [record_of(0), record_of(1)], config=config)
    (folder / "command.txt").write_text(evil)
    return folder


MAKERS = {
    "disparity": make_disparity,
    "classification": make_classification,
    "training": lambda root: write_training(root / "training"),
    "begun": lambda root: write_search(root / "begun", epochs=0, finished=False),
    "hostile": make_hostile,
}


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report on each made-up run, and one on all of them."""
    root = tmp_path_factory.mktemp("runs")
    made = {name: make(root) for name, make in MAKERS.items()}
    real = os.environ.get("AUTODISP_RUNS")
    if real:
        made |= {f"real_{entry.run.name}": entry.run.folder for entry in find_runs([real]).entries}
    found = {}
    for name, folder in made.items():
        out = tmp_path_factory.mktemp(name)
        write_run_page(read_run(folder), out, with_animation=False)
        found[name] = out / "index.html"
    for name, place in {"comparison": str(root), "real_comparison": real}.items():
        if place:
            out = tmp_path_factory.mktemp(name)
            write_comparison(find_runs([place]), out)
            found[name] = out / "index.html"
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page, and whatever the browser had to say about it."""

    def __init__(self, browser: Any, page: Path, width: int, scheme: str) -> None:
        self.complaints: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        self.tab = self.context.new_page()
        self.tab.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", self._asked)
        self.tab.goto(page.as_uri())

    def _asked(self, request: Any) -> None:
        itself = request.url.startswith("file:") and request.is_navigation_request()
        if not itself and not request.url.startswith("data:"):
            self.complaints.append(f"asks for {request.url[:100]}")

    def __enter__(self) -> Any:
        return self.tab

    def __exit__(self, *_: object) -> None:
        self.context.close()


def shot(tab: Any, name: str) -> None:
    folder = os.environ.get("AUTODISP_SHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
@pytest.mark.parametrize("name", [*MAKERS, "comparison", "real"])
def test_every_picture_is_seen_and_nothing_complains(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    meant = [key for key in pages if key.startswith("real_")] if name == "real" else [name]
    if not meant:
        pytest.skip("AUTODISP_RUNS names no folder of runs")
    for key in meant:
        opened = Opened(browser, pages[key], width, scheme)
        with opened as tab:
            assert tab.evaluate(UNSEEN) == []
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", dark))) < 300) == (scheme == "dark")
            shot(tab, f"{key}_{width}_{scheme}")
            assert tab.title() != "taken"
            assert opened.complaints == []


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("name", ["disparity", "classification"])
def test_the_slider_moves_the_cells_and_the_marker(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    opened = Opened(browser, pages[name], width, "light")
    with opened as tab:
        slider, label = tab.locator("#viewer-slider"), tab.locator("#viewer-label")
        normal = tab.locator('#viewer-stage [data-kind="normal"]')

        def state() -> tuple[str, float, str]:
            box = tab.locator("#viewer-point").bounding_box()
            return label.inner_text(), box["x"], normal.inner_html()

        slider.focus()
        tab.keyboard.press("Home")
        first = state()
        assert first[0].startswith("epoch 0")
        tab.keyboard.press("End")
        last = state()
        assert last[0] != first[0]
        assert last[1] > first[1] + 50
        assert last[2] != first[2]
        tab.locator("#viewer-back").click()
        assert state()[0] not in (first[0], last[0])
        tab.keyboard.press("Home")
        slider.fill("0")
        assert state() == first
        tab.locator("#viewer-play").click()
        playwright.expect(slider).not_to_have_value("0")
        tab.locator("#viewer-play").click()
        assert normal.locator("img").count() == 1
        assert opened.complaints == []


def test_the_table_sorts_by_numbers_both_ways(browser: Any, pages: dict[str, Path]) -> None:
    opened = Opened(browser, pages["comparison"], 1400, "light")
    with opened as tab:
        head = tab.locator("thead th:first-child button")
        column = tab.locator("tbody tr td:first-child")
        for sign in (1, -1):
            head.click()
            shown = [int(text) for text in column.all_inner_texts()]
            assert shown == sorted(shown, key=lambda number: sign * number)
        assert len(shown) >= 4
        assert opened.complaints == []
