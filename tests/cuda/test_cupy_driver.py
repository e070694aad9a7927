"""What every driver must do, on the stand-in and on a GPU where there is one; and CuPy's alone."""

import contextlib
import re
import sys
from dataclasses import replace

import numpy as np
import products
import pytest
from host_cuda.products import decode, encode, shapes
from hypothesis import given
from hypothesis import strategies as st

from gpubp.errors import DeviceError, DeviceMemoryError
from gpubp.kernels.cuda import cupy_driver, launch
from gpubp.kernels.cuda.driver import Gemm
from gpubp.kernels.spec import kernel

PLAIN = Gemm(24, 40, 136, False, False, "float32", "float32")

# Error allowed in the Euclidean norm, by the dtype of the result; and of operands in TF32.
ROUNDING = {"float64": 1e-14, "float32": 5e-6, "bfloat16": 4e-3}
TF32_ROUNDING = 2e-3


@pytest.fixture(scope="module")
def found():
    problem = cupy_driver.problem(0)
    if problem:
        pytest.skip(problem)
    return cupy_driver.CupyDriver(0)


@pytest.fixture
def gpu(found):
    with found.active():
        yield found


def ready(driver, gemm):
    product = driver.product(gemm)
    if product is None:
        pytest.skip("the library has no such product that lets NaN through")
    return product


def upload(driver, arrays):
    return {name: driver.upload(array) for name, array in arrays.items()}


def multiply(driver, product, at):
    names = ("a", "b", "c", "vector", "mask")
    addresses = [driver.address(at[name]) if name in at else 0 for name in names]
    driver.multiply(product, *addresses)


def start_kernel(driver, name, *arrays):
    made = launch.launch(kernel(name), [launch.place_of(driver, array) for array in arrays], {})
    driver.launch(driver.function(made.variant), made.grid, made.block, made.words)


def random_operands(gemm):
    rng = np.random.default_rng(5)
    return {
        name: encode(rng.standard_normal(shapes(gemm)[name][0]), dtype)
        for name, dtype in (("a", gemm.dtype), ("b", gemm.dtype), ("c", gemm.out_dtype))
    }


@pytest.mark.parametrize("gemm", products.gemms(), ids=str)
def test_product_is_exact_on_integers(driver, gemm):
    product = ready(driver, gemm)
    start = products.operands(gemm)
    at = upload(driver, start)
    multiply(driver, product, at)
    for name, wanted in products.expected(gemm, start).items():
        assert products.same(gemm, name, driver.download(at[name]), wanted), name


@pytest.mark.parametrize(("dtype", "out_dtype", "tf32"), products.PRECISIONS)
def test_product_is_as_precise_as_its_dtypes(driver, dtype, out_dtype, tf32):
    gemm = Gemm(96, 512, 200, False, False, dtype, out_dtype, tf32)
    start = random_operands(gemm)
    at = upload(driver, start)
    multiply(driver, ready(driver, gemm), at)
    a, b = (decode(start[name], dtype).astype(np.float64) for name in ("a", "b"))
    error = np.linalg.norm(decode(driver.download(at["c"]), out_dtype) - a @ b)
    assert error <= (TF32_ROUNDING if tf32 else ROUNDING[out_dtype]) * np.linalg.norm(a @ b)


