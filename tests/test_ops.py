"""The eager door: two networks worked by hand, what ``out`` means, and what is refused."""

import inspect
import subprocess
import sys

import array_api_strict
import cases
import numpy as np
import oracles
import pytest

from gpubp import ops
from gpubp.errors import InputError, OperandError
from gpubp.kernels.spec import KERNELS

NUMBA = {"backend": "numba"}
LIBRARIES = {
    "numpy": (np.asarray, {}),
    "numba": (np.asarray, NUMBA),
    "strict": (array_api_strict.asarray, {}),
}

every_library = pytest.mark.parametrize(("array", "how"), LIBRARIES.values(), ids=LIBRARIES)
both_backends = pytest.mark.parametrize("how", [{}, NUMBA], ids=["numpy", "numba"])


def numbers(x):
    return np.asarray(x).ravel()


@every_library
def test_one_neuron_worked_by_hand(array, how):
    """z, output, loss, gradient and one step at rate 0.01."""
    x, w, b = array([[0.1, 0.3]]), array([[0.5], [0.2]]), array([1.83])
    z = ops.bias_add(ops.matmul(x, w, **how), b, **how)
    a = ops.sigmoid(z, **how)
    loss, da = ops.squared_error(a, array([[0.03]]), **how)
    dw = ops.matmul(x, ops.sigmoid_delta(da, a, **how), transpose_a=True, **how)
    np.testing.assert_allclose(numbers(z), [1.94], rtol=1e-15)
    np.testing.assert_allclose(numbers(a), [0.874352143], atol=5e-10)
    np.testing.assert_allclose(numbers(loss), [0.356465271], atol=5e-10)
    np.testing.assert_allclose(numbers(dw), [0.009276093, 0.027828278], atol=5e-10)
    params = array(numbers(w))
    ops.sgd(array(numbers(dw)), 0.01, params, **how)
    np.testing.assert_allclose(numbers(params), [0.49990723907, 0.1997217172], atol=5e-11)


@every_library
def test_two_layers_worked_by_hand(array, how):
    x, t = array([[0.05, 0.10]]), array([[0.01]])
    w1, b1 = array([[0.15, 0.25], [0.20, 0.30]]), array([0.35, 0.35])
    w2, b2 = array([[0.40], [0.45]]), array([0.50])
    z1 = ops.bias_add(ops.matmul(x, w1, **how), b1, **how)
    a1 = ops.sigmoid(z1, **how)
    a2 = ops.bias_sigmoid(ops.matmul(a1, w2, **how), b2, **how)
    loss, da2 = ops.squared_error(a2, t, **how)
    dz2, db2 = ops.sigmoid_delta_bias_grad(da2, a2, **how)
    da1 = ops.matmul(dz2, w2, transpose_b=True, **how)
    dz1 = ops.sigmoid_delta(da1, a1, **how)
    dw2 = ops.matmul(a1, dz2, transpose_a=True, **how)
    np.testing.assert_allclose(numbers(z1), [0.3775, 0.3925], rtol=1e-15)
    np.testing.assert_allclose(numbers(a2), [0.7322181764], atol=5e-11)
    np.testing.assert_allclose(numbers(loss), [0.2607995472], atol=5e-11)
    np.testing.assert_allclose(numbers(dz2), [0.1416087257], atol=5e-11)
    np.testing.assert_allclose(numbers(db2), numbers(dz2))
    np.testing.assert_allclose(numbers(dz1), [0.0136681143, 0.0153328317], atol=5e-11)
    params = array(numbers(w2))
    ops.sgd(array(numbers(dw2)), 0.01, params, **how)
    np.testing.assert_allclose(numbers(params), [0.3991598779, 0.4491547596], atol=5e-11)


def through_the_door(call, **how):
    """Run a call through ops: what ops makes is left out, except where it cannot be inferred."""
    parameters = inspect.signature(getattr(ops, call.kernel.name)).parameters
    inputs = {name: x for name, x in call.named.items() if name in parameters}
    if call.kernel.name == "put_rows":
        how = how | {"out": call.named["out"]}
    elif "out" in parameters:
        outputs = [o.name for o in call.kernel.outputs]
        taken = {k: call.named[k] for k in outputs if k not in inputs or k == "out"}
        how = how | {
            "out": next(iter(taken.values())) if len(taken) == 1 else tuple(taken.values())
        }
        inputs.pop("out", None)
    return getattr(ops, call.kernel.name)(**(inputs | call.scalars | how))


