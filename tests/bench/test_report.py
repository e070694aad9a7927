"""The report without a browser: what it says, what it refuses, and that text stays text."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_documents as documents
from hypothesis import given
from hypothesis import strategies as st

from gpubp.bench import report
from gpubp.bench.report import comparison, result, standing, sweep, units
from gpubp.bench.report.scales import Log
from gpubp.errors import InputError, SaveError

Document = dict[str, Any]
VOID = {"meta", "link", "br", "wbr"}


class Page(HTMLParser):
    """What elements a page consists of; it must close all that it opens."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        name = self._open[-1] if self._open else ""
        self.text[name] = self.text.get(name, "") + data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def script(html: str) -> str:
    """Return what stands in the page's JSON element."""
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)
    assert found
    return found[1]


def embedded(html: str) -> Any:
    return json.loads(script(html))


def strings(value: Any, change: str) -> Any:
    """Return a document with every string changed, but for what selects a branch."""
    if isinstance(value, dict):
        kept = ("format", "phase", "kind", "contender", "unit")
        return {k: v if k in kept else strings(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [strings(inner, change) for inner in value]
    return value + change if isinstance(value, str) else value


def without(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: without(inner, name) for key, inner in value.items() if key != name}
    return [without(inner, name) for inner in value] if isinstance(value, list) else value


FULL = documents.full()


def test_page_is_well_formed_and_holds_the_document() -> None:
    html = report.render(FULL, documents.full(3))
    page = Page(html)
    assert embedded(html) == FULL
    names = [attributes["id"] for attributes in page.all("section")]
    assert names == [
        "verdict", "comparison", "contenders", "samples", "sweep", "phases", "breakdown",
        "roofline", "memory", "environment", "raw",
    ]  # fmt: skip
    for attributes in page.all("a"):
        assert str(attributes["href"]).removeprefix("#") in names


def test_page_asks_for_nothing_from_anywhere() -> None:
    html = report.render(FULL)
    page = Page(html)
    assert not re.search(r"https?:|url\(|@import|@font-face|\ssrc=", html)
    assert not page.all("link")
    assert any("default-src 'none'" in str(meta.get("content")) for meta in page.all("meta"))


def test_every_picture_and_table_says_what_it_is() -> None:
    page = Page(report.render(FULL, FULL))
    for attributes in page.all("svg"):
        assert attributes.get("aria-hidden") == "true" or attributes["aria-label"]
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("scope") for attributes in page.all("th"))


@pytest.mark.parametrize(
    "text",
    ["</script><script>alert(1)</script>", "<!--<script>", "\u2028\u2029", '"><b x="', "&lt;b&gt;"],
)
def test_text_of_a_document_stays_text(text: str) -> None:
    document = strings(FULL, text)
    html = report.render(document, document)
    page = Page(html)
    assert len(page.all("script")) == 2
    assert not page.all("b")
    assert embedded(html) == document
    assert script(html).isascii()


def test_quick_run_without_peers_and_gpu() -> None:
    html = report.render(documents.small())
    text = Page(html).text
    assert "No other library was timed" in html
    assert "one batch size" in html
    assert "none found" in html
    assert "a look rather than a result" in text["p"]
    assert "pip install torch" in text["li"]


def test_who_is_missing_for_one_reason_is_named_together() -> None:
    document = documents.small()
    document["missing"] = [{"contender": name, "why": "no time was left"} for name in ("a", "b")]
    html = report.render(document)
    page, _, raw = html.partition('<script type="application/json"')
    assert page.count("no time was left") == 1
    assert raw.count("no time was left") == 2
    assert "<strong>a; b</strong>" in html


def test_time_that_the_run_took_is_said() -> None:
    html = report.render(FULL | {"budget": {"seconds": 120, "taken": 118.2}})
    assert f"took 118{units.SPACE}s" in html


def test_ratio_of_backward_to_forward_has_an_interval() -> None:
    html = report.render(FULL)
    section = html[html.index('id="phases"') : html.index('id="breakdown"')]
    assert section.count("data-low") == section.count("<tr") - section.count("rowgroup") - 1


def test_empty_run() -> None:
    document = {"format": "gpubp-bench/1"}
    html = report.render(document, document)
    assert "Nothing was timed" in html
    assert "nothing to compare" in html


OPTIONAL = (
    "samples", "interval", "flops", "bytes", "utilisation", "bound", "correct", "parameters",
    "environment", "roofs", "breakdown", "memory", "recommendations", "missing", "load", "cores",
    "processor", "gpus", "versions", "date", "error", "tolerance",
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in OPTIONAL if name != "bytes"])
def test_what_is_optional_may_be_missing(name: str) -> None:
    document = without(FULL, name)
    Page(report.render(document, document))


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_is_optional_may_be_null(name: str) -> None:
    document = copy.deepcopy(FULL)
    for part in (document, document["environment"], *document["rows"]):
        if name in part:
            part[name] = None
    Page(report.render(document, FULL))


