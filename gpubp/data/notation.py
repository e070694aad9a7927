"""How a file writes its numbers: with decimal commas, with thousands parted, with units.

Decimal commas and points are decided for the file, because 1.234 beside 345,5 is 1234. Numbers such
as 345,5 or 1.5 decide; where there is none, commas in a file of semicolons are decimal commas, and
else they part thousands. A currency or a percent sign counts for a column if every value has it. A
column is read so if at least ``MOSTLY`` of its values are numbers then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubp.data import numerals
from gpubp.data.cells import Cells, Numbers, Texts
from gpubp.errors import InputError

_SOME = 1000  # texts that tell whether a column has numbers at all
MOSTLY = 0.95  # the part of a column's values that are numbers, from which on it is one of numbers
POINT, COMMA = "point", "comma"
DECIMALS = (POINT, COMMA)

_BLANK = "[ \u00a0\u202f\u2009'\u2019]"  # what parts thousands beside a comma or a point
_SIGN, _POWER, _HEAD = "[+-]?", "(?:[eE][+-]?[0-9]+)?", "[1-9][0-9]{0,2}"
_BLANKS = rf"{_HEAD}(?:{_BLANK}[0-9]{{3}})+"
_FORMS = {
    POINT: re.compile(
        rf"{numerals.NUMERAL}|{_SIGN}(?:{_HEAD}(?:,[0-9]{{3}})+|{_BLANKS})(?:\.[0-9]*)?"
    ),
    COMMA: re.compile(
        rf"{_SIGN}(?:(?:[0-9]+|{_HEAD}(?:\.[0-9]{{3}})+|{_BLANKS})(?:,[0-9]*)?|,[0-9]+){_POWER}"
    ),
}
_PART = {POINT: re.compile(rf"{_BLANK}|,"), COMMA: re.compile(rf"{_BLANK}|\.")}
_SYMBOLS = "$€£¥₹₽₩₺₫฿%"
_CODES = "USD|EUR|GBP|CHF|JPY|CNY|INR|RUB|KRW|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR"
_ANY = f"[{_SYMBOLS}]|{_CODES}"
_UNIT = re.compile(
    rf"(?P<sign>[+-]?) ?(?:(?P<before>{_ANY}){_BLANK}?(?P<a>[+-]?[0-9.,].*)"
    rf"|(?P<b>[0-9.,].*?){_BLANK}?(?P<after>{_ANY}))"
)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column whose texts are not all plain numbers, and may be numbers written otherwise."""

    texts: Texts
    counts: NDArray[np.intp]  # of each level's rows; 0 of one that is missing
    bare: list[str]  # the levels without their unit
    unit: str
    fits: dict[str, NDArray[np.bool_]]  # which levels are numbers with points, and with commas

    def share(self, decimal: str) -> float:
        """Return the part of the values that are numbers."""
        return float(self.counts[self.fits[decimal]].sum() / max(1, self.counts.sum()))

    def commas(self) -> bool:
        """Return whether there are numbers with commas, decimal or of thousands."""
        return self.share(COMMA) >= MOSTLY and any("," in text for text in self.bare)

    def parted(self, decimal: str) -> bool:
        """Return whether there are numbers that the plain grammar reads otherwise or not at all."""
        return any(
            _PART[decimal].search(text) or "," in text
            for text, fits, count in zip(self.bare, self.fits[decimal], self.counts, strict=True)
            if fits and count
        )

    @property
    def mixed(self) -> bool:
        """Whether it is of numbers only if some have decimal points and others decimal commas."""
        either = self.fits[POINT] | self.fits[COMMA]
        return (
            max(map(self.share, DECIMALS)) < MOSTLY
            and float(self.counts[either].sum()) >= MOSTLY * self.counts.sum()
        )

    def tells(self, decimal: str) -> NDArray[np.bool_]:
        """Return the levels that are numbers with such decimals and not with the other."""
        other = COMMA if decimal == POINT else POINT
        return self.fits[decimal] & ~self.fits[other] & (self.counts > 0)


def read(
    columns: Mapping[str, Cells],
    *,
    origin: str,
    place: Callable[[int], str],
    semicolons: bool = False,
    decimal: str | None = None,
    usual: str | None = None,
) -> tuple[dict[str, Cells], str | None, list[str]]:
    """Return the columns with the numbers as they are written, how that is, and what was done.

    Args:
        columns: of a file.
        origin: the file, as messages name it.
        place: how messages name a row.
        semicolons: whether these part the fields.
        decimal: :data:`POINT` or :data:`COMMA`; None finds it out.
        usual: which of them it is where the file does not tell.

    Raises:
        InputError: some numbers of the file have decimal commas and others decimal points.
    """
    looked = {
        name: found
        for name, column in columns.items()
        if column.numbers.other.any() and (found := _look(column)) is not None
    }
    plain = [name for name, c in columns.items() if c.pointed and not c.numbers.other.any()]
    if COMMA in (decimal, usual) or any(found.commas() for found in looked.values()):
        looked |= {name: found for name in plain if (found := _look(columns[name])) is not None}
    told = decimal or _decide(looked, origin, place, semicolons, usual)
    told = told or (POINT if plain else None)
    result, changed, notes = dict(columns), [], []
    for name, found in looked.items():
        numbers = _numbers(columns[name], found, told or POINT)
        if found.share(told or POINT) < MOSTLY:
            both = [d for d in DECIMALS if found.tells(d).any() and (d != told or found.mixed)]
            said = " and ".join(f"decimal {d}s, {_example(found, d, place)}" for d in both)
            notes.append(f"warning: {name} is taken for texts: it has {said}")
        if numbers is None:
            continue
        result[name] = columns[name].read_as(numbers)
        if found.parted(told or POINT):
            changed.append(name)
        if found.unit:
            notes.append(f"{name}: numbers with {found.unit}, read without it")
    if changed:
        kind = "decimal commas" if told == COMMA else "separators of thousands"
        notes.insert(0, f"{kind} were read in {', '.join(changed)}")
    return result, told, notes


