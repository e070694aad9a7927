"""Every kernel in every dtype compiles for NVIDIA's GPUs, without spills, in so many registers.

Needs NVRTC, and no GPU.
"""

import ctypes
import re
from functools import cache
from itertools import product

import pytest

from gpubp.kernels.contract import FLOATS, REAL_DTYPES, WIDE
from gpubp.kernels.cuda import launch, sources
from gpubp.kernels.cuda.cupy_driver import OPTIONS
from gpubp.kernels.spec import KERNELS

# Registers a thread at most, by family: what the compiler of CUDA 13.0 takes on the worst of the
# architectures, rounded up to 8. A block is 256 threads; up to 64 an SM is full of them.
REGISTERS = {
    "activations": 96,
    "data": 56,
    "gradients": 48,
    "losses": 80,
    "matrix": 56,
    "metrics": 64,
    "optimizers": 80,
    "random": 64,
}
SLOW = ("sm_75", "sm_80", "sm_100")
ARCHITECTURES = ("sm_90a", *(pytest.param(arch, marks=pytest.mark.slow) for arch in SLOW))

# What CuPy adds to a module's own options.
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")

_FUNCTION = re.compile(
    r"entry function '(?P<name>\S+)'.*?(?P<stack>\d+) bytes stack frame, "
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)


@cache
def nvrtc():
    pathfinder = pytest.importorskip("cuda.pathfinder", reason="NVRTC is not installed")
    try:
        return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("nvrtc").abs_path)
    except RuntimeError as error:
        pytest.skip(f"NVRTC is not installed: {error}")


def compiled(text, expressions, *options):
    """Compile; return the status and the log."""
    library, program, length = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    encoded = [option.encode() for option in options]
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"gpubp.cu", 0, None, None)
    for expression in expressions:
        library.nvrtcAddNameExpression(program, expression.encode())
    status = library.nvrtcCompileProgram(
        program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded)
    )
    library.nvrtcGetProgramLogSize(program, ctypes.byref(length))
    log = ctypes.create_string_buffer(length.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return status, log.value.decode()


def variants(kernel):
    """Return every instance of a kernel's template that operands in keeping with it can ask for."""
    free = [o.dtype for o in kernel.operands if o.dtype in ("real", "either")]
    found = []
    for working in FLOATS:
        either = dict.fromkeys((working, WIDE[working]))
        for own in product(*(REAL_DTYPES if dtype == "real" else either for dtype in free)):
            rest = iter(own)
            dtypes = {"float": working, "wide": WIDE[working]}
            places = [
                launch.Place(
                    0,
                    (),
                    next(rest) if o.dtype in ("real", "either") else dtypes.get(o.dtype, o.dtype),
                )
                for o in kernel.operands
            ]
            found.append(launch.variant(kernel, places))
    return found


def variants_of(family):
    return dict.fromkeys(
        variant
        for kernel in KERNELS.values()
        if kernel.module == family and not launch.is_product(kernel.name)
        for variant in variants(kernel)
    )


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("family", REGISTERS)
def test_family_compiles_without_spills(family, arch):
    expressions = [sources.expression(variant) for variant in variants_of(family)]
    status, log = compiled(
        sources.text(family),
        expressions,
        *OPTIONS,
        *CUPY_OPTIONS,
        f"-arch={arch}",
        "--ptxas-options=-v",
    )
    assert status == 0, log
    assert "warning" not in log, log
    functions = [found.groupdict() for found in _FUNCTION.finditer(log)]
    assert len(functions) == len(expressions)
    for function in functions:
        assert int(function["registers"]) <= REGISTERS[family], function
        assert function["stack"] == function["stores"] == function["loads"] == "0", function


def test_table_of_registers_has_every_family():
    assert set(REGISTERS) == {kernel.module for kernel in KERNELS.values()}


def test_spill_is_seen():
    status, log = compiled(
        sources.text("random"), ["gpubp::dropout<double>"], *OPTIONS, *CUPY_OPTIONS,
        "-arch=sm_90a", "--ptxas-options=-v", "-maxrregcount=16",
    )  # fmt: skip
    assert status == 0, log
    assert max(int(function["stores"]) for function in _FUNCTION.finditer(log)) > 0


def test_text_is_whole():
    """The text that is compiled, and so the key of CuPy's cache on disk, includes the headers."""
    for family in REGISTERS:
        text = sources.text(family)
        assert "#include" not in text
        assert text.count("struct bfloat16 {") == 1
