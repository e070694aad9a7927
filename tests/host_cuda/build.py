"""Compiles a family of CUDA kernels for the host, all its variants at once, into one library.

The library is kept beside gpubp's other compiled code, named after a digest of all that shaped it.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from gpubp.kernels.contract import FLOATS
from gpubp.kernels.cuda import launch, sources
from gpubp.kernels.cuda.driver import Variant
from gpubp.kernels.numba import compiled
from gpubp.kernels.spec import KERNELS

HERE = Path(__file__).parent
COMPILER = os.environ.get("CXX", "g++")
# Optimised little: a family compiles in seconds, and what runs is small. No fused multiply-adds, so
# that a result is the same on any host. Hidden: libraries share no `__shared__` variables.
FLAGS = (
    "-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-fsanitize=alignment",
    "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
    "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,--as-needed",
)  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A kernel in a loaded library."""

    variant: Variant
    parameters: str  # a letter each: p for a pointer, n for a number
    entry: object


def missing_compiler():
    """Return why nothing can be compiled, or an empty string."""
    return "" if shutil.which(COMPILER) else f"there is no C++ compiler {COMPILER!r} (set CXX)"


def variants(family):
    """Return every instance of a family's kernels that the contracts allow."""
    return [
        Variant(name, family, (*([working] if working else []), *own))
        for name, kernel in KERNELS.items()
        if kernel.module == family and launch.implements(name) and not launch.is_product(name)
        for working in (FLOATS if any(o.dtype == "float" for o in kernel.operands) else ("",))
        for own in product(
            *(o.dtypes(working) for o in kernel.operands if o.dtype in ("real", "either"))
        )
    ]


class Library:
    """A compiled source and the kernels in it."""

    def __init__(self, source, entries, flags=FLAGS):
        # PyDLL keeps the GIL, so one grid runs at a time: a library has the state of one.
        self._library = ctypes.PyDLL(str(_compiled(source, entries, flags)))
        self._functions = {}

    def function(self, variant):
        """Return a kernel of the library."""
        if variant not in self._functions:
            entry = self._library[_symbol(variant)]
            entry.restype = ctypes.c_char_p
            entry.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
            parameters = self._library[_symbol(variant) + "_parameters"]
            parameters.restype = ctypes.c_char_p
            self._functions[variant] = Function(variant, parameters().decode(), entry)
        return self._functions[variant]


@cache
def library(family):
    """Return the library of a family as it stands in kernels/cuda/."""
    return Library(sources.text(family), variants(family))


def _symbol(variant):
    return "_".join(["host", variant.kernel, *variant.dtypes])


def _compiled(source, entries, flags):
    """Return the path of the library with these kernels of a source, compiled if it never was."""
    lines = [f"HOST_CUDA_ENTRY({_symbol(v)}, {sources.expression(v)})" for v in entries]
    text = "\n".join(['#include "host_cuda.hpp"', source, *lines, ""])
    digest = hashlib.sha256(" ".join([_version(), *flags, text]).encode())
    for header in sorted(HERE.glob("*.hpp")):
        digest.update(header.read_bytes())
    folder = compiled.folder().parent / "host-cuda"
    folder.mkdir(exist_ok=True)
    target = folder / f"{digest.hexdigest()[:16]}.so"
    if not target.exists():
        _compile(text, target, flags)
    return target


def _compile(text, target, flags):
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "made.so"
        command = [COMPILER, *flags, f"-I{HERE}", "-x", "c++", "-", "-o", str(made)]
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{COMPILER} refuses the source:\n{_first_errors(done.stderr)}")
        os.replace(made, target)  # no other process ever sees half of it


def _first_errors(output):
    found = re.findall(r"^.*error: .*$(?:\n .*)*", output, re.MULTILINE)
    return "\n".join(found[:5]) or output


@cache
def _version():
    return subprocess.run(
        [COMPILER, "--version"], capture_output=True, text=True, check=True
    ).stdout