@both_backends
@pytest.mark.parametrize("variant", cases.VARIANTS, ids=str)
def test_every_kernel_has_its_door(variant, how):
    """With every output given: it is written to, and returned."""
    call = variant.call("float64", "three")
    expected = oracles.expected(call)
    result = through_the_door(call, **how)
    for name, array in call.written.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-12, atol=1e-13)
    returned = result if isinstance(result, tuple) else () if result is None else (result,)
    given = [None, *call.written.values()]
    assert all(any(array is x for x in given) for array in returned)


INFERRED = [
    name
    for name, kernel in KERNELS.items()
    if "out" in inspect.signature(getattr(ops, name)).parameters
    and kernel.family not in ("data", "random")
    and name != "round_bfloat16"  # which NumPy can't make
]


@every_library
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", INFERRED)
def test_outputs_that_are_left_out_are_made(name, dtype, array, how):
    call = cases.Variant(KERNELS[name]).call(dtype, "three")
    door = getattr(ops, name)
    inputs = [n for n in inspect.signature(door).parameters if n in call.named and n != "out"]
    for key in ("loss", "total", "count"):
        if key in call.named:
            call.named[key][...] = 0  # a sum that is made starts at 0
    expected = oracles.expected(call)
    result = door(**{n: array(call.named[n]) for n in inputs}, **call.scalars, **how)
    outputs = [o.name for o in KERNELS[name].outputs if o.name not in inputs]
    for key, got in zip(outputs, result if len(outputs) > 1 else [result], strict=True):
        if KERNELS[name].index[key].optional:
            assert got is None
            continue
        assert isinstance(got, type(array([0.0])))
        assert np.asarray(got).dtype == call.named[key].dtype
        assert got.shape == call.named[key].shape
        np.testing.assert_allclose(np.asarray(got), expected[key], rtol=4e-6, atol=4e-5)


@both_backends
def test_out_is_written_to_and_returned(how):
    z = np.array([[-1.0, 2.0]])
    out = np.full((1, 2), 9.0)
    assert ops.relu(z, out=out, **how) is out
    np.testing.assert_array_equal(out, [[0, 2]])
    assert ops.relu(z, out=z, **how) is z
    np.testing.assert_array_equal(z, out)


@both_backends
def test_a_sum_that_is_given_is_added_to(how):
    z, t = np.array([[1.0]]), np.array([[3.0]])
    loss = np.array([10.0])
    total, dz = ops.squared_error(z, t, out=(loss, None), **how)
    assert total is loss
    assert loss == 12
    assert dz == -2
    c = np.array([[1.0]])
    assert ops.matmul(z, t, accumulate=True, out=c, **how) == 4


@both_backends
def test_numbers_stand_for_arrays_of_one(how):
    grads, params = np.array([1.0, 2.0]), np.array([0.0, 0.0])
    assert ops.sgd(grads, 0.5, params, **how) is None
    np.testing.assert_array_equal(params, [-0.5, -1])
    x = np.ones(20)
    y = ops.dropout(x, 3, 4, rate=0.5, stream=0, **how)
    arrays = ops.dropout(x, np.array([3]), np.array([4]), rate=0.5, stream=0, **how)
    np.testing.assert_array_equal(y, arrays)


@every_library
def test_scalars_may_be_of_numpy(array, how):
    z = array(np.array([-1.0], np.float32))
    a = ops.leaky_relu(z, alpha=np.float64(0.5), **how)
    assert np.asarray(a).dtype == np.float32
    assert float(a[0]) == -0.5


def spy(monkeypatch):
    """Record which kernels run in Numba."""
    from gpubp.kernels.numba import eager  # noqa: PLC0415

    ran = []
    run = eager.run
    monkeypatch.setattr(eager, "run", lambda name, *rest: (ran.append(name), run(name, *rest)))
    return ran