@pytest.mark.parametrize(
    "name", ["network", "batch_size", "device", "contender", "phase", "median"]
)
def test_what_is_not_optional_is_named(name: str) -> None:
    document = documents.small()
    del document["rows"][1][name]
    with pytest.raises(InputError, match=rf"rows\[1\].*'{name}' is missing"):
        report.render(document)


@pytest.mark.parametrize("value", [0.0, -1e-6, float("nan"), float("inf"), "soon"])
def test_time_of_a_step_that_is_none(value: object) -> None:
    document = documents.small()
    document["rows"][0]["median"] = value
    with pytest.raises(InputError, match=r"rows\[0\]"):
        report.render(document)


@pytest.mark.parametrize("document", [{}, {"format": "gpubp-bench/2"}, [], None])
def test_other_documents_are_refused(document: Any) -> None:
    with pytest.raises(InputError, match="gpubp bench --json"):
        report.render(document)


def test_phase_lost_in_noise() -> None:
    document = documents.small()
    update = next(row for row in document["rows"] if row["phase"] == "update")
    update |= {"median": 0.0, "samples": [0.0, 0.0, 0.0], "interval": [0.0, 0.0]}
    assert "lost in noise" in report.render(document, document)


def test_what_is_not_finite_is_null_in_the_json() -> None:
    document = documents.small()
    wrong = {"what": "loss", "error": float("inf"), "tolerance": 2e-4, "ok": False}
    for row in document["rows"]:
        row["correct"] = wrong
    html = report.render(document)
    assert embedded(html)["rows"][0]["correct"]["error"] is None
    assert "Computed wrong by gpubp" in html


def test_point_above_its_roof_is_said() -> None:
    assert "wrong units" not in report.render(FULL)
    document = copy.deepcopy(FULL)
    for roof in document["roofs"]:
        roof["value"] /= 100
    assert "wrong units" in report.render(document)


def test_write_writes_the_page_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report.write(FULL, path)
    assert path.read_text("utf-8") == report.render(FULL)
    with pytest.raises(InputError):
        report.write({}, path)
    assert path.read_text("utf-8") == report.render(FULL)
    with pytest.raises(SaveError):
        report.write(FULL, tmp_path / "nowhere" / "report.html")


def standings() -> Iterator[standing.Standing]:
    yield from standing.standings(result.read(FULL), ("step",))


def test_ratio_to_the_floor_is_said() -> None:
    rows = [row("gpubp", "cpu", 8, 3e-6), row("floor, one", "cpu", 8, 2e-6)]
    rows.append(row("floor, other", "cpu", 8, 4e-6))
    html = report.render({"format": "gpubp-bench/1", "rows": rows})
    assert "gpubp takes 1.50 of the floor" in html
    page, _, _ = html.partition('<script type="application/json"')
    assert "floor, one" in page
    assert "floor, other" not in page  # which is none: another is lower


def test_ratio_is_that_of_the_medians_to_the_fastest_peer() -> None:
    for found in standings():
        assert found.ours
        assert found.peer
        peers = [
            row["median"]
            for row in FULL["rows"]
            if (row["network"], row["batch_size"], row["device"], row["phase"])
            == (found.task.network, found.task.batch_size, found.device, "step")
            and not row["contender"].startswith(("gpubp", "floor"))
        ]
        ratio = standing.compare(found.ours, found.peer)
        assert ratio.value == found.ours.median / min(peers)
        assert ratio.interval
        assert ratio.interval[0] <= ratio.value <= ratio.interval[1]


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.7, 0.9), "faster"),
        ((1.1, 1.2), "slower"),
        ((0.95, 1.04), "even"),
        ((0.8, 1.4), "unclear"),
        (None, "one sample"),
    ],
)
def test_verdict_needs_an_interval_on_one_side_of_1(
    interval: tuple[float, float] | None, verdict: str
) -> None:
    assert standing.Ratio(1.0, interval).verdict == verdict


