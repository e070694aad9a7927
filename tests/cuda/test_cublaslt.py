"""What cuBLASLt is told, read back from its own descriptors and multiplied by NumPy; no GPU needed.

cuda/test_cupy_driver.py multiplies the same products on a GPU.
"""

import ctypes
import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import products
import pytest
from cublaslt_on_host import CublasLtOnHost
from hypothesis import given
from hypothesis import strategies as st

from gpubp.errors import DeviceError
from gpubp.kernels.cuda import cublaslt
from gpubp.kernels.cuda.driver import Gemm

WORKSPACE = 1 << 20
PLAIN = Gemm(4, 8, 16, False, False, "float32", "float32")


@pytest.fixture(scope="module")
def library():
    try:
        return cublaslt.load()
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture
def host(library, monkeypatch):
    """Have products done by NumPy."""
    stand_in = CublasLtOnHost(library)
    monkeypatch.setattr(cublaslt, "load", lambda: stand_in)
    return stand_in


def aligned(array, offset=0):
    """Return a copy of an array at an address that is ``offset`` past a multiple of 256."""
    memory = np.zeros(array.nbytes + 512, np.uint8)
    start = -memory.ctypes.data % 256 + offset
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def run(product, at):
    addresses = [at[name].ctypes.data if name in at else 0 for name in ("a", "b", "c")]
    addresses += [at[name].ctypes.data if name in at else 0 for name in ("vector", "mask")]
    product.run(*addresses, workspace=0x100, stream=7)


@pytest.mark.parametrize("gemm", products.gemms(), ids=str)
def test_product_is_what_its_contract_says(host, gemm):
    product = cublaslt.Handle(WORKSPACE).product(gemm)
    if gemm.epilogue == "relu_delta_bias_grad" and gemm.dtype == "bfloat16":
        assert product is None  # the gradient would be wider than c, which the library has not
        return
    start = products.operands(gemm)
    at = {name: aligned(array) for name, array in start.items()}
    run(product, at)
    for name, wanted in products.expected(gemm, start).items():
        assert products.same(gemm, name, at[name], wanted), name


def test_workspace_and_stream_are_passed_on(host):
    product = cublaslt.Handle(WORKSPACE).product(PLAIN)
    run(product, {name: aligned(x) for name, x in products.operands(PLAIN).items()})
    assert host.ran == [(0x100, WORKSPACE, 7)]
    assert [asked["workspace"] for asked in host.asked] == [WORKSPACE]


def test_alignment_is_told_truthfully_and_asked_once(host):
    gemm = replace(PLAIN, epilogue="bias_relu", masked=True)
    product = cublaslt.Handle(WORKSPACE).product(gemm)
    start = products.operands(gemm)
    for offset in (0, 16, 16):
        at = {name: aligned(x, offset * (name == "b")) for name, x in start.items()}
        run(product, at)
        assert products.same(gemm, "c", at["c"], products.expected(gemm, start)["c"])
    assert [asked["alignments"] for asked in host.asked] == [[256] * 4, [16] * 4]
    assert [asked["bias"] for asked in host.asked] == [256, 16]
    assert [asked["mask"] for asked in host.asked] == [256, 16]


def test_no_algorithm_for_poorly_aligned_operands_is_an_error(host):
    product = cublaslt.Handle(WORKSPACE).product(PLAIN)
    host.count = 0
    at = {name: aligned(x, 4) for name, x in products.operands(PLAIN).items()}
    with pytest.raises(DeviceError, match="aligned to 4 bytes; align them to 256"):
        run(product, at)


@pytest.mark.parametrize(
    ("epilogue", "changes"),
    [
        ("", {"count": 0}),
        ("", {"state": 15}),
        ("", {"status": 15}),  # CUBLAS_STATUS_NOT_SUPPORTED
        ("bias", {"status": 15}),
        ("bias", {"status": 7}),  # CUBLAS_STATUS_INVALID_VALUE
    ],
)
def test_no_product_where_the_library_has_none(host, epilogue, changes):
    vars(host).update(changes)
    assert cublaslt.Handle(WORKSPACE).product(replace(PLAIN, epilogue=epilogue)) is None