def test_the_backend_is_chosen_by_argument_block_or_setting(monkeypatch):
    ran = spy(monkeypatch)
    z = np.ones((1, 1))
    ops.relu(z)
    assert not ran
    ops.relu(z, backend="numba")
    with ops.use_backend("numba"):
        ops.tanh(z)
        ops.relu(z, backend="numpy")
        with ops.use_backend("numpy"):
            ops.relu(z)
        ops.relu(array_api_strict.asarray([1.0]))  # the setting is for NumPy arrays
    ops.relu(z)
    assert ran == ["relu", "tanh"]


def test_the_setting_lasts_and_survives_an_error(monkeypatch):
    ran = spy(monkeypatch)
    setting = ops.use_backend("numba")
    ops.relu(np.ones(1))
    with pytest.raises(OperandError), ops.use_backend("numpy"):
        ops.relu([1.0])
    ops.relu(np.ones(1))
    setting.__exit__(None, None, None)
    ops.relu(np.ones(1))
    assert ran == ["relu", "relu"]


def test_cupy_arrays_run_in_cuda_unless_the_reference_is_asked_for(monkeypatch):
    ran = []
    monkeypatch.setattr(ops, "is_cupy_namespace", lambda xp: xp is array_api_strict)
    monkeypatch.setattr(ops, "_run_cuda", lambda kernel, *rest: ran.append(kernel.name))
    z = array_api_strict.asarray([-1.0, 2.0])
    ops.relu(z)
    assert list(ops.tanh(z, backend="reference")) == pytest.approx(np.tanh([-1.0, 2.0]))
    with ops.use_backend("reference"):
        assert list(ops.relu(z)) == [0, 2]
    with ops.use_backend("numba"):  # which is for NumPy arrays
        ops.sigmoid(z)
    with pytest.raises(OperandError, match="backend='numba' chooses for NumPy arrays"):
        ops.relu(z, backend="numba")
    assert ran == ["relu", "sigmoid"]


def test_the_reference_can_be_asked_for_everywhere():
    z = np.array([-1.0, 2.0])
    for array in (np.asarray, array_api_strict.asarray):
        assert list(ops.relu(array(z), backend="reference")) == [0, 2]


@both_backends
def test_bfloat16_is_read_and_written_and_summed_in_float32(how):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    dz = np.full((1000, 2), 1.0, bfloat16)  # whose sum has more digits than bfloat16
    db = ops.bias_grad(dz, **how)
    assert (db.dtype, db.tolist()) == (np.float32, [1000, 1000])
    dw = ops.matmul(dz, dz, transpose_a=True, out=np.empty((2, 2), np.float32), **how)
    assert dw.tolist() == [[1000, 1000], [1000, 1000]]
    assert ops.relu(dz, **how).dtype == bfloat16
    loss, dout = ops.squared_error(
        np.full((3, 1), 1.001, np.float32), np.ones((3, 1), np.float32),
        out=(None, np.empty((3, 1), bfloat16)), **how,
    )  # fmt: skip
    assert dout.dtype == bfloat16
    assert loss == pytest.approx(1.5e-6, rel=1e-3)  # the logits were not rounded


def test_any_layout_is_read_in_numpy_and_refused_in_numba():
    z = np.arange(-6.0, 6.0).reshape(3, 4)
    np.testing.assert_array_equal(ops.relu(z.T), ops.relu(z).T)
    out = np.zeros((4, 3)).T
    assert ops.relu(z, out=out) is out
    np.testing.assert_array_equal(out, ops.relu(z))
    for other in (z.T, z.astype(">f8"), np.frombuffer(b"0" * 9, np.uint8)[1:].view(np.float64)):
        with pytest.raises(OperandError, match=r"'z' is not C-contiguous.*numpy\.require"):
            ops.relu(other, backend="numba")
    with pytest.raises(OperandError, match="'a' is not C-contiguous"):
        ops.relu(z, out=out, backend="numba")


def test_neighbours_in_one_array_do_not_overlap():
    both = np.array([[-1.0, 0.0], [2.0, 0.0]])
    ops.relu(both[:, 0], out=both[:, 1])
    np.testing.assert_array_equal(both[:, 1], [0, 2])


Z, SQUARE = np.ones((3, 2)), np.ones((2, 2))
FLAT = np.ones(8)
LABELS = np.array([0, 1, 1])
LOCKED = np.ones((3, 2))
LOCKED.flags.writeable = False

