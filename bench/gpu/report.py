"""What a result says, on a screen: a line a part, and a table of the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

Record = Mapping[str, Any]
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def heading(machine: Record) -> str:
    """Return a machine in a few lines."""
    gpu, ours = machine["gpu"], machine["gpubp"]
    lines = [
        f"{gpu.get('name', 'no GPU')}, driver {gpu.get('driver_version', 'unknown')}; "
        f"gpubp {ours['version']} ({ours['from']})",
        ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        f"missing: {', '.join(machine['missing']) or 'nothing'}; "
        f"lent: {', '.join(machine['lent']) or 'nothing'}",
    ]
    if machine["problem"]:
        lines.append(f"the GPU can't be used: {machine['problem']}")
    return "\n".join(lines)


def line(record: Record) -> str:
    """Return what became of a part."""
    words = [f"{record['status']} in {record['seconds']:.0f} s"]
    if "error" in record:
        words.append(record["error"].strip().splitlines()[-1])
    return ": ".join(words)


def show(content: Record, console: Console) -> None:
    """Print a result."""
    if content["stand_in"]:
        console.print("computed by a stand-in on the CPU: no figure here means anything")
    for name, record in content["parts"].items():
        if record["status"] != "done":
            console.print(f"{name}: {line(record)}", highlight=False)
    races = {
        name: record["result"]
        for name, record in content["parts"].items()
        if "contenders" in record.get("result", {})
    }
    if races:
        console.print(_figures(races))


def _figures(races: Mapping[str, Record]) -> Table:
    table = Table(title="wall time of a step or an epoch, medians", title_justify="left")
    table.add_column("")
    for column in ("gpubp", "95 %", "device", "floor", "target", "best peer", "ratio", "limit"):
        table.add_column(column, justify="right")
    table.add_column("")
    for name, race in races.items():
        seconds = race["contenders"]["gpubp"]["seconds"]
        wall, device = seconds["wall"], seconds.get("device")
        own = [
            name.removeprefix("bench/"),
            _time(wall["median"]),
            f"{_time(wall['low'])} to {_time(wall['high'])}",
            _time(device["median"]) if device else "",
            " to ".join(dict.fromkeys(map(_time, race["floor"]))),
            _time(race["target"]["seconds"]),
        ]
        peers = list(race["peers"].values()) or [None]
        for number, peer in enumerate(peers):
            cells = own if number == 0 else [""] * len(own)
            beside = (
                (peer["best"], f"{peer['ratio']:.2f}", f"{peer['limit']}") if peer else [""] * 3
            )
            verdict = ("met" if race["met"] else "missed") if number == 0 else ""
            table.add_row(*cells, *beside, verdict)
    return table


def _time(seconds: float) -> str:
    scale, unit = next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])
    return f"{seconds / scale:.3g} {unit}"
