"""The page: its head, its opening, and the sections that the result has something for."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from gpubp.bench.report import (
    answer,
    breakdown,
    comparison,
    contenders,
    environment,
    memory,
    parts,
    phases,
    raw,
    roofline,
    strips,
    sweep,
    units,
    verdict,
)
from gpubp.bench.report.looks import Looks
from gpubp.bench.report.markup import Markup, join, tag
from gpubp.bench.report.result import Result


def page(result: Result, earlier: Result | None) -> str:
    """Return the whole page."""
    style, script = _asset("style.css"), _asset("save.js")
    looks = Looks(result.rows)
    sections = [
        verdict.section(result),
        comparison.section(result, earlier, looks) if earlier else None,
        contenders.section(result, looks),
        strips.section(result, looks),
        sweep.section(result, looks),
        phases.section(result),
        breakdown.section(result),
        roofline.section(result, looks),
        memory.section(result),
        environment.section(result),
        raw.section(result),
    ]
    shown = [section for section in sections if section is not None]
    title = f"gpubp bench: {environment.machine(result.environment)}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )
    body = tag(
        "body",
        _opening(result),
        tag(
            "nav", tag("ul", *(tag("li", section.link) for section in shown)), aria_label="Sections"
        ),
        tag("main", *(section.markup for section in shown)),
        tag("script", script),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _asset(name: str) -> Markup:
    return Markup(files("gpubp.bench.report").joinpath(name).read_text("utf-8"))


def _policy(style: str, script: str) -> str:
    """Return the policy under which a browser fetches nothing and runs nothing but ours."""
    digests = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    )
    allowed = "style-src 'sha256-{}'; script-src 'sha256-{}'".format(*digests)
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _opening(result: Result) -> Markup:
    """Return the top of the page: the answer, where and when, what to do, and a picture."""
    date = str(result.environment.get("date") or "")[:16].replace("T", " ")
    version = result.environment.get("gpubp")
    machine = environment.machine(result.environment)
    facts = [machine, f"gpubp {version}" if version else None, date or None]
    if result.taken is not None:
        facts.append(f"took {units.seconds(result.taken)}")
    if result.quick:
        facts.append("a quick run: fewer rounds, a look rather than a result")
    items = [tag("li", text) for text in result.recommendations]
    found = answer.cases(result)
    return tag(
        "header",
        tag("p", "gpubp bench", class_="brand"),
        tag("h1", answer.sentence(found) or machine),
        tag("p", " · ".join(fact for fact in facts if fact), class_="facts-line"),
        tag("ul", join(items), class_="recommendations") if items else None,
        tag("p", parts.checked(result.rows), class_="all-checked") if result.rows else _nothing(),
        answer.pictures(found, devices=len(result.devices) > 1),
    )


def _nothing() -> Markup:
    return tag("p", "Nothing was timed in this run.", class_="note")