def _look(column: Cells) -> _Column | None:
    """Return what there is to say of a column's texts; None if most are no numbers in any way."""
    texts = column.texts
    levels = list(texts.levels)
    forms = (_UNIT, *_FORMS.values())
    if not any(form.fullmatch(text) for text in levels[:_SOME] for form in forms):
        return None
    counts = np.bincount(texts.codes, minlength=len(levels))
    counts[[not level for level in levels]] = 0
    bare, unit = _without_unit(levels, counts)
    fits = {
        decimal: np.array([form.fullmatch(text) is not None for text in bare], np.bool_)
        for decimal, form in _FORMS.items()
    }
    found = _Column(texts, counts, bare, unit, fits)
    return found if found.mixed or max(map(found.share, DECIMALS)) >= MOSTLY else None


def _without_unit(levels: list[str], counts: NDArray[np.intp]) -> tuple[list[str], str]:
    """Return texts without the currency or percent sign that nearly all of them have, and that."""
    matches = [_UNIT.fullmatch(level) for level in levels]
    units = [match and (match["before"] or match["after"]) for match in matches]
    weights: dict[str, int] = {}
    for unit, count in zip(units, counts.tolist(), strict=True):
        if unit:
            weights[unit] = weights.get(unit, 0) + count
    unit = max(weights, key=weights.__getitem__, default="")
    if not unit or weights[unit] < MOSTLY * counts.sum():
        return levels, ""
    # A value without the unit is not known to be in it.
    bare = [
        match["sign"] + (match["a"] or match["b"]) if match and own == unit else f"no {unit}"
        for match, own in zip(matches, units, strict=True)
    ]
    return bare, unit


def _decide(
    looked: Mapping[str, _Column],
    origin: str,
    place: Callable[[int], str],
    semicolons: bool,
    usual: str | None,
) -> str | None:
    """Return whether a file's numbers have decimal points or commas; None if nothing tells."""
    tellers = {
        decimal: {
            name: found
            for name, found in looked.items()
            if found.share(decimal) >= MOSTLY and found.tells(decimal).any()
        }
        for decimal in DECIMALS
    }
    counts = {
        decimal: sum(int(found.counts[found.tells(decimal)].sum()) for found in by.values())
        for decimal, by in tellers.items()
    }
    if min(counts.values()) > (1 - MOSTLY) * sum(counts.values()):
        (a, by_comma), (b, by_point) = (next(iter(tellers[d].items())) for d in (COMMA, POINT))
        raise InputError(
            f"{origin}: column {a!r} has {_example(by_comma, COMMA, place)}, a decimal comma, but "
            f"column {b!r} has {_example(by_point, POINT, place)}, a decimal point; write all of a "
            "file in one way, or say which of them are numbers with --decimal"
        )
    if any(counts.values()):
        return max(counts, key=counts.__getitem__)
    if any(found.commas() for found in looked.values()):  # 1,234: which nothing tells
        return usual or (COMMA if semicolons else POINT)
    return usual


def _example(found: _Column, decimal: str, place: Callable[[int], str]) -> str:
    """Return the first value that tells decimals, and where it is."""
    row = int(found.tells(decimal)[found.texts.codes].argmax())
    return f"{found.texts.levels[found.texts.codes[row]]!r} at {place(row)}"


def _numbers(column: Cells, found: _Column, decimal: str) -> Numbers | None:
    """Return a column's numbers; None if they are those of the plain grammar.

    They are, too, if fewer than most can be read otherwise; but no number with a decimal point is
    one where points part thousands.
    """
    fits = np.flatnonzero(found.fits[decimal]).tolist()
    misread = decimal == COMMA and column.pointed
    if not misread and found.share(decimal) < MOSTLY:
        return None
    if not (misread or found.unit or found.parted(decimal)):
        return None
    if any(numerals.is_name(found.bare[code]) for code in fits):
        return None
    of_level = np.full(len(found.bare), np.nan)
    for code in fits:
        text = _PART[decimal].sub("", found.bare[code]).replace(",", ".")
        value = numerals.number(text)
        of_level[code] = np.nan if value is None else value
    values = of_level[found.texts.codes]
    other = np.isnan(values) & (found.counts > 0)[found.texts.codes]
    return Numbers(values, other, np.zeros(0, np.intp), found.unit)
