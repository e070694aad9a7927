"""The result: one JSON file, to which every part that is done is added at once.

    {"kind": "gpubp on a GPU", "stand_in": false, "machines": [...],
     "parts": {"bench/roofs": {"status": "done", "machine": 0, "result": {...}, ...}, ...}}

A status is "done", "failed" (with "error", and what result there is) or "skipped" (with "error").
What was not measured is not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu.process import BENCH

Record = dict[str, Any]
KIND = "gpubp on a GPU"
RESULTS = BENCH / "results"


class RefusedError(Exception):
    """A file is not one to write this result to; the text says why."""


class Document:
    """A result file.

    Args:
        path: where it is, or will be.
        stand_in: whether what comes was not computed on a GPU.

    Raises:
        RefusedError: there is another kind of file, or figures of a stand-in would lie where those
            of GPUs do.
    """

    def __init__(self, path: Path, *, stand_in: bool) -> None:
        self.path = path
        if stand_in and path.resolve().is_relative_to(RESULTS):
            raise RefusedError(f"{path}: what a stand-in computed is no result; write it elsewhere")
        self.content: Record = {"kind": KIND, "stand_in": stand_in, "machines": [], "parts": {}}
        if path.exists():
            self.content = _read(path, stand_in)
        self._machine = -1

    @property
    def parts(self) -> dict[str, Record]:
        """What is known by now, by name of part."""
        parts: dict[str, Record] = self.content["parts"]
        return parts

    def enter(self, machine: Mapping[str, Any]) -> None:
        """Note the machine that the next parts run on.

        Raises:
            RefusedError: the file has results of another GPU.
        """
        machines: list[Mapping[str, Any]] = self.content["machines"]
        names = {known["gpu"].get("name") for known in machines if known["gpu"]}
        name = machine["gpu"].get("name")
        if name and names - {name}:
            raise RefusedError(f"{self.path} has results of {names}, this is {name}; name another")
        if machine not in machines:
            machines.append(machine)
        self._machine = machines.index(machine)

    def known(self, part: str) -> Record | None:
        """Return the result of a part that was done."""
        record = self.parts.get(part, {})
        return record["result"] if record.get("status") == "done" else None

    def add(self, part: str, record: Mapping[str, Any]) -> None:
        """Keep what became of a part, and write the file: whole or not at all."""
        self.parts[part] = {"machine": self._machine, **record}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".part")
        fresh.write_text(json.dumps(self.content, indent=1, ensure_ascii=False) + "\n", "utf-8")
        os.replace(fresh, self.path)


def _read(path: Path, stand_in: bool) -> Record:
    try:
        content: Record = json.loads(path.read_text("utf-8"))
        kind = content["kind"]
    except (ValueError, KeyError, TypeError):
        kind = None
    if kind != KIND:
        raise RefusedError(f"{path} is no result of this script; name another file")
    if content["stand_in"] != stand_in:
        raise RefusedError(f"{path} is{' not' * stand_in} of a stand-in; name another file")
    return content
