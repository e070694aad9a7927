"""The stand-in device itself: what it must notice, and that races in the kernels are noticed."""

import cases
import numpy as np
import pytest
from cuda_calls import run_in_turns
from host_cuda import build
from host_cuda.driver import ORDERS, Machine, Misuse
from precisions import Precision, check

from gpubp.errors import DeviceError
from gpubp.kernels.cuda import sources
from gpubp.kernels.cuda.driver import Gemm, Variant
from gpubp.kernels.cuda.launch import launch as launch_of
from gpubp.kernels.cuda.launch import place_of
from gpubp.kernels.spec import KERNELS

KERNEL = Variant("probe", "test", ())


@pytest.fixture
def launch(machine):
    """Return a function that compiles the body of a kernel and launches it on arrays."""
    driver = machine.drivers[0]

    def compile_and_launch(body, *arrays, blocks=1, block=64, flags=build.FLAGS, more=""):
        parameters = ", ".join(f"long long* x{i}" for i in range(len(arrays)))
        text = f"{more}\nnamespace gpubp {{ __global__ void probe({parameters}) {{ {body} }} }}"
        machine.library = lambda family: build.Library(text, [KERNEL], flags)
        with driver.active():
            device = [driver.upload(np.array(array, np.int64)) for array in arrays]
            words = [driver.address(array) for array in device]
            driver.launch(driver.function(KERNEL), (blocks, 1), block, words)
            return [driver.download(array) for array in device]

    return compile_and_launch


# Each thread notes which it is, by when it comes.
NOTE = "x0[atomicAdd(x1, 1ll)] = blockIdx.x * blockDim.x + threadIdx.x;"


@pytest.mark.parametrize("flags", [build.FLAGS, (*build.FLAGS, "-DHOST_CUDA_UCONTEXT")])
def test_threads_take_turns_in_the_order_asked_for(machine, launch, flags):
    seen = {}
    for order in ORDERS:
        machine.order = order
        seen[order] = launch(NOTE, np.zeros(256), [0], blocks=4, flags=flags)[0].tolist()
    assert seen["forward"] == list(range(256))
    assert seen["reverse"] == list(range(256))[::-1]
    assert sorted(seen["random"]) == list(range(256))
    assert seen["random"] != seen["forward"]
    assert launch(NOTE, np.zeros(256), [0], blocks=4)[0].tolist() == seen["random"]
    machine.seed = 1
    assert launch(NOTE, np.zeros(256), [0], blocks=4)[0].tolist() != seen["random"]


