"""Builds C entry points for the kernel bodies and keeps the machine code on disk.

An entry point takes one pointer to int64 words: operand addresses, lengths and scalars, in the
order of the contract. It is compiled by Numba from a few lines of source, and its machine code is
kept in the cache folder (``place.py``, ``objects.py``), where every later process finds it. The
folder's name holds a digest of every kernel source, of the versions of Numba and NumPy and of the
processor, so that a change to any of them is a new folder and never a stale hit. What is there is
loaded only if it is what was written; anything else is thrown away and compiled anew. Where nothing
can be kept, code is in memory alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from gpubp import interrupts
from gpubp.errors import warn
from gpubp.kernels.numba import objects, place

# Contraction and reassociation let loops vectorise; NaN and infinity keep their meaning, because
# training must notice them.
ENTRY_FLAGS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz", "reassoc"}}
# Nothing but an entry point is called from outside of compiled code, so nothing else has a wrapper
# for that, which would take longer to compile than most kernels.
FLAGS = ENTRY_FLAGS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

Function = Callable[..., Any]

_PREFIX = "numba-"  # of the cache folder's name
_NAMES = _PREFIX + 16 * "[0-9a-f]"

_lock = threading.RLock()
_announcing = threading.Lock()
_addresses: dict[str, int] = {}  # of what this process has compiled or loaded
_engines: list[Any] = []  # that what it loaded lives in
# For ever, because threads may be in that code to the end. llvmlite sees to this by itself, but not
# where it is imported only as the interpreter ends.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_engines))
made_here: list[str] = []  # what this process has compiled
_listeners: list[Callable[[str], None]] = []
_said_not_kept: list[bool] = []


def _before_fork() -> None:
    """Wait for the kernel that another thread compiles.

    Numba's and LLVM's own locks would stay locked in the child, where that thread is not.
    """
    _lock.acquire()


def _after_in_parent() -> None:
    _lock.release()


def _after_in_child() -> None:
    global _lock, _announcing
    _lock, _announcing = threading.RLock(), threading.Lock()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)


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
    """Return the cache folder, which is made if it is not there; it is not there if it can't be.

    It lies in $GPUBP_CACHE_DIR, $XDG_CACHE_HOME/gpubp or ~/.cache/gpubp. Those of other versions
    are removed when no process has used them for long.

    Raises:
        InputError: $GPUBP_CACHE_DIR is empty, or others could write to the folder or replace it.
    """
    name = f"{_PREFIX}{_digest()}"
    try:
        base = place.base()
    except OSError as error:
        _say_not_kept(error)
        return Path(os.devnull, name)  # where nothing can ever be
    try:
        place.check(base)
        place.make(base / name)
        place.check(base / name)
        place.use(base / name, _NAMES)
    except OSError as error:
        _say_not_kept(error)
    return base / name


def lasts() -> bool:
    """Return whether later processes find what is put into the cache folder now."""
    return os.access(folder(), os.W_OK | os.X_OK)


def _say_not_kept(error: OSError) -> None:
    """Warn once a process that compiled kernels can't be kept."""
    if not _said_not_kept:
        _said_not_kept.append(True)
        warn(
            f"compiled kernels can't be kept ({error}), so they are compiled again in every "
            "process, and nothing new is chosen by measurement. Set GPUBP_CACHE_DIR to a folder "
            "that can be written.",
            RuntimeWarning,
        )


def processor() -> str:
    """Return the processor as LLVM compiles for it: its name and what it can do."""
    from llvmlite import binding  # noqa: PLC0415

    return f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"


def _digest() -> str:
    import llvmlite  # noqa: PLC0415
    import numba  # noqa: PLC0415 (0.4 s, only where something is compiled or loaded)
    import numpy as np  # noqa: PLC0415

    versions = f"{numba.__version__} {llvmlite.__version__} {np.__version__} {sys.version}"
    digest = hashlib.sha256(f"{versions} {_compiler()}".encode())
    here = Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.parent.glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _compiler() -> str:
    """Return for which processor Numba compiles, and how."""
    from numba.core import config  # noqa: PLC0415
    from numba.core.registry import cpu_target  # noqa: PLC0415

    names = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")
    settings = [str(getattr(config, name, None)) for name in names]
    return f"{cpu_target.target_context.codegen().magic_tuple()} {settings}"


