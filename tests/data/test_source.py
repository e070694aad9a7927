"""Text of other systems: encodings, ends of lines, packed files, the standard input."""

import codecs
import gzip
import io
import re
import sys

import pytest
from tables import read

from gpubp.data import source
from gpubp.data.table import load
from gpubp.errors import InputError

TEXT = "größe,name\n1,Zoë\n2,Ärger\n"
READ = {
    "UTF-8": (TEXT.encode(), None),
    "UTF-8 with a mark": (TEXT.encode("utf-8-sig"), None),
    "carriage returns": (TEXT.replace("\n", "\r").encode(), None),
    "carriage returns and a mark": (TEXT.replace("\n", "\r").encode("utf-8-sig"), None),
    "Windows": (TEXT.replace("\n", "\r\n").encode(), None),
    "all ends of lines": ("größe,name\r1,Zoë\r\n2,Ärger\n".encode(), None),
    "gzip": (gzip.compress(TEXT.encode()), None),
    "gzip of UTF-16": (gzip.compress(TEXT.encode("utf-16")), "read as UTF-16"),
    "UTF-16": (TEXT.encode("utf-16"), "read as UTF-16"),
    "UTF-16 of big ends": (
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        "read as UTF-16",
    ),
    "UTF-16, no mark": (TEXT.encode("utf-16-le"), "read as UTF-16-LE"),
    "UTF-16 of big ends, no mark": (TEXT.encode("utf-16-be"), "read as UTF-16-BE"),
    "UTF-32": (TEXT.encode("utf-32"), "read as UTF-32"),
    "UTF-32, no mark": (TEXT.encode("utf-32-be"), "read as UTF-32-BE"),
    "Windows-1252": (TEXT.encode("cp1252"), "read as Windows-1252 .*0xf6 in line 1 is not UTF-8"),
    "Windows-1252 and its dashes": (
        TEXT.replace("\n", "\r").encode("cp1252"),
        "read as Windows-1252",
    ),
}


@pytest.mark.parametrize(("data", "note"), READ.values(), ids=READ)
def test_one_text_in_many_forms(data, note):
    table = read(data)
    assert list(table.columns) == ["größe", "name"]
    assert table.numbers("größe").tolist() == [1, 2]
    assert table.texts("name").tolist() == ["Zoë", "Ärger"]
    if note is None:
        assert table.notes == ()
    else:
        assert re.search(note, table.notes[0])
        assert len(table.notes) == 1


def test_an_encoding_that_is_named():
    data = "größe,name\n1,Zoë\n".encode("cp437")
    assert read(data, encoding="cp437").texts("name").tolist() == ["Zoë"]
    assert read(TEXT.encode("utf-8-sig"), encoding="utf-8").notes == ()
    assert list(read(TEXT.encode("utf-8-sig"), encoding="utf-8").columns) == ["größe", "name"]
    with pytest.raises(InputError, match=r"line 1: byte 0x94 is not utf-8; .*--encoding"):
        read(data, encoding="utf-8")
    for name in ("klingon", "rot13", "base64"):
        with pytest.raises(InputError, match=f"there is no encoding '{name}' of text"):
            read(data, encoding=name)


DAMAGED = {
    "UTF-8 with a wrong byte": (
        "größe,name\n1,Zoë\n2,\xc4\n".encode().replace(b"\xc3\x84", b"\xff"),
        r"byte 0xff in line 3 is not UTF-8, as the rest of the file is",
    ),
    "of no encoding": (b"a,b\n1,\x81\n", r"0x81 in line 2 is not UTF-8, nor .* Windows-1252"),
    "cut UTF-16": (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le")[:-1], "looks like UTF-16"),
    "zeros": (b"\0" * 100, "line 1: not text"),
    "a zero": (b"a,b\n1,2\n3,\0\n", "line 3: not text"),
    "Excel": (b"PK\x03\x04\0\0\n", "not text but a zip archive or an Excel file"),
    "cut gzip": (gzip.compress(TEXT.encode())[:-9], "can't be unpacked by gzip"),
    "foreign gzip": (b"\x1f\x8b nothing of the kind", "can't be unpacked by gzip"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_text_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        read(data)


def test_the_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(TEXT.encode()))))
    table = load(source.STDIN)
    assert table.origin == "the standard input"
    assert table.texts("name").tolist() == ["Zoë", "Ärger"]