def test_run_compared_with_itself_shows_no_difference() -> None:
    changes = comparison.changes(result.read(FULL), result.read(FULL))
    assert len(changes) == sum(not row["contender"].startswith("floor") for row in FULL["rows"])
    assert {change.verdict for change in changes} == {"no difference"}
    assert all(change.ratio.value == 1 and change.effect == 0 for change in changes)


def test_run_that_takes_twice_as_long_is_slower() -> None:
    earlier = copy.deepcopy(FULL)
    for row in earlier["rows"]:
        row["samples"] = [sample / 2 for sample in row["samples"]]
        row["median"] /= 2
    for change in comparison.changes(result.read(FULL), result.read(earlier)):
        assert change.ratio.value == 2
        assert change.words == "slower, 2 times as long, large effect"
        assert change.effect == 1  # every sample now is longer than every one then


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_too_few_samples_are_said(count: int) -> None:
    """The test's least p is 2 / C(8, 4) = 0.029 for four and four, 0.0079 for five and five."""
    document = copy.deepcopy(FULL)
    for row in document["rows"]:
        row["samples"] = row["samples"][:count]
    changes = comparison.changes(result.read(document), result.read(document))
    assert {change.verdict for change in changes} == {"too few samples"}


def row(contender: str, device: str, batch_size: int, seconds: float) -> Document:
    return {
        "network": "2-2", "batch_size": batch_size, "precision": "fp32", "device": device,
        "contender": contender, "phase": "step", "median": seconds,
    }  # fmt: skip


def test_crossover_of_power_laws() -> None:
    """cpu takes 2 b^1, cuda 64 b^0.5: equal at b = 1024, where straight lines meet exactly."""
    sizes = (16, 256, 4096, 65536)
    rows = [row("gpubp", "cpu", b, 2e-6 * b) for b in sizes]
    rows += [row("gpubp", "cuda", b, 64e-6 * b**0.5) for b in sizes]
    document = {"format": "gpubp-bench/1", "rows": rows}
    read = result.read(document).rows
    (found,) = sweep.crossings([list(read[:4]), list(read[4:])])
    assert found.devices
    assert found.second.device == "cuda"
    np.testing.assert_allclose([found.batch_size, found.seconds], [1024, 2048e-6])
    html = report.render(document)
    assert "From a batch of about 1024 on, cuda is the faster for gpubp." in html


def test_peers_on_other_devices_do_not_cross() -> None:
    rows = [row("gpubp", "cpu", b, 2e-6 * b) for b in (16, 4096)]
    rows += [row("torch eager", "cuda", b, 64e-6 * b**0.5) for b in (16, 4096)]
    read = result.read({"format": "gpubp-bench/1", "rows": rows}).rows
    assert not list(sweep.crossings([list(read[:2]), list(read[2:])]))


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (43.14e-6, "s", "43.1 µs"), (0.9996e-3, "s", "1.00 ms"), (1e-10, "s", "0.100 ns"),
        (5000.0, "s", "5,000 s"), (0.0, "s", "0 s"), (1.2249e12, "FLOP/s", "1.22 TFLOP/s"),
        (999.6, "B", "1.00 kB"), (814120, "B", "814 kB"),
    ],
)  # fmt: skip
def test_quantities(value: float, unit: str, words: str) -> None:
    assert units.quantity(value, unit) == words.replace(" ", units.SPACE)


def test_interval_is_in_the_unit_of_its_middle() -> None:
    assert units.between(0.9e-6, 1.2e-3, 1e-3) == "0.00–1.20"
    assert units.between(41.94e-6, 44.0e-6, 43.1e-6) == "41.9–44.0"


@given(
    st.floats(1e-12, 1e15), st.floats(1.0, 1e9), st.integers(3, 8)
)  # fmt: skip
def test_ticks_are_few_round_and_on_the_axis(low: float, factor: float, most: int) -> None:
    axis = Log.around([low, low * factor], 0, 300)
    ticks = axis.ticks(most)
    assert len(ticks) <= most
    assert ticks == sorted(set(ticks))
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert 0 <= axis(low) <= axis(low * factor) <= 300
    assert all(float(f"{tick:.3g}") == tick for tick in ticks)
    assert ticks