def _path(name: str) -> Path:
    return folder() / f"{name}.code"


def is_kept(name: str) -> bool:
    """Return whether an entry point was compiled before."""
    return _path(name).exists()


def announce(name: str) -> None:
    """Tell the listeners of :func:`on_compile` that an entry point will be compiled."""
    with _announcing:
        for listener in _listeners:
            listener(name)


def compile_entry(name: str, source: str) -> int:
    """Return the address of the function ``entry`` that ``source`` defines, compiled or loaded.

    Ctrl-C counts before or after, because an exception amid a compilation can be lost.

    Raises:
        InputError: the cache folder can't be trusted.
        KeyboardInterrupt: as held back by :func:`gpubp.interrupts.deferred`.
    """
    with _lock:
        if name not in _addresses:
            interrupts.hear()
            with interrupts.deferred():
                _addresses[name] = _load(name, source) or _make(name, source)
        return _addresses[name]


def _load(name: str, source: str) -> int:
    """Return the address of an entry point that was compiled before; 0 if there is none."""
    path = _path(name)
    try:
        return _link(objects.read(path, source))
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except Exception as error:  # whatever it is, it can be compiled
        warn(f"{path} is of no use ({error}); it is compiled anew", RuntimeWarning)
        with contextlib.suppress(OSError):  # then it is replaced, or stays
            path.unlink()
        return 0


def _link(code: objects.Code) -> int:
    """Return the address of the entry point in machine code, which stays loaded.

    Each has an engine of its own: functions are linked by name, and names are counted in each
    process, so in code of two processes different functions may have the same.

    Raises:
        Damaged: it does not have the function, or needs one that is not here.
    """
    from llvmlite import binding  # noqa: PLC0415

    engine, file = _engine(), binding.ObjectFileRef.from_data(code.machine)
    missing = [name for name in objects.needs(file) if not binding.address_of_symbol(name)]
    if missing:  # which LLVM would not say, but jump to anywhere
        raise objects.Damaged(f"there is no {missing[0]} here")
    engine.add_object_file(file)
    engine.finalize_object()
    address = int(engine.get_function_address(code.symbol))
    if not address:
        raise objects.Damaged(f"there is no {code.symbol} in it")
    _engines.append(engine)
    return address


def _engine() -> Any:
    """Return an engine of LLVM's with nothing in it; what Numba's code needs can be found."""
    from llvmlite import binding  # noqa: PLC0415
    from numba.core.registry import cpu_target  # noqa: PLC0415
    from numba.core.runtime import rtsys  # noqa: PLC0415

    rtsys.initialize(cpu_target.target_context)
    target = binding.Target.from_triple(binding.get_process_triple())
    machine = target.create_target_machine()
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine)


def _make(name: str, source: str) -> int:
    """Return the address of an entry point that is compiled now, and kept if it can be."""
    announce(name)
    module = ModuleType(f"gpubp_compiled_{name}")
    # Numba looks the module up by name; and the code lives as long as the module does.
    sys.modules[module.__name__] = module
    exec(compile(source, f"<{module.__name__}>", "exec"), module.__dict__)
    library = module.entry._library
    assert not library.has_dynamic_globals, f"{name} has addresses of this process in it"
    made_here.append(name)
    try:
        code = objects.Code(module.entry.native_name, bytes(library._get_compiled_object()))
        objects.write(_path(name), source, code)
    except OSError as error:
        _say_not_kept(error)
    return int(module.entry.address)


def c_function(address: int) -> Callable[[int], None]:
    """Return the entry point at ``address`` as a Python callable; it releases the GIL."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
