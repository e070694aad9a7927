"""The text of a CSV file as UTF-8: where it comes from, how it is packed and encoded.

The encoding is told by a byte order mark or by where zeros stand (UTF-16, UTF-32); else it is
UTF-8, or Windows-1252 (Latin-1 with quotes and dashes) where it can't be UTF-8. What is not plain
UTF-8 is said.
"""

from __future__ import annotations

import codecs
import gzip
import sys
import zlib
from pathlib import Path

from gpubp.errors import InputError

STDIN = "-"  # the name of the standard input

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PACKED = {
    b"PK\x03\x04": "a zip archive or an Excel file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"(\xb5/\xfd": "a Zstandard file",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file",
}
_GZIP = b"\x1f\x8b"
_FIRST = 4096  # bytes that tell an encoding by their zeros


def text(source: str, encoding: str | None = None) -> tuple[bytes, list[str]]:
    """Return a file's text as UTF-8 with line feeds at the ends of lines, and what was done.

    Args:
        source: a path, or :data:`STDIN`.
        encoding: of the text; None finds it out.

    Raises:
        InputError: it is no text in that encoding or in any that is found out (the line is named),
            it can't be unpacked, or there is no such encoding.
        OSError: it can't be read.
    """
    origin = named(source)
    data = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{origin} can't be unpacked by gzip: {error}") from error
    for magic, what in _PACKED.items():
        if data.startswith(magic):
            raise InputError(
                f"{origin} is not text but {what}; gpubp reads .npz and CSV files, and these also "
                "packed by gzip"
            )
    data, notes = _given(data, encoding, origin) if encoding else _found(data, origin)
    if b"\0" in data:
        raise InputError(
            f"{origin}, line {_line(data, data.index(0))}: not text; gpubp reads .npz and CSV "
            "files; if it is text of another encoding, name that with --encoding"
        )
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data, notes


def named(source: str) -> str:
    """Return how messages name a source."""
    return "the standard input" if source == STDIN else source


def _given(data: bytes, encoding: str, origin: str) -> tuple[bytes, list[str]]:
    try:
        decoded = data.decode(encoding)
    except LookupError as error:
        raise InputError(
            f"there is no encoding {encoding!r} of text; try utf-8, utf-16 or cp1252"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{origin}, line {_line(data, error.start)}: byte 0x{data[error.start]:02x} is not "
            f"{encoding}; name another with --encoding, or none to have it found out"
        ) from error
    return decoded.removeprefix("\ufeff").encode(), []


def _found(data: bytes, origin: str) -> tuple[bytes, list[str]]:
    """Return the text as UTF-8, whose encoding is found out, and what to say of that."""
    mark = next((mark for mark in _MARKS if data.startswith(mark)), None)
    name = _MARKS[mark] if mark else _by_zeros(data[:_FIRST])
    if name is not None and not name.startswith("utf-8"):
        try:
            return data.decode(name).removeprefix("\ufeff").encode(), [f"read as {name.upper()}"]
        except UnicodeDecodeError as error:
            raise InputError(
                f"{origin} looks like {name.upper()}, but is not: {error.reason} at byte "
                f"{error.start}; name its encoding with --encoding"
            ) from error
    if mark:
        data = data.removeprefix(mark)
    if data.isascii():
        return data, []
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return _western(data, error, origin)
    return data, []


def _by_zeros(first: bytes) -> str | None:
    """Return the encoding that most characters of a text are zeros in, such as UTF-16."""
    if b"\0" not in first:
        return None
    a, b, c, d = (2 * first[k::4].count(0) > len(first[k::4]) for k in range(4))
    return {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
    }.get((a, b, c, d))


def _western(data: bytes, error: UnicodeDecodeError, origin: str) -> tuple[bytes, list[str]]:
    """Return text that is not UTF-8, read as Windows-1252."""
    where = f"byte 0x{data[error.start]:02x} in line {_line(data, error.start)} is not UTF-8"
    proper = [character for character in data.decode(errors="ignore") if character > "\x7f"]
    foreign = sum(byte > 0x7F for byte in data) - sum(len(each.encode()) for each in proper)
    if len(proper) >= foreign:
        raise InputError(
            f"{origin}: {where}, as the rest of the file is; correct it, or name the file's "
            "encoding with --encoding"
        )
    try:
        decoded = data.decode("cp1252")
    except UnicodeDecodeError as other:
        raise InputError(
            f"{origin}: {where}, nor is byte 0x{data[other.start]:02x} in line "
            f"{_line(data, other.start)} Windows-1252; name the file's encoding with --encoding"
        ) from other
    return decoded.encode(), [
        f"read as Windows-1252 (Latin-1), because {where}; --encoding names another"
    ]


def _line(data: bytes, place: int) -> int:
    """Return the number of the line that a byte is in."""
    ends = data.count(b"\n", 0, place) or data.count(b"\r", 0, place)
    return ends + 1
