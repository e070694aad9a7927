"""Properties of the table of contracts, and of the check of a call against one."""

import ast
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp.errors import InputError, OperandError
from gpubp.kernels import spec
from gpubp.kernels.contract import (
    REAL_DTYPES,
    WIDE,
    Kernel,
    Operand,
    Scalar,
    dtype_name,
    mask_bytes,
)
from gpubp.kernels.spec import ACTIVATIONS, ELEMENTWISE, KERNELS

every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


@every_kernel
def test_a_contract_is_well_formed(kernel):
    names = [operand.name for operand in kernel.operands] + [s.name for s in kernel.scalars]
    assert KERNELS[kernel.name] is kernel
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in (kernel.name, kernel.module, *names))
    assert kernel.outputs
    assert kernel.formula
    for operand in kernel.operands:
        assert operand.dtype in {"float", "wide", "either", "real", "bfloat16", *REAL_DTYPES}
        assert operand.axes
        assert "..." not in operand.axes[:-1]
        assert operand.mode == "overwrite" or not (operand.written and operand.optional)
        assert not operand.transpose or operand.transpose in names


@every_kernel
def test_nothing_that_is_only_read_comes_after_an_output(kernel):
    made = [operand.mode in ("overwrite", "accumulate") for operand in kernel.operands]
    assert made == sorted(made)
    assert kernel.operands[-1].written


@every_kernel
def test_aliases_are_of_one_shape_and_dtype(kernel):
    for source, target in kernel.inplace:
        read, written = kernel.index[source], kernel.index[target]
        assert read.mode == "read"
        assert written.mode == "overwrite"
        assert read.axes == written.axes
        assert set(read.dtypes()) >= set(written.dtypes())


@every_kernel
def test_what_is_saved_is_there(kernel):
    assert set(kernel.saved) <= set(kernel.index)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_a_delta_that_reads_what_was_saved(name):
    forward, delta = KERNELS[name], KERNELS[f"{name}_delta"]
    reads = [operand.name for operand in delta.operands if not operand.written]
    assert reads == ["da", *forward.saved]
    assert delta.scalars == forward.scalars


@pytest.mark.parametrize("name", [name for name in ELEMENTWISE if name != "identity"])
def test_an_elementwise_activation_has_its_fused_passes(name):
    plain, biased = KERNELS[name], KERNELS[f"bias_{name}"]
    assert biased.saved == plain.saved
    assert biased.scalars == plain.scalars
    assert all(biased.index[saved].written for saved in biased.saved)  # it holds the bias then
    delta = KERNELS[f"{name}_delta_bias_grad"]
    assert [operand.name for operand in delta.outputs] == ["dz", "db"]
    assert delta.scalars == plain.scalars
    both = KERNELS[f"bias_{name}_dropout"], KERNELS[f"{name}_dropout_delta_bias_grad"]
    for alone, dropped in zip((biased, delta), both, strict=True):
        assert dropped.scalars == alone.scalars + KERNELS["dropout"].scalars
        assert {*alone.index} - {"da"} <= {*dropped.index}


@pytest.mark.parametrize("name", [n for n in KERNELS if n.endswith("_update")])
def test_an_update_takes_what_its_optimizer_takes_and_more(name):
    alone, whole = KERNELS[name.removesuffix("_update")], KERNELS[name]
    assert [o.name for o in whole.operands if o.name in alone.index] == [*alone.index]
    assert {*whole.index} - {*alone.index} == {"squares", "rounded"}
    assert whole.scalars[: len(alone.scalars)] == alone.scalars


def test_signatures_read_as_calls():
    assert KERNELS["relu"].signature() == "relu(z[...], -> a[...])"
    assert KERNELS["sgd"].signature() == "sgd(grads[P], lr[1], <> params[P])"
    assert KERNELS["huber"].signature() == (
        "huber(z[B,K], t[B,K], weights[B]?, mask[B,K]?, +> loss[1], -> dz[B,K], "
        "threshold=1.0, scale=1.0)"
    )


