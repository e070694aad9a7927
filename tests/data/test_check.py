"""The door checks: good arrays pass untouched, bad ones are refused with what and where."""

import tracemalloc
import warnings
from typing import ClassVar

import array_api_strict
import numpy as np
import pytest

from gpubp.backends.numba import NumbaBackend
from gpubp.backends.numpy import NumpyBackend
from gpubp.data import check
from gpubp.data.admit import admit
from gpubp.errors import CopyWarning, InputError

NAN, INF = float("nan"), float("inf")


def with_value(shape, index, value, dtype="float32"):
    array = np.ones(shape, dtype)
    array[index] = value
    return array


BAD_FEATURES = {
    "a list": ([[1.0]], "X is a list, not an array; pass np.asarray"),
    "None": (None, "X is a NoneType, not an array"),
    "another table": (type("Table", (), {"to_numpy": None})(), r"pass X\.to_numpy\(\)"),
    "a sparse matrix": (type("csr_array", (), {"toarray": None})(), r"pass X\.toarray\(\)"),
    "masked": (np.ma.ones((2, 2)), "masked array"),
    "a number": (np.array(3.0), "single number"),
    "one dimension": (np.ones(4), r"shape \(4,\).*reshape\(-1, 1\)"),
    "three dimensions": (np.ones((4, 2, 3)), r"shape \(4, 2, 3\).*X\.reshape\(4, -1\)"),
    "no rows": (np.ones((0, 3)), r"shape \(0, 3\): it needs a row"),
    "no columns": (np.ones((3, 0)), r"shape \(3, 0\): it needs a column"),
    "object": (np.ones((2, 2), object), "dtype object"),
    "complex": (np.ones((2, 2), complex), r"dtype complex128.*X\.real"),
    "float16": (np.ones((2, 2), "float16"), r"dtype float16.*astype\('float32'\)"),
    "text": (np.full((2, 2), "a"), "dtype str"),
    "dates": (np.zeros((2, 2), "M8[s]"), "dtype datetime64"),
    "NaN": (with_value((5, 3), (3, 1), NAN), "nan at row 3, column 1"),
    "infinity": (with_value((5, 3), (0, 2), INF, "float64"), "inf at row 0, column 2"),
    "minus infinity": (with_value((5, 3), (4, 0), -INF), "-inf at row 4, column 0"),
    "columns": (np.ones((5, 4)), "X has 4 columns, but the network takes 3"),
}

BAD_LABELS = {
    "a list": ([0, 1], "y is a list"),
    "two dimensions": (np.zeros((4, 3), int), r"shape \(4, 3\).*y\.argmax\(1\)"),
    "a column": (np.zeros((4, 1), int), r"shape \(4, 1\).*y\.reshape\(-1\)"),
    "too few": (np.array([0, 1, 0]), "y has 3 rows, but the data has 4"),
    "empty": (np.zeros(0, int), r"shape \(0,\): it needs a row"),
    "not integers": (np.array([0, 1, 0.5, 1]), "dtype float64.*squared_error"),
    "text": (np.array(["a", "b", "a", "b"]), "dtype str.*np.unique"),
    "object": (np.array([0, 1, 0, None]), "dtype object"),
    "complex": (np.zeros(4, complex), "dtype complex128"),
    "negative": (np.array([0, 1, -2, -1]), "-2 at row 2, but class ids start at 0"),
    "too large": (np.array([0, 3, 1, 7]), "3 at row 1, but with 3 classes.* 0 to 2"),
    "just too large": (np.array([0, 3, 1, 2]), "3 at row 1"),
    "beyond int64": (np.array([0, 1, 1, 2**64 - 1], "uint64"), "at row 3"),
}

BAD_VALUES = {
    "a list": ([0.0, 1.0], "y is a list"),
    "three dimensions": (np.ones((4, 1, 1)), r"shape \(4, 1, 1\)"),
    "too many": (np.ones(5), "y has 5 rows, but the data has 4"),
    "empty": (np.ones((0, 1)), "needs a row"),
    "no columns": (np.ones((4, 0)), "needs a column"),
    "columns": (np.ones((4, 2)), "y has 2 columns, but the network's output has 1"),
    "text": (np.full(4, "1.5"), "dtype str"),
    "complex": (np.ones(4, complex), "dtype complex128"),
    "NaN": (with_value(4, 2, NAN), "nan at row 2, column 0"),
    "infinity": (with_value((4, 1), (1, 0), -INF), "-inf at row 1, column 0"),
}