def test_operands_need_no_more_alignment_than_their_elements(driver):
    start = random_operands(PLAIN)
    at = {name: driver.upload(np.r_[0, x.ravel()].astype(x.dtype)) for name, x in start.items()}
    driver.multiply(ready(driver, PLAIN), *(driver.address(x) + 4 for x in at.values()), 0, 0)
    wanted = start["a"].astype(np.float64) @ start["b"]
    result = driver.download(at["c"])[1:].reshape(wanted.shape)
    np.testing.assert_allclose(result, wanted, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("masked", [False, True])
def test_nan_comes_through_relu(driver, dtype, masked):
    gemm = replace(PLAIN, dtype=dtype, out_dtype=dtype, epilogue="bias_relu", masked=masked)
    product = ready(driver, gemm)
    start = products.operands(gemm)
    start["vector"] = encode(np.full(gemm.columns, np.nan), dtype)
    at = upload(driver, start)
    multiply(driver, product, at)
    assert np.isnan(decode(driver.download(at["c"]), dtype)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_mask_of_relu_is_read_by_its_delta(driver, dtype):
    forward = replace(PLAIN, dtype=dtype, out_dtype=dtype, epilogue="bias_relu", masked=True)
    backward = replace(forward, epilogue="relu_delta")
    one, other = ready(driver, forward), ready(driver, backward)
    at = upload(driver, products.operands(forward))
    multiply(driver, one, at)
    start = products.operands(backward)
    delta = upload(driver, start) | {"mask": at["mask"]}
    multiply(driver, other, delta)
    a = decode(driver.download(at["c"]), dtype)
    p = decode(start["a"], dtype).astype(np.float64) @ decode(start["b"], dtype)
    np.testing.assert_array_equal(decode(driver.download(delta["c"]), dtype), p * (a > 0))


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("axis", ["rows", "inner", "columns"])
def test_nothing_to_multiply(driver, axis, accumulate):
    gemm = replace(PLAIN, accumulate=accumulate, **{axis: 0})
    start = random_operands(gemm)
    at = upload(driver, start)
    multiply(driver, ready(driver, gemm), at)
    np.testing.assert_array_equal(driver.download(at["c"]), start["c"] * accumulate)


def test_replay_is_what_eager_execution_is(driver):
    """A product and kernels that read what others wrote: by hand, then as a graph."""
    gemm = replace(PLAIN, accumulate=True)
    product, start = ready(driver, gemm), random_operands(gemm)
    bias = np.linspace(-1, 1, gemm.columns, dtype=np.float32)

    def prepared():
        at = upload(driver, start | {"bias": bias, "out": start["c"]})

        def step():
            multiply(driver, product, at)
            start_kernel(driver, "bias_add", at["c"], at["bias"], at["out"])
            start_kernel(driver, "tanh", at["out"], at["c"])

        return at, step

    by_hand, step = prepared()
    for _ in range(3):
        step()
    replayed, step = prepared()
    step()  # libraries load their code, which a capture does not allow
    graph = driver.capture(step)
    once = driver.download(replayed["c"])
    graph.launch()
    graph.launch()
    driver.synchronize()
    assert not np.array_equal(once, driver.download(replayed["c"]))  # the capture ran nothing
    np.testing.assert_array_equal(driver.download(by_hand["c"]), driver.download(replayed["c"]))


def test_error_in_a_capture_leaves_the_driver_as_it_was(driver):
    def fail():
        raise ValueError("of the caller")

    with pytest.raises(ValueError, match="of the caller"):
        driver.capture(fail)
    driver.capture(lambda: None).launch()
    driver.synchronize()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "uint32"])
def test_zeros(driver, dtype):
    array = driver.zeros(1001, dtype)
    assert driver.address(array) % 256 == 0
    assert not driver.download(array).any()
    assert driver.zeros(0, dtype).shape == (0,)


def test_upload_is_in_rows(driver):
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    uploaded = driver.upload(array)
    assert uploaded.flags.c_contiguous
    np.testing.assert_array_equal(driver.download(uploaded), array)


def test_too_much_memory_is_an_error_with_the_figures(driver):
    with pytest.raises(DeviceMemoryError, match=r"needed.*free"):
        driver.zeros(1 << 50, "uint8")
    assert not driver.download(driver.zeros(16, "float32")).any()


def test_copy_beside_is_there_after_its_event(driver):
    target = driver.zeros(1 << 16, "float32")
    driver.synchronize()  # the copy waits for nothing
    source = driver.pinned((1 << 16,), "float32")
    source[...] = np.arange(1 << 16)
    done = driver.copy_beside(source, target)
    driver.after(done)
    out = driver.zeros(1 << 16, "float32")
    start_kernel(driver, "relu", target, out)
    np.testing.assert_array_equal(driver.download(out), source)
    done.wait()


def test_events_are_in_order(driver):
    marks = [driver.event() for _ in range(3)]
    marks[-1].wait()
    assert marks[1].seconds_since(marks[0]) >= 0
    assert marks[2].seconds_since(marks[0]) >= marks[1].seconds_since(marks[0])


def test_host_and_own_arrays_are_taken_as_they_are(driver):
    host = np.arange(3.0)
    assert driver.adopt(host) is host
    own = driver.upload(host)
    assert driver.adopt(own) is own
    np.testing.assert_array_equal(driver.download(own), host)


def test_host_arrays_of_others_are_not_copied(driver):
    torch = pytest.importorskip("torch")
    theirs = torch.arange(3.0)
    adopted = driver.adopt(theirs)
    assert isinstance(adopted, np.ndarray)
    assert adopted.ctypes.data == theirs.data_ptr()


def test_memory_is_back_after_many_launches(driver):
    start, gemm = random_operands(PLAIN), PLAIN

    def launches(count):
        at = upload(driver, start)
        graph = driver.capture(lambda: multiply(driver, product, at))
        for _ in range(count):
            multiply(driver, product, at)
            start_kernel(driver, "relu", at["c"], at["c"])
            graph.launch()
        driver.synchronize()

    product = ready(driver, gemm)
    launches(1)
    free, total = driver.memory()
    launches(1000 if not hasattr(driver, "machine") else 10)
    assert driver.memory() == (free, total)
    assert 0 < free <= total


