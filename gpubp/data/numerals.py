"""How numbers are written in a table: a grammar, and what people write around numbers.

A numeral is ``[+-]digits[.digits][e[+-]digits]`` of ASCII digits, and finite as a float64. Python's
``float`` takes more: ``1_000``, full-width digits, ``inf``. Whole numbers that lose digits as a
float64, or begin with a 0 that would be lost, are no quantities but names, such as 02134.

What a file writes around its numbers is decided for the file (thousands separators, decimal commas)
or where it stands for a unit for the column (a currency, a percent sign). A column is read so only
if every value of it can be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.errors import InputError

Column = NDArray[Any]  # of texts, StringDType, empty where a value is missing

_NUMERAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_ONE = re.compile(_NUMERAL)
_CHARACTERS = frozenset("0123456789+-.eE\n")
_DIGITS = 16  # from which on a whole number may be beyond 2^53
_LEADING_ZERO = re.compile(r"(?:^|\n)[+-]?0[0-9]+(?:\n|$)")
_SPACES = "[ \u00a0\u202f\u2009]"
_POINTS, _COMMAS, _BLANKS = (
    rf"[+-]?[0-9]{{1,3}}(?:{part}[0-9]{{3}})+" for part in (r"\.", ",", _SPACES)
)
_WITH_COMMA = re.compile(
    rf"(?:[+-]?[0-9]+|{_POINTS}|{_BLANKS})(?:,[0-9]+)?(?:[eE][+-]?[0-9]+)?|[+-]?,[0-9]+"
)
_WITH_POINT = re.compile(rf"(?:{_COMMAS}|{_BLANKS})(?:\.[0-9]+)?|{_NUMERAL}")
_GROUPED = re.compile(rf"(?:{_COMMAS}|{_BLANKS})(?:\.[0-9]+)?")
_SEPARATOR = re.compile(rf"[0-9],|,[0-9]|[0-9]{_SPACES}[0-9]")
_CURRENCIES = "$€£¥₹₽₩"


def plain(
    columns: Mapping[str, Column],
    numeric: Collection[str],
    *,
    semicolons: bool,
    place: Callable[[int], str],
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Return the numbers of columns that are not written plainly, and what was done.

    Args:
        columns: of a file.
        numeric: those of them that are of plain numbers.
        semicolons: whether these part its fields, so that a comma within one is a decimal comma.
        place: how a message names a row.

    Raises:
        InputError: some columns have decimal commas and others points that are no thousands
            separators, so that one of them would be read wrong.
    """
    bare: dict[str, list[str]] = {}
    units: dict[str, str] = {}
    for name, column in columns.items():
        if name not in numeric:
            bare[name], unit = _without_unit(column.tolist())
            if unit:
                units[name] = unit
    parted = {n: t for n, t in bare.items() if _SEPARATOR.search("\n".join(t))}
    witness = next((n for n, t in parted.items() if _has_decimal_commas(t, semicolons)), "")
    if witness:
        pointed = _without_commas(
            {n: bare.get(n) or c.tolist() for n, c in columns.items()}, witness, place
        )
    else:
        pointed = _without_groups(parted)
    found = {}
    for name, texts in {**{n: bare[n] for n in units}, **pointed}.items():
        values = quantities(texts)
        if values is not None:
            found[name] = values
    notes = []
    commas = [name for name in pointed if name in found]
    if commas:
        kind = "decimal commas" if witness else "thousands separators"
        notes.append(f"{kind} were read in {', '.join(commas)}")
    for name, unit in units.items():
        if name in found:
            notes.append(f"{name}: each value is written with {unit}, which was left out")
    return found, notes


def quantities(texts: Sequence[str]) -> NDArray[np.float64] | None:
    """Return texts as numbers, NaN where empty; None if one is no number, or a name of digits.

    What ``float`` takes and is made of these characters alone is what the grammar says.
    """
    joined = "\n".join(texts)
    if not set(joined) <= _CHARACTERS or _is_name(joined, texts):
        return None
    try:
        values = np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return None
    return None if np.isinf(values).any() else values


def is_numeral(text: str) -> bool:
    """Return whether a text is a number by the grammar, and finite."""
    return _ONE.fullmatch(text) is not None and np.isfinite(float(text))


def parse(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return texts as numbers; NaN where one is none."""
    values = {text: float(text) if _ONE.fullmatch(text) else np.nan for text in set(texts)}
    return np.array([values[text] for text in texts], np.float64)


def are_names(texts: Sequence[str]) -> bool:
    """Return whether some of what is only digits would lose them: leading zeros or the last."""
    return _is_name("\n".join(texts), texts)


def _is_name(joined: str, texts: Sequence[str]) -> bool:
    if ("\n0" in joined or joined[:1] in ("0", "+", "-")) and _LEADING_ZERO.search(joined):
        return True
    if len(max(texts, key=len, default="")) < _DIGITS:
        return False
    long = [t for t in texts if len(t) >= _DIGITS and re.fullmatch("[+-]?[0-9]+", t)]
    return any(abs(int(text)) > 2**53 for text in long)


def _without_unit(texts: list[str]) -> tuple[list[str], str]:
    """Return texts without the currency or percent sign that each of them has, and the sign."""
    first = next((text for text in texts if text), "")
    for sign in (*_CURRENCIES, "%"):
        if sign not in first:
            continue
        form = re.compile(rf"(?:[+-]?\{sign} ?[0-9.,].*|[+-]?[0-9.,].*? ?\{sign})")
        if all(text.count(sign) == 1 and form.fullmatch(text) for text in texts if text):
            return [text.replace(sign, "").strip() for text in texts], sign
    return texts, ""


def _without_groups(columns: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the columns of numbers whose thousands are parted, without that."""
    return {
        name: [re.sub(rf"{_SPACES}|,", "", text) for text in texts]
        for name, texts in columns.items()
        if _all_match(texts, _WITH_POINT) and any(_GROUPED.fullmatch(text) for text in texts)
    }


def _without_commas(
    columns: Mapping[str, list[str]], witness: str, place: Callable[[int], str]
) -> dict[str, list[str]]:
    """Return the columns of numbers of a file of decimal commas, with points for these alone."""
    found = {}
    for name, texts in columns.items():
        if _all_match(texts, _WITH_COMMA):
            if any("," in text or "." in text or " " in text for text in texts):
                found[name] = [
                    re.sub(rf"{_SPACES}|\.", "", text).replace(",", ".") for text in texts
                ]
        elif _all_match(texts, _WITH_POINT):
            row = next(i for i, t in enumerate(texts) if t and not _WITH_COMMA.fullmatch(t))
            raise InputError(
                f"column {witness!r} has decimal commas, but column {name!r} has {texts[row]!r} at "
                f"{place(row)}, a number with a decimal point; write all of a file in one way"
            )
    return found


def _has_decimal_commas(cells: list[str], semicolons: bool) -> bool:
    """Return whether a column's numbers have commas that are not thousands separators."""
    if not _all_match(cells, _WITH_COMMA) or not any("," in text for text in cells):
        return False
    return semicolons or not _all_match(cells, _WITH_POINT)


def _all_match(texts: list[str], form: re.Pattern[str]) -> bool:
    return all(form.fullmatch(text) for text in texts if text) and any(texts)