BAD_WEIGHTS = {
    "a list": ([1.0], "sample_weight is a list"),
    "two dimensions": (np.ones((4, 1)), r"shape \(4, 1\)"),
    "too few": (np.ones(3), "sample_weight has 3 rows, but the data has 4"),
    "text": (np.full(4, "1"), "dtype str"),
    "NaN": (with_value(4, 1, NAN), "nan at row 1"),
    "infinity": (with_value(4, 3, INF), "inf at row 3"),
    "negative": (with_value(4, 2, -0.5), "-0.5 at row 2"),
    "all zero": (np.zeros(4), "0 in every row"),
}


def table(cases):
    return pytest.mark.parametrize(("bad", "message"), cases.values(), ids=cases.keys())


@table(BAD_FEATURES)
def test_bad_features_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        check.features(bad, columns=3 if "columns" in message else None)


@table(BAD_LABELS)
def test_bad_labels_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        check.labels(bad, rows=4, classes=3)


def test_single_class_is_refused_only_where_classes_are_learned():
    y = np.full(4, 2)
    with pytest.raises(InputError, match="single class 2"):
        check.labels(y, rows=4)
    assert check.labels(y, rows=4, classes=3) is y


@table(BAD_VALUES)
def test_bad_targets_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        check.values(bad, rows=4, columns=1)


@table(BAD_WEIGHTS)
def test_bad_weights_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        check.weights(bad, rows=4)


def test_messages_use_the_given_name():
    with pytest.raises(InputError, match=r"^validation X has"):
        check.features(np.ones(3), name="validation X")


INTEGERS = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"]
REALS = ["float32", "float64", *INTEGERS]


@pytest.mark.parametrize("xp", [np, array_api_strict], ids=["numpy", "strict"])
class TestGoodArrays:
    @pytest.mark.parametrize("dtype", REALS)
    def test_features_are_returned_as_they_are(self, xp, dtype):
        X = xp.ones((5, 3), dtype=getattr(xp, dtype))
        assert check.features(X, columns=3) is X

    @pytest.mark.parametrize("dtype", INTEGERS)
    def test_labels_become_int64(self, xp, dtype):
        y = xp.astype(xp.asarray([0, 1, 1, 0]), getattr(xp, dtype))
        ids = check.labels(y, rows=4)
        assert ids.dtype == xp.int64
        assert (ids is y) == (dtype == "int64")
        assert [int(i) for i in ids] == [0, 1, 1, 0]

    @pytest.mark.parametrize("dtype", REALS)
    def test_values_become_a_float_matrix(self, xp, dtype):
        y = xp.astype(xp.asarray([0, 1, 1, 0]), getattr(xp, dtype))
        targets = check.values(y, rows=4, columns=1)
        assert targets.shape == (4, 1)
        assert targets.dtype == (xp.float32 if dtype == "float32" else xp.float64)
        assert [float(t) for t in targets[:, 0]] == [0, 1, 1, 0]

    @pytest.mark.parametrize("dtype", REALS)
    def test_weights_become_floats(self, xp, dtype):
        w = xp.astype(xp.asarray([0, 1, 1, 0]), getattr(xp, dtype))
        weights = check.weights(w, rows=4)
        assert (weights is w) == dtype.startswith("float")
        assert [float(i) for i in weights] == [0, 1, 1, 0]


