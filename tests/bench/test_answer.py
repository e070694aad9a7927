"""The answer that a report begins with, counted by hand from a document of few rows."""

import re

import pytest
import report_documents as documents

from gpubp.bench import report
from gpubp.bench.report import answer, result


def document(times):
    """A document of steps, of gpubp and of a peer, each of 11 samples within 1 % of a time."""
    base = documents.small()
    template = next(row for row in base["rows"] if row["phase"] == "step")
    rows = []
    for batch, pair in times.items():
        for contender, seconds in zip(("gpubp", "torch graph"), pair, strict=False):
            samples = [seconds * (1 + 0.001 * i) for i in range(-5, 6)]
            rows.append(
                template
                | {
                    "batch_size": batch, "contender": contender, "samples": samples,
                    "median": seconds, "interval": [samples[2], samples[8]],
                }
            )  # fmt: skip
    return base | {"rows": rows}


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (
            {16: (1e-3, 2e-3), 32: (1e-3, 1.25e-3), 64: (1e-3, 1e-3), 128: (3e-3, 2e-3)},
            "gpubp takes 0.50 to 1.50 of the best other library’s time: faster in 2 of 4 cases, "
            "even in 1, slower in 1.",
        ),
        ({16: (1e-3, 2e-3)}, "gpubp takes 0.50 of the best other library’s time: faster."),
        (
            {16: (1e-3,), 32: (2e-3,)},
            "A training step of gpubp takes 1.00\u00a0ms to 2.00\u00a0ms here.",
        ),
        ({}, ""),
    ],
)
def test_the_sentence(times, said):
    found = answer.cases(result.read(document(times)))
    assert answer.sentence(found) == said


def test_the_page_begins_with_it():
    html = report.render(document({16: (1e-3, 2e-3), 32: (3e-3, 2e-3)}))
    heading = re.search("<h1>(.*?)</h1>", html)[1]
    assert heading.startswith("gpubp takes 0.50 to 1.50")
    before, after = html.split("<nav", 1)
    assert before.count("<svg") == 1
    assert [re.findall(r'data-verdict="(\w+)"', part)[:2] for part in (before,)] == [
        ["faster", "slower"]
    ]
    assert "Invented Processor" in before
    assert "Verdict" in after


def test_a_case_without_a_peer_is_left_out_where_others_have_one():
    found = answer.cases(result.read(document({16: (1e-3, 2e-3), 32: (1e-3,)})))
    assert [case.standing.task.batch_size for case in found] == [16]


def test_an_epoch_is_said_with_its_rows():
    html = report.render(documents.full())
    table = html[html.index("Time of an epoch") :]
    assert "batch 16, cpu, 960 rows" in table
    for row in (old := documents.full())["rows"]:
        del row["rows"]  # as earlier versions wrote it
    assert "960 rows" not in report.render(old)
