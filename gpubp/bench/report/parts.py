"""Pieces of a page that several sections use: sections, tables, cells, and what was checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpubp.bench.report import units
from gpubp.bench.report.markup import Markup, data, join, tag
from gpubp.bench.report.result import Correct, Row, Task
from gpubp.bench.report.standing import Ratio

CHECK, CROSS, NONE = "\N{CHECK MARK}", "\N{BALLOT X}", "\N{EN DASH}"
SIGNS = {"faster": "\N{BLACK DOWN-POINTING TRIANGLE}", "slower": "\N{BLACK UP-POINTING TRIANGLE}"}


@dataclass(frozen=True)
class Section:
    """A part of the page that can be linked to by its name."""

    name: str
    heading: str
    content: Markup

    @property
    def markup(self) -> Markup:
        """The section itself."""
        title = f"{self.name}-heading"
        heading = tag("h2", self.heading, id=title)
        return tag("section", heading, self.content, id=self.name, aria_labelledby=title)

    @property
    def link(self) -> Markup:
        """A link to it."""
        return tag("a", self.heading, href=f"#{self.name}")


def section(name: str, heading: str, *content: Markup | None) -> Section:
    """Return a section of what there is of its content."""
    return Section(name, heading, join(content))


def lead(*words: str) -> Markup:
    """Return a section's first paragraph: what is shown, and how to read it."""
    return tag("p", *words, class_="lead")


def table(
    caption: str | Markup, columns: Sequence[str], *bodies: Markup, kind: str | None = None
) -> Markup:
    """Return a table; it scrolls by itself where a screen is too narrow, and the page does not.

    A column is named after its numbers and, after bars, what stands beside them in small letters.
    """
    heads = (
        tag(
            "th", name[0], *(tag("small", small) for small in name[1:]), scope="col",
            class_="number" if index else None,
        )
        for index, name in enumerate(column.split("|") for column in columns)
    )  # fmt: skip
    made = tag(
        "table", tag("caption", caption), tag("thead", tag("tr", join(heads))), *bodies,
        class_=kind,
    )  # fmt: skip
    return tag("div", made, class_="scroll")


def group(heading: str, columns: int) -> Markup:
    """Return the row that says what the rows below it are of."""
    return tag("tr", tag("th", heading, scope="rowgroup", colspan=columns), class_="group")


def number(main: str | Markup, *beside: str | Markup) -> Markup:
    """Return a cell: a number, and what belongs to it in small letters."""
    small = (part if isinstance(part, Markup) else tag("small", part) for part in beside)
    return tag("td", main, *small, class_="number")


def time_cell(row: Row, *beside: Markup) -> Markup:
    """Return a median with its interval, and what else belongs beside it."""
    ends = row.interval
    words = units.between(*ends, row.median) if ends else ""
    return number(data(row.median, units.seconds(row.median)), _small(words, ends), *beside)


def ratio_cell(ratio: Ratio, *beside: Markup) -> Markup:
    """Return a ratio with its interval, and what else belongs beside it."""
    ends = ratio.interval
    words = f"{units.ratio(ends[0])}{units.DASH}{units.ratio(ends[1])}" if ends else ""
    return number(data(ratio.value, units.ratio(ratio.value)), _small(words, ends), *beside)


def verdict(word: str, words: str | None = None) -> Markup:
    """Return a verdict, or a longer way to say it, with a sign for those who see no colour."""
    sign = f"{SIGNS[word]}{units.SPACE}" if word in SIGNS else ""
    return tag("small", sign + (words or word), class_="verdict", data_verdict=word)


def _small(words: str, ends: tuple[float, float] | None) -> Markup:
    low, high = ends or (None, None)
    return tag("small", words, class_="interval", data_low=low, data_high=high)


def folded(summary: str, *content: Markup, unfolded: bool, printed: bool = True) -> Markup:
    """Return what a reader may want to see, under a line that says what it is.

    It is printed, folded or not, unless it says what can be read elsewhere on the paper.
    """
    return tag(
        "details", tag("summary", summary), *content, open="" if unfolded else None,
        class_=None if printed else "unprinted",
    )  # fmt: skip


def correct_cell(correct: Correct | None) -> Markup:
    """Return whether the figures beside it were computed right, and how far they were off."""
    if correct is None:
        return number(NONE, "unchecked")
    error, tolerance = units.short(correct.error), units.short(correct.tolerance)
    look = "right" if correct.ok else "wrong"
    title = f"{correct.what}: off by {error}, allowed {tolerance}"
    sign = tag("span", CHECK if correct.ok else f"{CROSS} wrong", class_=look)
    return tag("td", sign, tag("small", error), class_="number", title=title)


def checked(rows: Iterable[Row]) -> Markup:
    """Say in a sentence whether what these rows timed was computed right."""
    known = [row for row in rows if not row.floor]
    results = [row.correct for row in known if row.correct is not None]
    wrong = [row.contender for row in known if row.correct is not None and not row.correct.ok]
    if wrong:
        return tag("span", f"{CROSS} Computed wrong by {', '.join(wrong)}.", class_="wrong")
    if not results:
        return tag("span", "None of these was checked against an oracle.", class_="unchecked")
    count = "All" if len(results) == len(known) else f"{len(results)} of {len(known)}"
    errors = [found.error for found in results if found.error is not None]
    worst = f", largest error {units.short(max(errors))}" if errors else ""
    return tag("span", f"{CHECK} {count} computed right{worst}.", class_="checked")


def task_words(task: Task) -> str:
    """Return what is trained, on one line."""
    return f"{task.network}, batch {task.batch_size}, {task.precision}"


def plural(count: int, noun: str) -> str:
    """Return a number of things."""
    return f"{count} {noun}" + "s" * (count != 1)
