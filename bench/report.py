"""Tables of a result: medians, their spread, and ratios to the best peer and to the floor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

Benchmark = Mapping[str, Any]
_PHASES = ("forward", "backward", "update", "step")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print the tables of a JSON document that pytest-benchmark wrote for this suite."""
    console.print(_heading(result["machine_info"], result["run"]), highlight=False)
    summaries = {row["group"]: row for row in result["summary"]}
    groups: dict[str, list[Benchmark]] = {}
    for benchmark in result["benchmarks"]:
        groups.setdefault(benchmark["group"], []).append(benchmark)
    kernels = {name: groups.pop(name) for name in list(groups) if name.startswith("kernel ")}
    family = {name: groups.pop(name) for name in list(groups) if _is_phase(groups[name])}
    for name, group in groups.items():
        if "memory" in group[0]["extra_info"]:
            console.print(_memory_table(name, group))
            console.print()
        else:
            console.print(_time_table(name, group, summaries[name]))
            console.print(_verdict(summaries[name]) + "\n", highlight=False)
    if family:
        console.print(_phase_table(family))
    if kernels:
        console.print(_kernel_table(kernels, summaries))


def _is_phase(group: list[Benchmark]) -> bool:
    return bool(group[0]["extra_info"].get("suite") == "phases")


def _phase_table(family: Mapping[str, list[Benchmark]]) -> Table:
    """Return a line for each network and backend: medians, and what part of its roof a step is at.

    A group's name is that of a phase and then of a network.
    """
    table = Table(title="phases of a step", title_justify="left")
    for column in ("network", "backend", *_PHASES, "backward / forward", "of its roof"):
        table.add_column(column, justify="left" if column in ("network", "backend") else "right")
    lines: dict[tuple[str, str], dict[str, Benchmark]] = {}
    for name, group in family.items():
        phase, _, network = name.partition(" ")
        for benchmark in group:
            key = network, benchmark["extra_info"]["contender"]
            lines.setdefault(key, {})[phase] = benchmark
    for (network, backend), found in lines.items():
        medians = {phase: benchmark["stats"]["median"] for phase, benchmark in found.items()}
        ratio = medians.get("backward", 0) / medians["forward"] if medians.get("forward") else 0
        step = found.get("step", {}).get("extra_info", {})
        table.add_row(
            network, backend, *(_time(medians[p]) if p in medians else "" for p in _PHASES),
            f"{ratio:.2f}" if ratio else "",
            f"{step['utilisation']:.0%} {step['bound']}" if step.get("utilisation") else "",
        )  # fmt: skip
    return table


def _heading(machine: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    versions = machine["versions"]
    there = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = ", ".join(name for name, version in versions.items() if not version)
    start, end = (run["load"][moment][0] for moment in ("start", "end"))
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}",
        there,
        f"missing: {missing}" if missing else "no peer is missing",
        f"load of the machine: {start} before, {end} after" + ("; quick" * run["quick"]),
    ]
    if run.get("seconds"):
        taken = ", ".join(f"{suite} {s / 60:.1f}" for suite, s in run["seconds"].items())
        lines.append(f"minutes: {taken}; {sum(run['seconds'].values()) / 60:.1f} in all")
    return "\n".join(lines) + "\n"


def _time_table(name: str, group: list[Benchmark], row: Mapping[str, Any]) -> Table:
    table = Table(title=name, title_justify="left")
    table.add_column("contender")
    for column in ("median", "spread", "to best peer", "to floor"):
        table.add_column(column, justify="right")
    medians = {b["extra_info"]["contender"]: b["stats"]["median"] for b in group}
    for benchmark in sorted(group, key=lambda b: b["stats"]["median"]):
        contender, stats = benchmark["extra_info"]["contender"], benchmark["stats"]
        ratios = [
            f"{stats['median'] / medians[row[other]]:.2f}" if other in row else ""
            for other in ("peer", "floor")
        ]
        spread = f"{stats['iqr'] / stats['median']:.0%}" if stats["rounds"] > 1 else ""
        style = "bold" if contender == row.get("ours") else ""
        table.add_row(contender, _time(stats["median"]), spread, *ratios, style=style)
    return table


def _verdict(row: Mapping[str, Any]) -> str:
    """Say how gpubp compares, with intervals, and what was aimed at."""
    parts = []
    for key in ("peer", "floor"):
        if f"to_{key}" in row:
            ratio = row[f"to_{key}"]
            interval = f" ({ratio['low']:.2f} to {ratio['high']:.2f})" if "low" in ratio else ""
            parts.append(f"gpubp takes {ratio['ratio']:.2f}{interval} of {row[key]}")
    if row.get("target") is not None:
        parts.append(f"aim: at most {row['target']} of the best peer")
    if row.get("limit_seconds") is not None:
        parts.append(f"aim: under {row['limit_seconds']} s")
    return "; ".join(parts)


def _kernel_table(
    kernels: Mapping[str, list[Benchmark]], summaries: Mapping[str, Mapping[str, Any]]
) -> Table:
    table = Table(title="kernels, one call, on a CPU on one thread", title_justify="left")
    for column in ("kernel", "cupy", "numba", "numpy", "fastest to numpy"):
        table.add_column(column, justify="left" if column == "kernel" else "right")
    for name, group in kernels.items():
        times = {b["extra_info"]["contender"]: _time(b["stats"]["median"]) for b in group}
        row = summaries[name]
        ratio = f"{row['to_peer']['ratio']:.2f}" if "to_peer" in row else ""
        cells = (times.get(backend, "") for backend in ("cupy", "numba", "numpy"))
        table.add_row(name.removeprefix("kernel "), *cells, ratio)
    return table


def _memory_table(name: str, group: list[Benchmark]) -> Table:
    aim = group[0]["extra_info"]["limit_gb"]
    table = Table(title=f"{name}; aim: X and rest under {aim} GB", title_justify="left")
    table.add_column("GB")
    for column in ("peak", "before X", "X", "labels", "plan", "rest", "X and rest"):
        table.add_column(column, justify="right")
    for benchmark in group:
        gb = {key: value / 1e9 for key, value in benchmark["extra_info"]["memory"].items()}
        rest = gb["peak"] - gb["before"] - gb["x"] - gb["labels"]
        cells = (gb["peak"], gb["before"], gb["x"], gb["labels"], gb["plan"], rest, gb["x"] + rest)
        table.add_row(benchmark["extra_info"]["contender"], *(f"{cell:.3f}" for cell in cells))
    return table


def _time(seconds: float) -> str:
    scale, unit = next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])
    return f"{seconds / scale:.4g} {unit}"
