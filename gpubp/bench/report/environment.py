"""What the figures depend on: processor, GPUs, versions, load, and who could not take part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpubp.bench.report import parts
from gpubp.bench.report.markup import Markup, join, tag
from gpubp.bench.report.result import Record, Result

_FIRST = ("processor", "cores", "memory_gb", "gpus", "os", "load")
_BEYOND = ("date",)  # said at the top of the page
_NAMES = {
    "os": "system", "load": "load before, after", "memory_gb": "memory, GB", "blas": "BLAS",
    "gpus": "GPUs",
}  # fmt: skip
_BUSY = 0.5  # of the cores wanted by others when the run began


def section(result: Result) -> parts.Section:
    """Return the section."""
    gpus = result.environment.get("gpus") or []
    known = {
        key: value
        for key, value in {**result.environment, "gpus": gpus}.items()
        if key == "gpus" or (value not in (None, "", [], {}) and key not in _BEYOND)
    }
    versions = known.pop("versions", {})
    order = [key for key in _FIRST if key in known] + [key for key in known if key not in _FIRST]
    items = [_item(_NAMES.get(key, key), _words(key, known[key])) for key in order]
    items += [_item(name, str(v)) for name, v in versions.items() if v and name not in known]
    return parts.section(
        "environment", "Environment", _busy(result.environment),
        tag("dl", join(items), class_="facts"), _missing(result),
    )  # fmt: skip


def machine(environment: Record) -> str:
    """Return the machine in a few words, for the top of the page."""
    processor = environment.get("processor") or environment.get("cpu") or "an unnamed processor"
    cores = environment.get("cores")
    gpus = [_gpu(gpu) for gpu in environment.get("gpus") or ()]
    counted = [f"{processor}, {parts.plural(cores, 'core')}" if cores else str(processor)]
    return " and ".join(counted + gpus)


def _item(name: str, words: str) -> Markup:
    return tag("div", tag("dt", name), tag("dd", words))


def _words(key: str, value: Any) -> str:
    if key == "gpus":
        return "; ".join(map(_gpu, value)) or "none found"
    if key == "load":
        return ", ".join(f"{_first(load):.2f}" for load in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)


def _gpu(gpu: Any) -> str:
    if isinstance(gpu, Mapping):
        return ", ".join(str(value) for value in gpu.values() if value)
    return str(gpu)


def _first(load: Any) -> float:
    """Return the load of the last minute, of one or of all three averages."""
    return float(load[0] if isinstance(load, Sequence) else load)


def _busy(environment: Record) -> Markup | None:
    load, cores = environment.get("load"), environment.get("cores")
    if not load or not cores or _first(load[0]) < _BUSY * cores:
        return None
    words = (
        f"Other programs were at work: the load was {_first(load[0]):.2f} on "
        f"{parts.plural(cores, 'core')} when the run began. Trust the ratios more than the times."
    )
    return tag("p", words, class_="note")


def _missing(result: Result) -> Markup | None:
    if not result.missing:
        return None
    reasons: dict[str, list[str]] = {}
    for name, why in result.missing:
        reasons.setdefault(why, []).append(name)
    items = (
        tag("li", tag("strong", "; ".join(names)), f": {why}") for why, names in reasons.items()
    )
    return join((tag("h3", "Not in this run"), tag("ul", join(items))))
