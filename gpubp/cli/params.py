"""Types of command-line options, and the help that lists options in groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from gpubp.errors import unknown_name

Command = TypeVar("Command", bound=Callable[..., Any])


class Name(click.ParamType[str]):
    """A name from one of gpubp's tables; a wrong one is answered with the nearest."""

    def __init__(self, kind: str, names: Iterable[str]) -> None:
        self.name = kind
        self.names = tuple(names)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name if the table has it."""
        if value not in self.names:
            self.fail(str(unknown_name(self.name, value, self.names)), param, ctx)
        return value


class Names(click.ParamType[tuple[str, ...]]):
    """Names from one of gpubp's tables, separated by commas."""

    def __init__(self, kind: str, names: Iterable[str]) -> None:
        self.name = kind
        self._one = Name(kind, names)

    def convert(
        self,
        value: str | tuple[str, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, ...]:
        """Return the names if the table has them all, each once."""
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(self._one.convert(v, param, ctx) for v in value.split(",")))


class Widths(click.ParamType[tuple[int, ...]]):
    """The widths of the hidden layers, such as ``256,128``; ``none`` for no hidden layer."""

    name = "widths"

    def convert(
        self,
        value: str | tuple[int, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, ...]:
        """Return the widths as a tuple."""
        if isinstance(value, tuple):
            return value
        if value == "none":
            return ()
        try:
            widths = tuple(int(part) for part in value.split(","))
        except ValueError:
            widths = (0,)
        if min(widths) < 1:
            self.fail(
                f"{value!r} is not a list of widths; write them as 256,128, or none", param, ctx
            )
        return widths


class Number(click.FloatRange):
    """A number within bounds; neither NaN nor infinite, which no bound keeps out."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Named(click.Path):
    """A path; not the empty text, which would mean the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if value == "":
            self.fail("the path is empty; name a file or folder", param, ctx)
        return super().convert(value, param, ctx)


GROUPS = ("Data", "Network", "Training", "Run", "Device", "Advanced", "Other")


class GroupedOption(click.Option):
    """An option that says in which group of the help it stands."""

    def __init__(self, *args: Any, group: str = "Other", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options in groups; one of a plain option is the last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, a section a group."""
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups[getattr(parameter, "group", GROUPS[-1])].append(record)
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)
