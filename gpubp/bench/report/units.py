"""Numbers in words for people: three digits, an SI prefix, the unit after a no-break space."""

from __future__ import annotations

import math

SPACE = "\N{NO-BREAK SPACE}"
DASH = "\N{EN DASH}"
_PREFIXES = (
    (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"),
    (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"),
)  # fmt: skip


def quantity(value: float, unit: str) -> str:
    """Return such as ``43.1 µs`` or ``1.22 TFLOP/s``."""
    scale, prefix = _prefix(value, unit)
    return f"{_digits(value / scale)}{SPACE}{prefix}{unit}"


def tick(value: float, unit: str) -> str:
    """Return a round number for an axis: no more digits than it has."""
    scale, prefix = _prefix(value, unit)
    return f"{value / scale:.3g}{SPACE}{prefix}{unit}"


def seconds(value: float) -> str:
    """Return a time."""
    return quantity(value, "s")


def size(value: float) -> str:
    """Return a number of bytes, in decimal units."""
    return quantity(value, "B")


def between(low: float, high: float, middle: float, unit: str = "s") -> str:
    """Return an interval, in the unit that :func:`quantity` gives to its middle."""
    scale, _ = _prefix(middle, unit)
    decimals = _decimals(middle / scale)
    return f"{low / scale:.{decimals}f}{DASH}{high / scale:.{decimals}f}"


def ratio(value: float) -> str:
    """Return a ratio with two decimals, or with two digits if it is small."""
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def percent(value: float) -> str:
    """Return a share of 1 in percent, with a decimal where it is small."""
    return f"{100 * value:.{0 if value >= 0.0995 or value == 0 else 1}f}{SPACE}%"


def short(value: float | None) -> str:
    """Return an error, a tolerance or a probability with two digits."""
    if value is None or not math.isfinite(value):
        return "not finite"
    digits, _, exponent = f"{value:.2g}".partition("e")
    return f"{digits}e{int(exponent)}" if exponent else digits


def _prefix(value: float, unit: str) -> tuple[float, str]:
    if not math.isfinite(value) or value == 0:
        return 1.0, ""
    rounded = float(f"{abs(value):.3g}")
    prefixes = _PREFIXES if unit != "s" else _PREFIXES[5:]
    return next((pair for pair in prefixes if rounded >= pair[0]), prefixes[-1])


def _digits(value: float) -> str:
    return f"{value:,.{_decimals(value)}f}" if math.isfinite(value) else str(value)


def _decimals(value: float) -> int:
    if value == 0 or not math.isfinite(value):
        return 0
    return max(0, 2 - math.floor(math.log10(float(f"{abs(value):.3g}"))))