REFUSED = {
    "a list": (lambda how: ops.relu([1.0], **how), r"z: builtins\.list; convert"),
    "a number": (lambda how: ops.relu(1.0, **how), "needs arrays"),
    "nothing": (lambda how: ops.relu(None, **how), "needs arrays"),
    "one missing": (lambda how: ops.bias_add(Z, None, **how), "'b' is missing"),
    "two libraries": (
        lambda how: ops.bias_add(Z, array_api_strict.ones(2), **how),
        r"one library.*z: numpy\.ndarray, b: array_api_strict",
    ),
    "integers": (
        lambda how: ops.relu(LABELS, **how),
        "dtype int64, needs float32 or float64 or bfloat16",
    ),
    "half precision": (lambda how: ops.relu(Z.astype("f2"), **how), "float16"),
    "two precisions": (
        lambda how: ops.bias_add(Z, np.ones(2, "f4"), **how),
        "'b' has dtype float32, needs float64",
    ),
    "a shape": (
        lambda how: ops.bias_add(Z, np.ones(3), **how),
        r"'b' needs shape \(O\) with O = 2",
    ),
    "a rank": (lambda how: ops.softmax(np.ones(3), **how), r"needs shape \(B, K\), got \(3,\)"),
    "inner lengths": (lambda how: ops.matmul(Z, Z, **how), "with I = 2"),
    "inner lengths of transposes": (
        lambda how: ops.matmul(Z, SQUARE, transpose_a=True, **how),
        "with I = 3",
    ),
    "out of another shape": (lambda how: ops.relu(Z, out=np.ones(6), **how), r"'a' needs shape"),
    "out of another dtype": (
        lambda how: ops.relu(Z, out=np.ones((3, 2), "f4"), **how),
        "'a' has dtype float32, needs float64",
    ),
    "out that is locked": (lambda how: ops.relu(Z, out=LOCKED, **how), "'a' is read-only"),
    "out that is no array": (lambda how: ops.relu(Z, out=[1.0], **how), "a: builtins.list"),
    "out that is a number": (lambda how: ops.relu(Z, out=1.0, **how), "'a' is the number 1.0"),
    "one out for two": (
        lambda how: ops.squared_error(Z, Z, out=np.ones((3, 2)), **how),
        r"tuple of arrays or None for \(loss, dz\), got ndarray",
    ),
    "too many outs": (
        lambda how: ops.squared_error(Z, Z, out=(None, None, None), **how),
        "tuple of arrays",
    ),
    "out over an input": (
        lambda how: ops.matmul(SQUARE, SQUARE, out=SQUARE, **how),
        "'c' overlaps 'a' in memory.*same array: none",
    ),
    "out over part of an input": (
        lambda how: ops.relu(FLAT[:-1], out=FLAT[1:], **how),
        "'a' overlaps 'z' in memory; .*same array: z and a",
    ),
    "two outputs in one place": (
        lambda how: ops.squared_error(
            np.ones((1, 1)), np.ones((1, 1)), out=(FLAT[:1], FLAT[:1].reshape(1, 1)), **how
        ),
        "'loss' overlaps 'dz'",
    ),
    "an update over an input": (lambda how: ops.add(FLAT, FLAT, **how), "'y' overlaps 'x'"),
    "accumulation into nothing": (
        lambda how: ops.matmul(SQUARE, SQUARE, accumulate=True, **how),
        "pass it as out",
    ),
    "an output of unknown length": (
        lambda how: ops.take_rows(Z, np.array([0]), **how),
        r"the shape \(B, \.\.\.\) and dtype of 'x' do not follow",
    ),
    "a seed that is not whole": (
        lambda how: ops.dropout(FLAT, 1.5, 0, rate=0.5, stream=0, **how),
        "1.5",
    ),
    "a label too large": (
        lambda how: ops.softmax_cross_entropy(Z, np.array([0, 1, 2]), **how),
        "label 2 is out of bounds, needed is 0 to 1",
    ),
    "a negative label": (
        lambda how: ops.count_correct(Z, np.array([0, 1, -1]), **how),
        "label -1 is out of bounds",
    ),
    "rows past the end": (
        lambda how: ops.take_rows(Z, 2, out=np.ones((2, 2)), **how),
        "row 3 is out of bounds, needed is 0 to 2",
    ),
    "rows before the start": (
        lambda how: ops.put_rows(np.ones((1, 2)), np.array([-1]), Z.copy(), **how),
        "row -1 is out of bounds",
    ),
    "a scalar out of its range": (
        lambda how: ops.dropout(Z, 0, 0, rate=1.0, stream=0, **how),
        "scalar 'rate' must be a finite number at least 0 and below 1, got 1.0",
    ),
    "a mask of another length": (
        lambda how: ops.matmul_relu_delta(SQUARE, SQUARE, np.zeros((2, 1), "u1"), **how),
        r"'mask' needs shape \(B, M\) with M = 16, got \(2, 1\)",
    ),
    "a norm of nothing": (
        lambda how: ops.sgd_update(FLAT.copy(), 0.1, FLAT.copy(), clip_norm=1.0, **how),
        "sgd_update: clip_norm divides by a norm; pass its squares",
    ),
    "a dtype that NumPy cannot make": (
        lambda how: ops.round_bfloat16(FLAT, **how),
        "has no dtype bfloat16 to make the output of; pass an array of it as out",
    ),
    "a permutation of more": (
        lambda how: ops.gather(Z, np.array([0, 3]), 0, out=np.ones((2, 2)), **how),
        "permutation 3 is out of bounds",
    ),
    "a step past the schedule": (
        lambda how: ops.rate(FLAT, 8, 0, **how),
        "step - start 8 is out of bounds, needed is 0 to 7",
    ),
}