def test_an_unknown_kernel_is_named_with_the_nearest():
    with pytest.raises(InputError, match="unknown kernel 'rellu'; did you mean 'relu'"):
        spec.kernel("rellu")


@pytest.mark.parametrize("name", ["spec.py", "contract.py"])
def test_the_contracts_know_no_array_library(name):
    tree = ast.parse((Path(spec.__file__).parent / name).read_text(encoding="utf-8"))
    imported = {
        module.partition(".")[0]
        for node in ast.walk(tree)
        for module in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert not imported & {"numpy", "numba", "cupy", "scipy", "array_api_compat"}
    assert "gpubp" in imported


PAIR = Kernel(
    "pair",
    "data",
    (
        Operand("x", ("B", "...")),
        Operand("w", ("B", "2"), transpose="flip"),
        Operand("ids", ("B",), "int64", optional=True),
        Operand("y", ("...",), mode="overwrite"),
        Operand("total", ("1",), "float64", "accumulate"),
    ),
    "",
    (Scalar("flip", "bool", False), Scalar("k", "int")),
)
X, W, Y, TOTAL = np.ones((3, 4, 5)), np.ones((3, 2)), np.ones((4, 5)), np.ones(1)


def test_binding_gives_the_length_of_each_axis():
    assert PAIR.bind([X, W, None, Y, TOTAL], {"k": 1}) == {"B": 3, "...": (4, 5)}
    assert PAIR.bind([X, W.T, None, Y, TOTAL], {"k": 1, "flip": True})["B"] == 3


def test_outputs_are_inferred_from_the_rest():
    total = {"total": ((1,), "float64")}
    assert PAIR.infer([X, W, None, None, None], {"k": 1}) == {"y": ((4, 5), "float64")} | total
    assert PAIR.infer([X, W, None, Y, None], {"k": 1}) == total
    with pytest.raises(OperandError, match="'y' do not follow"):
        PAIR.infer([None, W, None, None, None], {"k": 1})


@pytest.mark.parametrize(
    ("operands", "scalars", "message"),
    [
        ([X, W], {"k": 1}, "pair takes 5 operands, got 2"),
        ([X, None, None, Y, TOTAL], {"k": 1}, "operand 'w' is missing"),
        ([X, W, None, Y, TOTAL], {}, "scalar 'k' must be given"),
        ([X, W, None, Y, TOTAL], {"k": 1, "j": 2}, r"no scalar 'j'; it has \['flip', 'k'\]"),
        ([X, W.T, None, Y, TOTAL], {"k": 1}, r"'w' needs shape \(B, 2\) with B = 3, got \(2, 3\)"),
        ([X, W, None, Y, TOTAL], {"k": 1, "flip": True}, r"'w' needs shape \(2, B\)"),
        ([X, np.ones((3, 3)), None, Y, TOTAL], {"k": 1}, "with 2 = 2, got"),
        ([X, W[0], None, Y, TOTAL], {"k": 1}, r"'w' needs shape \(B, 2\), got \(2,\)"),
        ([X, W, None, Y.T, TOTAL], {"k": 1}, r"with \.\.\. = \(4, 5\), got \(5, 4\)"),
        ([X, W.astype("f4"), None, Y, TOTAL], {"k": 1}, "'w' has dtype float32, needs float64"),
        ([X, W, np.ones(3, "i4"), Y, TOTAL], {"k": 1}, "'ids' has dtype int32, needs int64"),
        ([X, W, None, Y, TOTAL.astype("f4")], {"k": 1}, "'total' has dtype float32, needs float64"),
    ],
)
def test_binding_refuses_what_breaks_the_contract(operands, scalars, message):
    with pytest.raises(OperandError, match=message):
        PAIR.bind(operands, scalars)


class Like:
    """What a contract asks of an array."""

    def __init__(self, dtype, *shape):
        self.dtype, self.shape = dtype, shape


MIXED = Kernel(
    "mixed",
    "data",
    (
        Operand("z", ("B",), "either"),
        Operand("t", ("B",), "wide"),
        Operand("dz", ("B",), mode="overwrite"),
        Operand("total", ("1",), "wide", "overwrite"),
        Operand("kept", ("B",), "uint8", "overwrite", optional=True),
    ),
    "",
)


def mixed(*dtypes):
    """Return operands of these dtypes, None for ""."""
    lengths = (3, 3, 3, 1, 3)
    return [Like(d, n) if d else None for d, n in zip(dtypes, lengths, strict=True)]


@pytest.mark.parametrize(
    ("z", "dz", "wide"),
    [
        ("float32", "float32", "float32"),
        ("float64", "float64", "float64"),
        ("bfloat16", "bfloat16", "float32"),
        ("float32", "bfloat16", "float32"),
    ],
)
def test_what_is_wide_follows_from_the_working_dtype(z, dz, wide):
    operands = mixed(z, wide, dz, wide, "uint8")
    assert MIXED.bind(operands, {}) == {"B": 3}
    assert MIXED.working_dtype(operands) == dz
    for place in range(3):
        for other in {"float32", "float64", "bfloat16", "int64"} - {z, wide, dz}:
            wrong = [*operands]
            wrong[place] = Like(other, 3)
            if place == 2 and WIDE.get(other) == wide:
                continue  # bfloat16 beside float32
            with pytest.raises(OperandError, match="convert it first"):
                MIXED.bind(wrong, {})


def test_without_a_float_operand_the_working_dtype_is_that_of_either():
    for z, wide in WIDE.items():
        made = MIXED.infer(mixed(z, wide, "", "", ""), {})
        assert made == {"dz": ((3,), z), "total": ((1,), wide)}  # and not what is optional


def test_without_either_it_is_not_known():
    assert MIXED.working_dtype(mixed("", "float32", "", "float32", "")) == ""
    with pytest.raises(OperandError, match="'dz' do not follow"):
        MIXED.infer(mixed("", "float32", "", "", ""), {})
    with pytest.raises(OperandError, match="'t' has dtype bfloat16, needs float32 or float64; "):
        MIXED.infer(mixed("", "bfloat16", "", "", ""), {})


@pytest.mark.parametrize(("columns", "length"), [(0, 0), (1, 16), (128, 16), (129, 32)])
def test_the_length_of_a_mask_follows_from_its_bits(columns, length):
    assert mask_bytes(columns) == length
    kernel = KERNELS["matmul_relu_delta"]
    a, b, c = Like("float32", 2, 3), Like("float32", 3, columns), Like("float32", 2, columns)
    kernel.bind([a, b, Like("uint8", 2, length), c], {})
    with pytest.raises(OperandError, match=f"with M = {length}, got"):
        kernel.bind([a, b, Like("uint8", 2, length + 16), c], {})


lengths = st.integers(0, 4)


@given(b=lengths, i=lengths, o=lengths, ta=st.booleans(), tb=st.booleans())
def test_inference_and_binding_agree(b, i, o, ta, tb):
    """A product has the shape that NumPy gives it, whatever is transposed."""
    x = np.ones((i, b) if ta else (b, i))
    y = np.ones((o, i) if tb else (i, o))
    flags = {"transpose_a": ta, "transpose_b": tb}
    shape, dtype = KERNELS["matmul"].infer([x, y, None], flags)["c"]
    assert shape == ((x.T if ta else x) @ (y.T if tb else y)).shape
    assert dtype == "float64"
    assert KERNELS["matmul"].bind([x, y, np.empty(shape)], flags) == {"B": b, "I": i, "O": o}


@pytest.mark.parametrize("name", ["float32", "float64", "int64", "bool"])
def test_a_dtype_has_one_name_in_every_library(name):
    assert dtype_name(np.dtype(name)) == name
    assert dtype_name(getattr(array_api_strict, name)) == name


def test_a_dtype_of_torch_has_that_name_too():
    torch = pytest.importorskip("torch")
    assert dtype_name(torch.float32) == "float32"
