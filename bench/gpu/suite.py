"""The test-suite on the device: pytest in a process of its own, and what its report says."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as XML

from gpu import process

_MESSAGE = 1500  # characters of a failure
_TAIL = 3000


def run(arguments: list[str], deadline: float) -> dict[str, Any]:
    """Return counts, the failures with their messages, and why tests were skipped.

    Whatever is slow to find out stays known when time is up: pytest is interrupted, and reports.

    Raises:
        ProcessError: pytest did not come as far as a report.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # No cache: the tests of a source tree are read, not written to.
        options = ["-p", "absent", "-p", "no:cacheprovider", "-q", f"--junitxml={report}"]
        command = process.command("-m", "pytest", *options, *arguments)
        # No plugins of others: a warning of theirs would be an error of ours.
        env = process.environment() | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        code, output, in_time = process.run(command, env, deadline)
        if not report.exists():
            raise process.ProcessError(f"pytest ended with {code}:\n{output[-_TAIL:]}")
        found = summarize(report)
    return found | {"arguments": arguments, "exit_code": code, "in_time": in_time}


def summarize(report: Path) -> dict[str, Any]:
    """Return what a JUnit report says."""
    counts: Counter[str] = Counter(passed=0, failed=0, skipped=0)
    skips: Counter[str] = Counter()
    failures = []
    for case in XML.parse(report).getroot().iter("testcase"):
        verdicts = {child.tag: child for child in case}
        bad = [verdicts[tag] for tag in ("failure", "error") if tag in verdicts]
        if bad:
            counts["failed"] += 1
            name = f"{case.get('classname')}::{case.get('name')}"
            failures.append({"test": name, "message": _message(bad[0])})
        elif "skipped" in verdicts:
            counts["skipped"] += 1
            skips[_reason(verdicts["skipped"])] += 1
        else:
            counts["passed"] += 1
    return {**counts, "failures": failures, "skips": dict(skips.most_common())}


def _reason(element: XML.Element) -> str:
    """Return why a test was skipped; of a whole file pytest says it in the text alone."""
    message = element.get("message") or ""
    if message == "collection skipped":
        return re.sub(r".*Skipped: |['\")]+$", "", (element.text or message).strip())
    return message


def _message(element: XML.Element) -> str:
    text = process.plain(element.text or element.get("message") or "")
    return text if len(text) <= _MESSAGE else "…" + text[-_MESSAGE:]