@pytest.mark.parametrize("xp", [np, array_api_strict], ids=["numpy", "strict"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_the_first_bad_value_is_found_in_any_block(xp, value, monkeypatch):
    monkeypatch.setattr(check, "_BLOCK_BYTES", 64)
    for row in range(11):
        X = np.ones((11, 5), "float32")
        X[row:, 3] = value
        with pytest.raises(InputError, match=f"{value} at row {row}, column 3"):
            check.features(xp.asarray(X))


def test_huge_finite_values_pass():
    X = np.full((4, 4), np.finfo("float32").max, "float32")
    assert check.features(X) is X


def test_targets_are_views():
    y = np.arange(4.0)
    assert np.shares_memory(check.values(y, rows=4), y)
    y = np.ones((4, 2), "float32")
    assert check.values(y, rows=4) is y


def test_memmap_passes_untouched(tmp_path):
    X = np.memmap(tmp_path / "X.bin", "float32", "w+", shape=(100, 8))
    del X
    X = np.memmap(tmp_path / "X.bin", "float32", "r", shape=(100, 8))
    assert check.features(X) is X


def test_memory_stays_flat():
    X = np.zeros((1 << 16, 256), "float32")  # 64 MiB
    tracemalloc.start()
    try:
        check.features(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(
    "X",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(24.0).reshape(4, 6)[:, ::2],
        np.arange(12.0).reshape(4, 3).astype(">f8"),
        np.frombuffer(b"\0" + np.arange(12.0).tobytes(), offset=1).reshape(4, 3),
    ],
    ids=["transposed", "strided", "big-endian", "unaligned"],
)
def test_awkward_memory_is_copied_and_said(X):
    with pytest.warns(CopyWarning, match="^X is not a C-contiguous array") as record:
        copy = check.features(X)
    assert record[0].filename == __file__
    assert copy.flags.c_contiguous
    assert copy.flags.aligned
    assert copy.dtype == np.dtype("float64")
    np.testing.assert_array_equal(copy, X)


def test_awkward_targets_are_copied_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = check.values(np.arange(8.0)[::2], rows=4)
        w = check.weights(np.ones(8, ">f4")[::2], rows=4)
        ids = check.labels(np.array([0, 5, 1, 5])[::2], rows=2)
    for array in (y, w, ids):
        assert array.flags.c_contiguous
        assert array.dtype.isnative
    np.testing.assert_array_equal(y[:, 0], [0, 2, 4, 6])


class OnGpu:
    """What a GPU array shows of itself; nothing may read it."""

    __module__ = "cupy"

    def __init__(self, index=0):
        self.index = index

    @property
    def __cuda_array_interface__(self):
        raise AssertionError("its memory is not to be read")

    def __dlpack_device__(self):
        return 2, self.index

    def __dlpack__(self, **_):
        raise AssertionError("its memory is not to be read")


class Older:
    """One that knows no DLPack."""

    __module__ = "numba.cuda"
    __cuda_array_interface__: ClassVar = {"data": (64, False)}


class Kept(NumpyBackend):
    """A backend that takes the arrays of a GPU."""

    def adopt(self, array):
        return ("adopted", array)

    def holds(self, array):
        return True


class TestAdmission:
    @pytest.mark.parametrize(
        ("array", "remedy"),
        [
            (OnGpu(), r"X is a cupy array on a GPU.*device='cuda'.*cupy\.asnumpy\(X\)"),
            (Older(), r"X is a numba array on a GPU.*X\.copy_to_host\(\)"),
            (
                type("Tensor", (OnGpu,), {"__module__": "torch"})(),
                r"X is a torch array on a GPU.*X\.cpu\(\)\.numpy\(\)",
            ),
            (type("Array", (OnGpu,), {"__module__": "jaxlib"})(), r"np\.asarray\(X\)"),
        ],
    )
    @pytest.mark.parametrize("backend", [NumpyBackend(), NumbaBackend(1)])
    def test_the_cpu_refuses_arrays_of_a_gpu(self, array, remedy, backend):
        with pytest.raises(InputError, match=remedy):
            admit(array, backend, "X")

    def test_a_gpu_adopts_them(self):
        array = OnGpu()
        assert admit(array, Kept(), "X") == ("adopted", array)

    @pytest.mark.parametrize("thing", [None, [[1.0]], "text", 3])
    def test_what_is_no_array_is_left_to_the_other_checks(self, thing):
        assert admit(thing, Kept(), "X") is thing

    @pytest.mark.parametrize("backend", [NumpyBackend(), NumbaBackend(1)])
    def test_an_array_of_the_host_is_numpys_on_the_same_memory(self, backend):
        array = np.ones(3)
        assert admit(array, backend, "X") is array
        strict = array_api_strict.asarray(array, copy=False)
        assert np.shares_memory(admit(strict, backend, "X"), array)

    def test_a_dask_array_is_refused(self):
        array = type("Array", (), {"__module__": "dask.array.core"})()
        with pytest.raises(InputError, match=r"X is a dask array.*X\.compute\(\)"):
            admit(array, NumpyBackend(), "X")

    def test_frames_and_series_of_numbers_are_their_numbers(self):
        table = np.arange(6.0).reshape(3, 2)
        frame = type("DataFrame", (), {"to_numpy": lambda self: table})()
        assert admit(frame, NumpyBackend(), "X") is table

    def test_a_frame_of_texts_is_refused_by_its_columns(self):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"a": [1.0, 2.0], "town": ["Ulm", "Bonn"]})
        with pytest.raises(InputError, match=r"X is a DataFrame.*in column 'town' \("):
            admit(frame, NumpyBackend(), "X")
        np.testing.assert_array_equal(admit(frame["a"], NumpyBackend(), "X"), [1, 2])
        with pytest.raises(InputError, match="y is a Series"):
            admit(frame["town"], NumpyBackend(), "y")

    def test_a_library_that_hands_nothing_over_is_quoted(self):
        class Refusing(NumpyBackend):
            def adopt(self, array):
                raise BufferError("it is too strange")

        with pytest.raises(
            InputError, match=r"array_api_strict: it is too strange; pass np\.asarray\(X\)"
        ):
            admit(array_api_strict.ones(3), Refusing(), "X")


