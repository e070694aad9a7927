"""Closed tables of named, configurable things: layers, losses, optimizers, schedules, initializers.

An entry is a frozen dataclass; its configuration is its name and its fields as JSON values. A
model file is read back through these tables alone, so that a file can never name code to run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from gpubp.errors import InputError, unknown_name

T = TypeVar("T")
C = TypeVar("C")


class Registry(Generic[T]):
    """One table, such as that of the optimizers."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._types: dict[str, type[Any]] = {}
        self._names: dict[type[Any], str] = {}

    def add(self, name: str) -> Callable[[type[C]], type[C]]:
        """Return the class decorator that enters a frozen dataclass under ``name``."""

        def enter(entry: type[C]) -> type[C]:
            self._types[name] = entry
            self._names[entry] = name
            return entry

        return enter

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def name_of(self, value: T) -> str:
        """Return the name under which the type of ``value`` is entered."""
        return self._names[type(value)]

    def get(self, value: str | T | Mapping[str, Any], /, **fields: object) -> T:
        """Return ``value`` itself, or the entry of that name made with ``fields``.

        A mapping is taken for a configuration, so that one entry can hold another.

        Raises:
            InputError: there is no such name (the nearest is suggested), no such field, a
                field is missing, or the value is neither a name nor an entry of this table.
        """
        if isinstance(value, Mapping):
            return self.from_config(value)
        if not isinstance(value, str):
            if type(value) not in self._names:
                what = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
                raise InputError(
                    f"{what} is no {self.kind}; pass an object or one of the names "
                    f"{', '.join(sorted(self))}"
                )
            return value
        if value not in self._types:
            raise unknown_name(self.kind, value, self)
        entry = self._types[value]
        known = {field.name: field for field in dataclasses.fields(entry) if field.init}
        for name in fields:
            if name not in known:
                raise unknown_name(f"option of {self.kind} {value!r}", name, known)
        for name, field in known.items():
            if name not in fields and field.default is dataclasses.MISSING:
                raise InputError(f"{self.kind} {value!r} needs its option {name!r}")
        made: T = entry(**fields)
        return made

    def config(self, value: T) -> dict[str, Any]:
        """Return the name and fields of an entry as JSON values.

        A field whose metadata names its ``table`` holds an entry of that table and is written as
        a configuration in turn.
        """
        fields = {}
        for field in dataclasses.fields(value):  # type: ignore[arg-type]
            item, table = getattr(value, field.name), field.metadata.get("table")
            if field.init:
                fields[field.name] = item if table is None else table.config(item)
        return {"name": self.name_of(value), **fields}

    def from_config(self, config: Mapping[str, Any]) -> T:
        """Return the entry that ``config`` describes; the inverse of :meth:`config`."""
        if not isinstance(config, Mapping):
            raise InputError(f"a {self.kind} configuration is an object, got {repr(config)[:80]}")
        fields = dict(config)
        name = fields.pop("name", None)
        if not isinstance(name, str):
            raise InputError(f"a {self.kind} configuration needs a name, got {config!r}")
        return self.get(name, **fields)
