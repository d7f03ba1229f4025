# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, opened from the disk, without a network: tables, pictures, and what the viewer draws.

It takes Playwright and a Chromium of the system (on Debian `apt-get install chromium`). Without them these tests are
skipped, with REQUIRE_BROWSER=1 they fail.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from custom_nets.figures.colours import structure_colours
from custom_nets.report import write_report
from tests.report.out_dirs import FAILURE, FINDING, write_out_dir
from tests.report.parsed_page import ParsedPage

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: WebGL in software: there need be no graphics card.
ARGUMENTS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
NO_WEBGL = """
const original = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind === "webgl2" ? null : original.call(this, kind, ...rest);
};
"""
#: Contrast of the text of an element with what is behind it, as WCAG 2 defines it.
CONTRAST = """element => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  const pair = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(light);
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _missing("the package playwright (pip install playwright)")
    if CHROMIUM is None:
        _missing("a browser (apt-get install chromium)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


def _missing(what: str) -> None:
    reason = f"tests of the page need {what}"
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pelvises with references and uncertainty maps, in a folder whose name is not a simple one."""
    folder = tmp_path_factory.mktemp("page") / "Übersicht 1 #2"
    return write_report(write_out_dir(folder, "s2anet", ("b", "a 10"), spacing=6.0, uncertainty=True)).path


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Opened:
    """A page in the browser, and what it asked for and complained of."""

    def __init__(self, browser: Any, report: Path, scheme: str = "light", script: str = "") -> None:
        context = browser.new_context(viewport={"width": 1280, "height": 860}, color_scheme=scheme, offline=True)
        self.page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        if script:
            self.page.add_init_script(script)
        self.page.goto(report.as_uri())

    def view(self, case: int) -> None:
        """Open the viewer."""
        self.page.click(f"#case-{case} button.open")
        self.page.wait_for_selector("#viewer[open]:not([data-state=opening])", timeout=120_000)
        self.settle()

    def settle(self) -> None:
        """Wait for what is drawn next."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def canvas(self) -> np.ndarray:
        """The viewer as it is seen: rows x columns x red, green, blue, 0 … 1."""
        picture = self.page.locator("#canvas").screenshot()
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(float) / 255

    def column(self, place: int) -> list[str]:
        """The visible cells of the list of cases."""
        rows = self.page.locator("#list tbody tr:visible")
        return [str(row.locator("th, td").nth(place).inner_text()) for row in rows.all()]

    def is_quiet(self) -> bool:
        """Whether it asked for nothing but itself and the data in it, and did not complain."""
        asked = [url for url in self.requests[1:] if not url.startswith(("data:", "blob:"))]
        return not asked and not self.complaints


def coloured(canvas: np.ndarray) -> float:
    """Share of a picture that is not grey."""
    return float((np.ptp(canvas, axis=-1) > 0.12).mean())


def test_page_opens_from_the_disk_without_a_network(browser: Any, report: Path, scheme: str) -> None:
    opened = Opened(browser, report, scheme)
    text = opened.page.inner_text("body")
    for case in ("b", "a 10"):
        record = json.loads((report.parent / "cases" / f"{case}.json").read_text())
        for row in (one for one in record["structures"] if one["volume_ml"]):
            assert f"{row['volume_ml']:.2f}" in text and row["name"] in text
    assert FAILURE["message"] in text and FINDING["text"] in text
    sizes = opened.page.eval_on_selector_all(
        "img", "all => Promise.all(all.map((one) => one.decode().then(() => one.naturalWidth)))"
    )
    assert len(sizes) == 12 and min(sizes) > 100
    for selector in (".muted", ".legend", "caption", "thead th button", "button.open", ".notice h3", "summary", ".sum"):
        assert opened.page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector
    assert opened.is_quiet(), (opened.requests, opened.complaints)


def test_list_is_sorted_filtered_and_of_one_structure(browser: Any, report: Path) -> None:
    opened = Opened(browser, report)
    numbers = json.loads(ParsedPage(report).scripts["numbers"])
    opened.page.select_option("#structure", "1")
    assert opened.column(1) == [f"{numbers[case]['1']['volume']:.2f}" for case in ("1", "2")]
    assert opened.column(3) == [f"{numbers[case]['1']['dice']:.3f}" for case in ("1", "2")]
    opened.page.click("#list thead button >> text=Volume")
    volumes = [float(text) for text in opened.column(1)]
    assert volumes == sorted(volumes, reverse=True)
    opened.page.click("#list thead button >> text=Volume")
    assert [float(text) for text in opened.column(1)] == sorted(volumes)
    opened.page.click("#list thead button >> text=Case")
    assert opened.column(0) == ["a 10", "b"]
    assert opened.page.get_attribute("#list thead th", "aria-sort") == "ascending"
    opened.page.fill("#find", "A 1")
    assert opened.column(0) == ["a 10"]
    assert opened.page.locator("article:visible").count() == 1
    opened.page.fill("#find", "")
    opened.page.check("#noticed")
    assert len(opened.column(0)) == 1
    assert opened.is_quiet(), (opened.requests, opened.complaints)


def test_viewer_draws_a_case_with_its_labels(browser: Any, report: Path) -> None:
    opened = Opened(browser, report)
    page = opened.page
    opened.view(2)
    assert page.get_attribute("#viewer", "data-state") == "open", page.inner_text("#cursor")
    assert page.inner_text("#viewer-title") == "b"  # the second by name
    with_labels = opened.canvas()
    assert (with_labels.max(axis=-1) > 0.1).mean() > 0.15
    assert coloured(with_labels) > 0.02
    page.uncheck("#layers input[value=prediction]")
    opened.settle()
    assert coloured(opened.canvas()) < 0.1 * coloured(with_labels)
    page.check("#layers input[value=reference]")
    page.fill("#opacity", "1")
    opened.settle()
    assert coloured(opened.canvas()) > coloured(with_labels)
    assert opened.is_quiet(), (opened.requests, opened.complaints)


def test_viewer_goes_to_a_structure_and_names_it(browser: Any, report: Path) -> None:
    opened = Opened(browser, report)
    opened.view(1)
    record = json.loads((report.parent / "cases" / "a 10.json").read_text())
    names = {row["label"]: row["name"] for row in record["structures"]}
    colours = structure_colours(names, names)
    opened.page.fill("#opacity", "1")
    opened.page.select_option("#view", "0")
    for row in sorted(record["structures"], key=lambda one: -one["volume_ml"])[:3]:
        opened.page.click(f"#legend button:text-is('{row['name']}')")
        opened.settle()
        assert f"prediction: {row['name']} ·" in opened.page.inner_text("#cursor")
        alike = np.abs(opened.canvas() - np.array(colours[row["label"]])).max(axis=-1) < 0.06
        assert alike.mean() > 0.002, row["name"]
    opened.page.click("#close")
    assert not opened.page.is_visible("#viewer")
    opened.view(2)
    assert opened.page.inner_text("#viewer-title") == "b"
    assert opened.is_quiet(), (opened.requests, opened.complaints)


def test_without_webgl_the_page_says_so_and_the_rest_works(browser: Any, report: Path) -> None:
    opened = Opened(browser, report, script=NO_WEBGL)
    assert opened.page.locator("button.open").count() == 0
    assert opened.page.locator(".no-viewer:visible").count() == 2
    opened.page.click("#list thead button >> text=Volume")
    assert len(opened.column(0)) == 2
    assert opened.is_quiet(), (opened.requests, opened.complaints)


def test_page_prints_without_its_controls(browser: Any, report: Path) -> None:
    opened = Opened(browser, report, "dark")
    opened.page.emulate_media(media="print")
    for selector in (".controls", "button.open", "#theme", "#viewer"):
        assert not opened.page.locator(selector).first.is_visible()
    assert opened.page.locator("body").evaluate(CONTRAST) > 10
    assert opened.page.pdf(format="A4").startswith(b"%PDF")
