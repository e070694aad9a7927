"""Builds C entry points for the kernel bodies and keeps the machine code on disk.

An entry point takes one pointer to int64 words: operand addresses, lengths and scalars, in the
order of the contract. Its source is written to the cache folder and compiled from there by Numba,
whose own cache then finds it in every later process. The folder's name holds a digest of every
kernel source and of the versions of Numba and NumPy, so that a change to any of them is a new
folder and never a stale hit.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from gpubp.errors import warn

# Contraction and reassociation let loops vectorise; NaN and infinity keep their meaning, because
# training must notice them.
ENTRY_FLAGS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz", "reassoc"}}
# Nothing but an entry point is called from outside of compiled code, so nothing else has a wrapper
# for that, which would take longer to compile than most kernels.
FLAGS = ENTRY_FLAGS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

Function = Callable[..., Any]

_PREFIX = "numba-"  # of the cache folder's name

_lock = threading.RLock()
_announcing = threading.Lock()
_addresses: dict[str, int] = {}  # of what this process has compiled or loaded
_listeners: list[Callable[[str], None]] = []


def _renew_locks() -> None:
    """Make the locks anew: a thread that had one at a fork is not in the child."""
    global _lock, _announcing
    _lock, _announcing = threading.RLock(), threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)


def jit_as(name: str, **options: Any) -> Callable[[Function], Function]:
    """Compile a function that a factory makes, under a name of its own; ``options`` add to FLAGS.

    Machine code is kept by function and linked by name, and code of several processes meets in one.
    Of two functions with one name, as all that a factory makes would have, the code loaded first
    would stand for both.
    """

    def decorate(function: Function) -> Function:
        from numba import njit  # noqa: PLC0415 (0.4 s, only where something is compiled or loaded)

        function.__name__ = function.__qualname__ = name
        made: Function = njit(**(FLAGS | options))(function)
        return made

    return decorate


def on_compile(listener: Callable[[str], None]) -> Callable[[], None]:
    """Have ``listener(name)`` called before a kernel is compiled for the first time ever.

    It is called by one thread at a time, but not always by the same.

    Returns:
        a function that stops it again.
    """
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


@cache
def folder() -> Path:
    """Return the cache folder, in $GPUBP_CACHE_DIR, $XDG_CACHE_HOME/gpubp or ~/.cache/gpubp."""
    base = os.environ.get("GPUBP_CACHE_DIR")
    if base is None:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gpubp")
    place = Path(base) / f"{_PREFIX}{_digest()}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        place = Path(tempfile.mkdtemp(prefix="gpubp-"))
        warn(
            f"compiled kernels can't be kept ({error}); they go to {place} and are compiled again "
            "in the next process, and nothing is chosen by measurement. Set GPUBP_CACHE_DIR to a "
            "folder that can be written.",
            RuntimeWarning,
        )
    return place


def lasts() -> bool:
    """Return whether later processes find the cache folder again."""
    return folder().name.startswith(_PREFIX)


def processor() -> str:
    """Return the processor as LLVM compiles for it: its name and what it can do."""
    from llvmlite import binding  # noqa: PLC0415

    return f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"


def _digest() -> str:
    import numba  # noqa: PLC0415 (0.4 s, only where something is compiled or loaded)
    import numpy as np  # noqa: PLC0415

    digest = hashlib.sha256(f"{numba.__version__} {np.__version__} {sys.version}".encode())
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.parent.glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def is_kept(name: str) -> bool:
    """Return whether an entry point was compiled before."""
    return (folder() / f"{name}.py").exists()


def announce(name: str) -> None:
    """Tell the listeners of :func:`on_compile` that an entry point will be compiled."""
    with _announcing:
        for listener in _listeners:
            listener(name)


def compile_entry(name: str, source: str) -> int:
    """Return the address of the function ``entry`` that ``source`` defines, compiled or loaded."""
    with _lock:
        if name in _addresses:
            return _addresses[name]
        path = folder() / f"{name}.py"
        if not path.exists():
            announce(name)
            _write(path, source)
        module_name = f"gpubp_compiled_{name}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None  # a .py file has a spec and a loader
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Numba looks the module up by name when it loads the code; and the code lives as long as
        # the module does.
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
        _addresses[name] = int(module.entry.address)
        return _addresses[name]


def _write(path: Path, source: str) -> None:
    """Write the file so that no other process ever sees half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(source)
    os.replace(temporary, path)


def c_function(address: int) -> Callable[[int], None]:
    """Return the entry point at ``address`` as a Python callable; it releases the GIL."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
