"""The report in a real browser: nothing goes wrong, all is drawn, and the values are the JSON's.

Skipped where there is no Chromium; Debian's package is chromium.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_documents as documents
from browser import PROGRAM, Browser

from gpubp.bench import report

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no Chromium: apt-get install chromium")

FULL = documents.full()

# Of every picture its box, and of every mark in it how far it reaches beyond that box.
_PICTURES = """
[...document.querySelectorAll("svg[role=img]")].map(svg => {
  const box = svg.getBoundingClientRect();
  const marks = [...svg.querySelectorAll(".mark, .dots, .call, text")].map(mark => {
    const own = mark.getBoundingClientRect();
    return {
      empty: own.width === 0 && own.height === 0,
      out: Math.max(box.left - own.left, own.right - box.right, box.top - own.top, 0),
    };
  });
  return {label: svg.ariaLabel, width: box.width, height: box.height, marks};
})
"""

# What the page says beside what the document says, for everything that names a row of it.
_VALUES = """
(() => {
  const rows = JSON.parse(document.getElementById("gpubp-bench").textContent).rows;
  const first = tr => Number(tr.querySelector("data").value);
  const said = [];
  for (const tr of document.querySelectorAll("tr[data-row]"))
    said.push([first(tr), rows[tr.dataset.row].median]);
  for (const td of document.querySelectorAll("td[data-row]"))
    said.push([first(td), rows[td.dataset.row].median]);
  for (const mark of document.querySelectorAll("[data-median]"))
    said.push([Number(mark.dataset.median), rows[mark.dataset.row].median]);
  for (const tr of document.querySelectorAll(".verdicts tr[data-peer]")) {
    const ratio = Number(tr.cells[3].querySelector("data").value);
    said.push([ratio, rows[tr.dataset.row].median / rows[tr.dataset.peer].median]);
  }
  for (const mark of document.querySelectorAll("[data-rate]")) {
    const row = rows[mark.dataset.row];
    said.push([Number(mark.dataset.rate), row.flops / row.median]);
    said.push([Number(mark.dataset.intensity), row.flops / row.bytes]);
  }
  for (const cell of document.querySelectorAll("tr[data-row] > td:nth-child(2) .interval")) {
    const interval = rows[cell.closest("tr").dataset.row].interval;
    said.push([Number(cell.dataset.low), interval[0]], [Number(cell.dataset.high), interval[1]]);
  }
  return said;
})()
"""

_COLOURS = """
["--page", "--ink", "--soft", "--accent", "--good", "--bad", ...Array(10).keys()].map(name =>
  getComputedStyle(document.documentElement)
    .getPropertyValue(typeof name === "number" ? `--c${name}` : name).trim())
"""

_UNFOLD = "document.querySelectorAll('details').forEach(part => part.open = true)"
_WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module", params=["full", "compared", "small"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    document = documents.small() if request.param == "small" else FULL
    report.write(document, path, documents.full(3) if request.param == "compared" else None)
    return path


def channel(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours such as #0b5cad (WCAG 2.2)."""
    light = [
        sum(
            weight * channel(int(colour[at : at + 2], 16) / 255)
            for weight, at in ((0.2126, 1), (0.7152, 3), (0.0722, 5))
        )
        for colour in (one, other)
    ]
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_goes_wrong_and_the_page_does_not_scroll_sideways(
    browser: Browser, page: Path, scheme: str, width: int
) -> None:
    browser.open(page, width, scheme)
    browser.evaluate(_UNFOLD)
    assert browser.evaluate(_WIDTH) <= width
    assert not browser.complaints
    assert browser.requests == [page.as_uri()]


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_every_picture_is_drawn_within_its_frame(
    browser: Browser, page: Path, scripts: bool
) -> None:
    browser.open(page, 360, scripts=scripts)
    browser.evaluate(_UNFOLD)
    pictures = browser.evaluate(_PICTURES)
    assert len(pictures) >= 2
    for picture in pictures:
        assert picture["width"] > 200, picture["label"]
        assert picture["height"] > 15, picture["label"]
        assert picture["marks"], picture["label"]
        for mark in picture["marks"]:
            assert not mark["empty"], picture["label"]
            assert mark["out"] < 6, picture["label"]  # half of a mark, or of a line of text
    assert browser.evaluate("document.getElementById('save').hidden") != scripts


def test_values_equal_those_of_the_document(browser: Browser, page: Path) -> None:
    browser.open(page)
    said = browser.evaluate(_VALUES)
    assert len(said) > 10
    assert all(one == other for one, other in said)


def test_document_in_the_page_is_the_one_that_was_given(browser: Browser, page: Path) -> None:
    browser.open(page)
    text = browser.evaluate("document.getElementById('gpubp-bench').textContent")
    assert json.loads(text) in (FULL, documents.small())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read(browser: Browser, page: Path, scheme: str) -> None:
    browser.open(page, scheme=scheme)
    paper, *colours = browser.evaluate(_COLOURS)
    assert (contrast(paper, "#000000") > 10) == (scheme == "light")
    assert all(contrast(paper, colour) >= 4.5 for colour in colours), colours


def test_paper_is_light_and_holds_what_is_folded(browser: Browser, page: Path) -> None:
    browser.open(page, scheme="dark")
    folded = browser.pdf()
    assert folded.startswith(b"%PDF")
    browser.evaluate(_UNFOLD)
    unfolded = browser.pdf()
    assert folded.count(b"/Type /Page\n") == unfolded.count(b"/Type /Page\n") > 0


def test_result_can_be_saved(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.evaluate("document.getElementById('save').click()")
    saved: Any = tmp_path / "gpubp-bench.json"
    end = time.monotonic() + 20
    while not saved.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert json.loads(saved.read_text("utf-8")) in (FULL, documents.small())
    assert not browser.complaints