class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    def test_a_tensor_is_used_in_place(self, torch):
        X = torch.arange(12.0).reshape(4, 3)
        assert check.features(X) is X

    def test_one_that_is_not_contiguous_is_copied(self, torch):
        """Its address is all that a kernel gets: its strides would be lost."""
        X = torch.arange(12.0).reshape(3, 4).T
        with pytest.warns(CopyWarning, match=r"; X\.contiguous\(\) once, before"):
            copy = check.features(X)
        assert copy.is_contiguous()
        assert torch.equal(copy, X)
        assert check.values(X[:, 0], rows=4).is_contiguous()

    def test_a_gradient_would_be_lost(self, torch):
        X = torch.ones(4, 3, requires_grad=True)
        with pytest.raises(InputError, match=r"X is a tensor that requires a gradient.*X\.detach"):
            admit(X, NumpyBackend(), "X")

    def test_its_memory_is_read_where_it_is(self, torch):
        X = torch.arange(12.0).reshape(4, 3)
        assert admit(X, NumpyBackend(), "X").ctypes.data == X.data_ptr()

    @pytest.mark.parametrize(
        ("make", "remedy"),
        [
            (lambda torch: torch.ones(2, 2, dtype=torch.bfloat16), r"dtype bfloat16.*X\.float\(\)"),
            (lambda torch: torch.ones(2, 2, dtype=torch.float16), r"dtype float16.*X\.float\(\)"),
            (lambda torch: torch.eye(3).to_sparse(), r"sparse tensor; pass X\.to_dense\(\)"),
            (lambda torch: torch.ones(2, 2, device="meta"), "'meta', which holds no values"),
        ],
    )
    def test_tensors_without_values_to_read_are_refused(self, torch, make, remedy):
        with pytest.raises(InputError, match=remedy):
            admit(make(torch), NumpyBackend(), "X")


def test_the_checks_look_at_a_gpu_array_in_few_large_blocks(monkeypatch):
    """Each block is waited for there."""
    X = np.ones((1 << 14, 128), "float32")  # 8 MiB
    seen = []
    real = np.isfinite
    xp = check.array_namespace(X)
    monkeypatch.setattr(xp, "isfinite", lambda part: seen.append(part.shape) or real(part))
    for on_gpu, blocks in ((False, 2), (True, 1)):
        monkeypatch.setattr(check, "on_gpu", lambda array, answer=on_gpu: answer)
        seen.clear()
        check.features(X)
        assert len(seen) == blocks


def test_inputs_are_not_modified():
    X = np.arange(12.0).reshape(4, 3)
    X.flags.writeable = False
    check.features(X)
    check.values(X, rows=4)
    check.weights(X[:, 0], rows=4)
