"""Files of machine code, one for each entry point, that are right or not used.

A file begins with a digest of the rest: a line of JSON that says which source it was compiled from
and what the function is called, and then an object file as LLVM writes it. It is written beside its
place, reaches the disk and only then gets its name, so processes that write the same one at a time
do no harm: each file is whole, and any of them will do.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from gpubp.kernels.numba import place

_SYMBOL = "=IBBHQQ"  # of an ELF file: name, info, other, section, value, size
_UNDEFINED = 0  # the section of what is not in the file
_UNFINISHED = ".tmp"
_DIGEST_BYTES = hashlib.sha256().digest_size


class Damaged(Exception):
    """A file is not what was written, or not there for this source; the text says why."""


class Code(NamedTuple):
    """The machine code of an entry point."""

    symbol: str  # the function's name in it
    machine: bytes


def write(path: Path, source: str, code: Code) -> None:
    """Write the machine code that a source was compiled to.

    Raises:
        OSError: it can't be written; what was there before is still there.
    """
    head = json.dumps({"source": _digest(source.encode()).hex(), "symbol": code.symbol}).encode()
    body = head + b"\n" + code.machine
    handle, temporary = tempfile.mkstemp(_UNFINISHED, f"{os.getpid()}.", path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_digest(body) + body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def discard(folder: Path, process: int) -> None:
    """Remove what a process was writing when it was ended."""
    for path in folder.glob(f"{process}.*{_UNFINISHED}"):
        path.unlink(missing_ok=True)


def read(path: Path, source: str) -> Code:
    """Return the machine code of a source.

    Raises:
        FileNotFoundError: there is none.
        Damaged: there is something else.
        OSError: it can't be read.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        if not place.is_trusted(os.fstat(file.fileno())):
            raise Damaged("it is not the user's alone")
        content = file.read()
    digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if _digest(body) != digest:
        raise Damaged("its content is not what its digest says")
    head, _, machine = body.partition(b"\n")
    said = json.loads(head)
    if said["source"] != _digest(source.encode()).hex():
        raise Damaged("it was compiled from another source")
    return Code(said["symbol"], machine)


def needs(file: Any) -> list[str]:
    """Return the names of what an object file (an ObjectFileRef of llvmlite's) does not define."""
    sections = {section.name(): section.data() for section in file.sections()}
    names, symbols = sections[b".strtab"], struct.iter_unpack(_SYMBOL, sections[b".symtab"])
    starts = [start for start, _, _, section, _, _ in symbols if start and section == _UNDEFINED]
    return [names[start : names.index(b"\0", start)].decode() for start in starts]


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