@both_backends
@pytest.mark.parametrize(("attempt", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(attempt, message, how):
    with pytest.raises(OperandError, match=message):
        attempt(how)


@both_backends
def test_a_label_that_the_mask_leaves_out_may_be_anything(how):
    mask = np.array([True, False, True])
    loss, _ = ops.softmax_cross_entropy(Z, np.array([0, -100, 1]), mask=mask, **how)
    np.testing.assert_allclose(loss, 2 * np.log(2))


def test_names_that_are_wrong():
    with pytest.raises(InputError, match="unknown backend 'nunba'; did you mean 'numba'"):
        ops.relu(Z, backend="nunba")
    with pytest.raises(InputError, match="unknown backend 'cuda'"):
        ops.use_backend("cuda")
    with pytest.raises(OperandError, match="backend='numba' chooses for NumPy arrays"):
        ops.relu(array_api_strict.ones(2), backend="numba")
    with pytest.raises(TypeError, match="missing a required argument: 't'"):
        ops.squared_error(Z)
    with pytest.raises(TypeError, match="unexpected keyword argument 'alfa'"):
        ops.elu(Z, alfa=2.0)
    with pytest.raises(AttributeError, match="rellu"):
        _ = ops.rellu


def test_arrays_that_cannot_be_written_to_are_refused():
    fixed = np.ones(3)
    fixed.flags.writeable = False
    with pytest.raises(OperandError, match="relu: 'a' is read-only; pass a copy"):
        ops.relu(np.ones(3), out=fixed)
    jax = pytest.importorskip("jax")
    z = jax.numpy.ones(3)
    for how in ({}, {"out": z}):
        with pytest.raises(
            OperandError, match=r"'a' would be an array of jax.numpy, none .*asarray"
        ):
            ops.relu(z, **how)


def test_torch_tensors_run_in_torch():
    torch = pytest.importorskip("torch")
    z = torch.tensor([-1.0, 2.0])
    a = ops.relu(z)
    assert isinstance(a, torch.Tensor)
    assert a.tolist() == [0, 2]


@pytest.mark.parametrize("name", KERNELS)
def test_help_tells_the_contract(name):
    kernel, door = KERNELS[name], getattr(ops, name)
    text = inspect.getdoc(door)
    flat = " ".join(text.split())
    assert " ".join(kernel.formula.split()) in flat
    assert kernel.source in flat
    for operand in kernel.operands:
        assert f"{operand.name}: shape ({', '.join(operand.axes)})" in text
    for scalar in kernel.scalars:
        assert scalar.name in inspect.signature(door).parameters
    assert "OperandError" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_the_module_lists_its_kernels_and_nothing_else():
    assert dir(ops) == sorted([*KERNELS, "use_backend"])


def test_importing_the_door_imports_no_compiler():
    code = "import sys, gpubp.ops; print(sorted({'numba', 'llvmlite', 'cupy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