@pytest.mark.parametrize(
    ("epilogue", "status", "name"),
    [("", 7, "CUBLAS_STATUS_INVALID_VALUE"), ("bias", 14, "CUBLAS_STATUS_INTERNAL_ERROR")],
)
def test_other_failures_are_errors_with_their_name(host, epilogue, status, name):
    host.status = status
    with pytest.raises(DeviceError, match=name):
        cublaslt.Handle(WORKSPACE).product(replace(PLAIN, epilogue=epilogue))


@pytest.mark.parametrize("axis", ["rows", "inner", "columns", "batch"])
def test_nothing_to_multiply_is_no_product(host, axis):
    empty = replace(PLAIN, **{axis: 0})
    assert cublaslt.is_empty(empty)
    assert cublaslt.Handle(WORKSPACE).product(empty) is None
    assert not host.asked


def test_wrong_attribute_is_an_error_with_its_name(library):
    description = cublaslt.Description(PLAIN)
    with pytest.raises(DeviceError, match=r"MatmulDescSetAttribute.* CUBLAS_STATUS_INVALID_VALUE"):
        description.operation.set(3, ctypes.c_int64(0))  # TRANSA has 4 bytes


def test_missing_library_says_what_to_install(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    with pytest.raises(DeviceError, match="pip install nvidia-cublas"):
        cublaslt.load.__wrapped__()


@given(st.lists(st.integers(0, 1 << 50)))
def test_alignment_divides_every_address(addresses):
    found = cublaslt.alignment_of(*addresses)
    assert found in [1 << bit for bit in range(9)]
    assert not any(address % found for address in addresses)
    assert found == 256 or any(address % (2 * found) for address in addresses)


# Names in cublasLt.h of the numbers in cublaslt.py.
NAMES = {
    "_TRANSPOSE_A": "CUBLASLT_MATMUL_DESC_TRANSA",
    "_TRANSPOSE_B": "CUBLASLT_MATMUL_DESC_TRANSB",
    "_EPILOGUE": "CUBLASLT_MATMUL_DESC_EPILOGUE",
    "_BIAS_POINTER": "CUBLASLT_MATMUL_DESC_BIAS_POINTER",
    "_AUX_POINTER": "CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER",
    "_AUX_LD": "CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD",
    "_BATCH_COUNT": "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT",
    "_BATCH_STRIDE": "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET",
    "_MOST_WORKSPACE": "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES",
}
EPILOGUES = {
    "": "DEFAULT", "bias": "BIAS", "bias_relu": "RELU_BIAS", "relu_delta": "DRELU",
    "relu_delta_bias_grad": "DRELU_BGRAD", "bias_grad": "BGRADA",
}  # fmt: skip


@pytest.fixture(scope="module")
def enums():
    """The header's enums by name, where NVIDIA's wheel is installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations) if spec else []
    headers = [path for folder in folders for path in Path(folder).glob("*/include/cublasLt.h")]
    if not headers:
        pytest.skip("cublasLt.h is not installed")
    text = headers[0].read_text(encoding="utf-8")
    found = {}
    for name, value in re.findall(r"^\s*(CUBLASLT_\w+) = ([^,/\n]+)", text, re.MULTILINE):
        terms = [found.get(t, t) for t in re.findall(r"\w+", value)]
        if all(str(term).isdigit() for term in terms):
            found[name] = np.bitwise_or.reduce([int(term) for term in terms])
    return found


def test_numbers_are_those_of_the_header(enums):
    for ours, theirs in NAMES.items():
        assert getattr(cublaslt, ours) == enums[theirs], ours
    for ours, theirs in EPILOGUES.items():
        assert cublaslt._EPILOGUES[ours] == enums[f"CUBLASLT_EPILOGUE_{theirs}"], ours
    masked = cublaslt._EPILOGUES["bias_relu"] | cublaslt._AUX
    assert masked == enums["CUBLASLT_EPILOGUE_RELU_AUX_BIAS"]
    wanted = [enums[f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_{x}_BYTES"] for x in "ABCD"]
    assert list(cublaslt._LEAST_ALIGNMENTS) == wanted
