"""Types of command-line options."""

from __future__ import annotations

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