@pytest.mark.parametrize("flags", [build.FLAGS, (*build.FLAGS, "-DHOST_CUDA_UCONTEXT")])
@pytest.mark.parametrize("order", ORDERS)
def test_a_barrier_is_one(machine, launch, order, flags):
    machine.order = order
    body = "x0[threadIdx.x] = threadIdx.x; __syncthreads(); x1[threadIdx.x] = x0[63 - threadIdx.x];"
    _, seen = launch(body, np.zeros(64), np.zeros(64), flags=flags)
    assert seen.tolist() == list(range(64))[::-1]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("call", "sources_of_lanes"),
    [
        ("__shfl_xor_sync(~0u, mine, 5)", [lane ^ 5 for lane in range(32)]),
        ("__shfl_down_sync(~0u, mine, 3)", [*range(3, 32), 29, 30, 31]),
        ("__shfl_sync(~0u, mine, 7)", [7] * 32),
    ],
)  # fmt: skip
def test_shuffles(machine, launch, order, call, sources_of_lanes):
    machine.order = order
    body = f"long long mine = 100 + threadIdx.x; mine = {call}; x0[threadIdx.x] = {call};"
    (seen,) = launch(body, np.zeros(64))
    twice = [100 + sources_of_lanes[lane] for lane in sources_of_lanes]
    assert seen.tolist() == twice + [32 + value for value in twice]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("if (threadIdx.x < 40) __syncthreads(); x0[0] = 1;", "of a block went .*from 40 on ended"),
        ("if (++x0[0] < 40) {\n__syncthreads();\n} else\n__syncthreads();", "line 4"),
        ("if (threadIdx.x == 3) __syncwarp(); x0[0] = 1;", "of a warp went different ways"),
        ("if (threadIdx.x < 32) __syncthreads(); x0[0] = 1;", "of a block went different"),
        ("x0[0] = __shfl_xor_sync(1u, threadIdx.x, 1);", "a part of a warp"),
        ("x0[64] = 0;", "wrote beside an allocation"),
        ("x0[-1] = 0;", "wrote beside an allocation"),
        ("*reinterpret_cast<long long*>(1 + (char*)x0) = 0;", "an alignment of 8 bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_kernel_is_reported(launch, body, said):
    with pytest.raises(Misuse, match=said):
        launch(body, np.zeros(64))
    launch("__syncthreads(); x0[0] = 1;", [0])  # and the next launch is as any


def test_a_value_from_beyond_an_allocation_is_not_a_number(launch):
    seen, _ = launch("x0[0] = x1[1];", [0], [5])
    assert np.isnan(seen.view(np.float64)[0])


def mutated(family, function, barrier):
    """Return a family's source without one of the barriers of a function."""
    head, name, tail = sources.text(family).partition(f" {function}(")
    assert name
    before, after = [], tail
    for _ in range(barrier + 1):
        part, found, after = after.partition("__syncthreads();")
        assert found
        before += [part, found]
    return "".join([head, name, *before[:-1], after])


@pytest.mark.parametrize(
    ("name", "function", "barrier"),
    [
        ("squared_error", "block_sum", 0),
        ("squared_error", "last_to_arrive", 1),
        ("bias_grad", "sum_over_warps", 0),
        ("bias_grad", "last_to_arrive", 1),
    ],
)
def test_a_race_is_caught(machine, name, function, barrier):
    """What the conformance suite does fails when a barrier of a kernel is taken out.

    Not the first barrier of last_to_arrive: it orders blocks that run side by side.
    """
    kernel, precision = KERNELS[name], Precision("float32")
    call = precision.call(cases.Variant(kernel), "many")

    def conform():
        with machine.drivers[0].active():
            done = run_in_turns(machine.drivers[0], machine.turns(), call, precision)
            check(call, done, precision, against_oracle=False)

    conform()
    text = mutated(kernel.module, function, barrier)
    variants = [v for v in build.variants(kernel.module) if v.kernel == name]
    machine.library = lambda family: build.Library(text, variants)
    with pytest.raises(AssertionError, match=r"in another order|by the reference|different ways"):
        conform()


@pytest.mark.parametrize("barrier", [None, 1])
def test_the_last_barrier_of_a_sum_lets_the_next_begin(machine, launch, barrier):
    text = sources.text("losses") if barrier is None else mutated("losses", "block_sum", barrier)
    body = "long long sum = block_sum<long long>(1); x0[threadIdx.x] = block_sum(sum);"
    seen = [launch(body, np.zeros(256), block=256, more=text)[0] for machine.order in ORDERS]
    right = all((array == 256 * 256).all() for array in seen)
    assert right == (barrier is None)


@pytest.fixture
def pair(machine):
    """Two stand-in devices, the first of them current."""
    both = Machine(devices=2).drivers
    with both[0].active():
        yield both


def test_a_device_is_used_where_it_is_current(pair):
    first, second = pair
    with pytest.raises(Misuse, match="device 1, which is not the current one"):
        second.zeros(3, "float32")
    with second.active():
        theirs = second.upload(np.ones(3, np.float32))
        with pytest.raises(Misuse, match="not the current one"):
            first.synchronize()
    with pytest.raises(DeviceError, match="cuda:1"):
        first.adopt(theirs)
    with pytest.raises(Misuse, match="used on cuda:0"):
        first.zeros(3, "float32") + theirs
    with pytest.raises(Misuse, match="not in this device's memory"):
        start(first, "relu", theirs, theirs)


def start(driver, name, *arrays):
    made = launch_of(KERNELS[name], [place_of(driver, array) for array in arrays], {})
    driver.launch(driver.function(made.variant), made.grid, made.block, made.words)


def test_nothing_in_host_memory_passes_for_a_device_array(pair):
    (driver, _), host = pair, np.ones(3, np.float32)
    device = driver.upload(host)
    for mistake in (
        lambda: driver.address(host),
        lambda: driver.upload(device),
        lambda: device + host,
        lambda: device.__setitem__(slice(None), host),
        lambda: driver.copy_beside(host, device),
    ):
        with pytest.raises(Misuse):
            mistake()
    with pytest.raises(TypeError, match="unasked"):
        np.asarray(device)
    np.testing.assert_array_equal(driver.download(driver.xp.sum(device + device)), 6)


def test_a_capture_waits_for_nothing_and_makes_nothing(pair):
    driver, _ = pair
    x = driver.upload(np.array([-1.0, 2.0]))
    for mistake in (
        lambda: driver.zeros(1, "float32"),
        lambda: driver.download(x),
        driver.synchronize,
        driver.event,
        lambda: driver.product(Gemm(1, 1, 1, False, False, "float32", "float32")),
        lambda: float(x[0]),
        lambda: start(driver, "relu", x, x),  # it was not compiled before
    ):
        with pytest.raises(Misuse, match="in a capture"):
            driver.capture(mistake)


def test_arguments_are_counted(pair):
    driver, _ = pair
    x = driver.zeros(4, "float32")
    made = launch_of(KERNELS["relu"], [place_of(driver, x)] * 2, {})
    function = driver.function(made.variant)
    with pytest.raises(Misuse, match="got 2 words"):
        driver.launch(function, made.grid, made.block, made.words[:2])
    with pytest.raises(Misuse, match="can't be launched"):
        driver.launch(function, (0, 1), made.block, made.words)


def test_memory_is_given_back(pair):
    driver, _ = pair
    free, total = driver.memory()
    array = driver.zeros(1000, "float64")
    part = array[10:20].reshape((2, 5))
    assert driver.memory() == (free - 8000, total)
    del array
    assert driver.memory() == (free - 8000, total)
    del part
    assert driver.memory() == (free, total)


@pytest.mark.parametrize("copies", ["late", "early"])
def test_a_copy_comes_when_it_must_or_as_soon_as_it_may(machine, copies):
    """What kernels read is what the code waited for, and may be no more than that."""
    driver = Machine(copies=copies).drivers[0]
    with driver.active():
        source, target = driver.pinned((4,), "float32"), driver.zeros(4, "float32")
        seen = [driver.zeros(4, "float32") for _ in range(2)]
        source[:] = 1
        start(driver, "relu", target, seen[0])
        copied = driver.copy_beside(source, target)
        start(driver, "relu", target, seen[1])  # does not wait for the copy
        driver.synchronize()
        assert [driver.download(x)[0] for x in seen] == ([0, 0] if copies == "late" else [1, 1])
        driver.after(copied)
        start(driver, "relu", target, seen[1])
        assert driver.download(seen[1])[0] == 1
