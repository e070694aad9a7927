"""The CUDA sources as text, and the C++ names of what is in them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from gpubp.kernels.cuda.driver import Variant

_FOLDER = Path(__file__).parent
_INCLUDE = re.compile(r'^#include "(?P<name>[\w.]+)"\n', re.MULTILINE)
_TYPES = {
    "float32": "float", "float64": "double", "bfloat16": "gpubp::bfloat16", "bool": "bool",
    "int8": "signed char", "int16": "short", "int32": "int", "int64": "long long",
    "uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int",
    "uint64": "unsigned long long",
}  # fmt: skip


@cache
def text(family: str) -> str:
    """Return the source of a family of kernels, its headers put in place of their inclusion.

    One text has all that decides the machine code, so a cache that goes by the text is never stale.
    """
    seen: set[str] = set()

    def inline(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        source = (_FOLDER / name).read_text(encoding="utf-8").replace("#pragma once\n", "")
        return _INCLUDE.sub(lambda match: inline(match["name"]), source)

    return inline(f"{family}.cu")


def expression(variant: Variant) -> str:
    """Return the C++ name of a variant, such as ``gpubp::gather<double, float>``."""
    types = ", ".join(_TYPES[dtype] for dtype in variant.dtypes)
    return f"gpubp::{variant.kernel}" + (f"<{types}>" if types else "")
