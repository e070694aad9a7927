"""``gpubp bench``: what training costs on the devices that are here, and beside other libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from gpubp import devices, files, room
from gpubp.bench import limits, report, run, screen
from gpubp.bench.cases import parse_network
from gpubp.bench.contenders import PEERS
from gpubp.bench.report import result
from gpubp.cli.params import Names, Number
from gpubp.errors import DeviceMemoryError, InputError

_NETWORKS = ("32-64-64-2", "784-256-128-10")
_QUICK_NETWORKS = ("784-256-10",)
_BATCHES = (32, 128, 512)
_GPU_BATCHES = (*_BATCHES, 2048, 8192)
_WIDTH = 120  # of tables where there is no terminal

_FILE = click.Path(path_type=Path, dir_okay=False)


class Sizes(click.ParamType[tuple[int, ...]]):
    """Sizes of the minibatch, such as ``64,256,1024``."""

    name = "sizes"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Return them in ascending order."""
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if not all(len(part) < 10 and part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is not a list of sizes; write them as 64,256,1024", param, ctx)
        return tuple(sorted(set(map(int, parts))))


@click.command()
@click.option("--quick", is_flag=True, help="A look in some 15 seconds, not a result.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="SIZES",
    help="Features, hidden units and classes, such as 784-256-10, or 784-256-10:tanh (relu, tanh, "
    "sigmoid); again for further ones.",
)
@click.option("--batch-size", "batches", type=Sizes(), help="Rows of the minibatch: 64,256,1024.")
@click.option(
    "--precision",
    "precisions",
    type=Names("precision", devices.PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of fp32, fp64, tf32 and bf16, on the devices that have it.",
)
@click.option("--devices", "places", help="Such as cpu,cuda; otherwise all that are here.")
@click.option(
    "--against",
    type=Names("library", (*PEERS, "none")),
    metavar="LIBRARIES",
    help="Of torch, jax and sklearn, at every batch size, or none; otherwise those that are "
    "installed, at the middle one.",
)
@click.option(
    "--budget",
    type=Number(min=0, min_open=True),
    metavar="SECONDS",
    help="How long it may take; more time is more rounds, and narrower intervals.  "
    f"[default: {run.BUDGET:.0f}, or {run.QUICK_BUDGET:.0f} with --quick]",
)
@click.option("--json", "json_file", type=_FILE, help="Write the result to this file.")
@click.option("--html", "html_file", type=_FILE, help="Write a report to this file.")
@click.option(
    "--compare", "earlier", type=_FILE, help="Compare with this earlier result, JSON or a report."
)
@click.option(
    "--show", "shown", type=_FILE, help="Show this result, JSON or a report, and run nothing."
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    json_file: Path | None,
    html_file: Path | None,
    earlier: Path | None,
    shown: Path | None,
    **given: Any,
) -> None:  # fmt: skip
    """Time training on the devices that are here, and beside other libraries.

    Everybody takes turns, so that what disturbs the machine disturbs all alike;
    leave it alone meanwhile. What is computed is checked beside each time, and each
    time is related to what the device can do, which is measured in the same run.

    \b
    Examples:
      gpubp bench
      gpubp bench --quick
      gpubp bench --network 784-256-10 --batch-size 64,256,1024
      gpubp bench --against torch,jax --json now.json --html report.html
      gpubp bench --show now.json --compare old.json
    """
    old = None if earlier is None else _read(earlier)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    document = _run(given) if shown is None else _read(shown)
    if json_file:
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        files.write(json_file, text.encode("utf-8"))
    if html_file:
        report.write(document, html_file, old)
    screen.show(document, console)
    if old is not None:
        screen.compare(document, old, console)
    for file in filter(None, (json_file, html_file)):
        click.echo(f"written to {file}")
    limits.check(document["rows"])
    if not all(row["correct"]["ok"] for row in document["rows"] if row["correct"]):
        click.echo("gpubp: a loss is wrong; see the tables", err=True)
        ctx.exit(1)


def _run(given: Mapping[str, Any]) -> run.Document:
    """Run what the options ask for."""
    settings, absent = _settings(**given)
    document = run.run(settings, lambda text: click.echo(f"timing {text}", err=True))
    document["missing"] += absent
    return document


def _settings(
    quick: bool,
    networks: tuple[str, ...],
    batches: tuple[int, ...] | None,
    precisions: tuple[str, ...],
    places: str | None,
    against: tuple[str, ...] | None,
    budget: float | None,
) -> tuple[run.Settings, list[dict[str, str]]]:
    """Return what to run, and which devices are missing for it and why."""
    absent = []
    if places is None:
        problem = devices.cuda_problem()
        found = ["cpu"] if problem else ["cpu", "cuda"]
        if problem:
            absent.append({"contender": "gpubp on cuda", "why": problem})
    else:
        found = list(dict.fromkeys(devices.resolve(place).device for place in places.split(",")))
    usual = _GPU_BATCHES if any(place != "cpu" for place in found) else _BATCHES
    chosen = networks or (_QUICK_NETWORKS if quick else _NETWORKS)
    settings = run.Settings(
        networks=[parse_network(text) for text in chosen],
        batches=batches or usual,
        precisions=precisions,
        devices=found,
        peers=[peer for peer in PEERS if against is None or peer in against],
        sparse=against is None,
        quick=quick,
        budget=budget or (run.QUICK_BUDGET if quick else run.BUDGET),
    )
    if not any(True for _ in settings.cases()):
        raise InputError(f"{', '.join(found)} has none of the precisions {', '.join(precisions)}")
    free = room.available()
    for case in settings.cases():
        if case.bytes > free:
            raise DeviceMemoryError(
                f"{case.name} takes {room.said(case.bytes)} of memory, but the machine has "
                f"{room.said(free)} free; choose another network with --network, or fewer rows "
                "with --batch-size"
            )
    return settings, absent


def _read(file: Path) -> dict[str, Any]:
    """Return the document in a file, JSON or a report that it is in.

    Raises:
        InputError: there is none, or of another form.
    """
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise ValueError("it is not a file")
        text = file.read_text(encoding="utf-8")
        document = report.extract(text) if text.lstrip().startswith("<") else json.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} can't be read: {error}; give a result that 'gpubp bench' wrote with --json or "
            "--html"
        ) from error
    result.read(document)
    return dict(document)