def test_streams_take_turns_with_the_workspace(gpu):
    """Sums so long that the library splits them, and keeps the parts in its workspace."""
    gemm = Gemm(8, 1 << 18, 8, True, False, "float32", "float32")
    product, pairs = ready(gpu, gemm), []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        arrays = {name: rng.standard_normal(shapes(gemm)[name][0], np.float32) for name in "abc"}
        pairs.append((gpu.xp.cuda.Stream(non_blocking=True), upload(gpu, arrays)))
    gpu.synchronize()
    alone = []
    for _, at in pairs:
        multiply(gpu, product, at)
        alone.append(gpu.download(at["c"]))
    for _ in range(50):
        for stream, at in pairs:
            with stream:
                multiply(gpu, product, at)
    for (stream, at), wanted in zip(pairs, alone, strict=True):
        stream.synchronize()
        np.testing.assert_array_equal(gpu.download(at["c"]), wanted)


def test_device_arrays_of_others_are_not_copied(gpu):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    theirs = torch.arange(3.0, device="cuda:0")
    adopted = gpu.adopt(theirs)
    assert isinstance(adopted, gpu.xp.ndarray)
    assert gpu.address(adopted) == theirs.data_ptr()


def test_array_with_an_interface_alone_is_not_copied(gpu):
    class Theirs:
        def __init__(self, array):
            self.array = array
            self.__cuda_array_interface__ = array.__cuda_array_interface__

    own = gpu.upload(np.arange(3.0))
    assert gpu.address(gpu.adopt(Theirs(own))) == gpu.address(own)


def test_array_of_another_kind_of_device_is_refused():
    pytest.importorskip("cupy")

    class Foreign:
        def __dlpack_device__(self):
            return 8, 0  # Metal

    driver = cupy_driver.CupyDriver.__new__(cupy_driver.CupyDriver)
    with pytest.raises(DeviceError, match="type 8"):
        driver.adopt(Foreign())


def test_problem_is_one_line_with_a_remedy():
    """With CuPy and no driver, without CuPy, and where all is well: never an exception."""
    problem = cupy_driver.problem(0)
    assert "\n" not in problem
    assert not problem or any(word in problem for word in ("pip install", "update", "use"))


def test_problem_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    problem = cupy_driver.problem.__wrapped__(0)
    assert "CuPy can't be imported" in problem
    assert "pip install 'gpubp[cuda13]'" in problem
    assert "\n" not in problem


class FakeCupy:
    """CuPy as far as a device is asked for: ``count`` GPUs, or an error."""

    def __init__(self, count):
        self.cuda = self.runtime = self.driver = self
        self.count = count

    def get_build_version(self):
        return 13020

    def getDeviceCount(self):
        if isinstance(self.count, Exception):
            raise self.count
        return self.count


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (RuntimeError("first line\nsecond"), "does not answer: first line; update .* CUDA 13"),
        (RuntimeError(), "does not answer: RuntimeError; update"),
        (1, r"there is no cuda:1.* nvidia-smi -L"),
    ],
)
def test_problem_of_the_driver(monkeypatch, count, said):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(count))
    problem = cupy_driver.problem.__wrapped__(1)
    assert re.search(said, problem), problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("_check_capability", "too old: boom; use another"),
        ("_check_compiler", "compiled and run: boom; pip install 'cupy-cuda13x.ctk.'"),
        ("_check_products", "can't multiply: boom; pip install 'cupy-cuda13x.ctk.'"),
        ("_check_graphs", "replayed: boom; update the NVIDIA driver"),
    ],
)
def test_problem_of_what_a_smoke_test_finds(monkeypatch, step, said):
    class Stub:
        def __init__(self, index):
            pass

        def active(self):
            return contextlib.nullcontext()

    def boom(driver):
        raise DeviceError("boom\nand more")

    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(1))
    monkeypatch.setattr(cupy_driver, "CupyDriver", Stub)
    for check in ("_check_capability", "_check_compiler", "_check_products", "_check_graphs"):
        monkeypatch.setattr(cupy_driver, check, boom if check == step else lambda driver: None)
    assert re.search(said, cupy_driver.problem.__wrapped__(0))


@given(st.text(st.sampled_from(" ab\n\r"), max_size=8))
def test_line_of_an_error_is_one_line(text):
    line = cupy_driver._line(ValueError(text))
    assert line
    assert len(line.splitlines()) == 1
