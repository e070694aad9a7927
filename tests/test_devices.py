"""Which device is taken, what is said of it, and a driver that is asked through a fake library."""

import importlib.util
import subprocess
import sys
import types

import pytest

from gpubp import devices
from gpubp.errors import DeviceError, InputError
from gpubp.kernels.cuda import cupy_driver
from gpubp.kernels.spec import KERNELS


class FakeLibrary:
    """Stands for libcuda on a machine with up to three GPUs; the call ``failing`` returns 100."""

    def __init__(self, gpus=2, version=12080, failing=""):
        self.gpus, self.version, self.failing = gpus, version, failing

    def __getattr__(self, function):
        def call(*arguments):
            if function == self.failing:
                return 100
            pointer, *rest = arguments
            if function != "cuInit":
                target = getattr(pointer, "_obj", pointer)
                target.value = self.answer(function, *(getattr(r, "value", r) for r in rest))
            return 0

        return call

    def answer(self, function, *arguments):
        handle = arguments[-1] if arguments else None
        match function:
            case "cuDriverGetVersion":
                return self.version
            case "cuDeviceGetCount":
                return self.gpus
            case "cuDeviceGet":
                return 70 + handle
            case "cuDeviceGetName":
                return {70: b"NVIDIA H200", 71: b"NVIDIA T4", 72: b"Tesla V100"}[handle]
            case "cuDeviceTotalMem_v2":
                return {70: 140 << 30, 71: 16 << 30, 72: 32 << 30}[handle]
            case "cuDeviceGetAttribute":
                return {75: {70: 9, 71: 7, 72: 7}, 76: {70: 0, 71: 5, 72: 0}}[arguments[0]][handle]
        raise AssertionError(f"unexpected call of {function}")

    def cuGetErrorString(self, code, text):
        assert code == 100
        text._obj.value = b"no CUDA-capable device is detected"
        return 0


def absent(name):
    raise OSError(f"{name}: cannot open shared object file")


@pytest.fixture(autouse=True)
def nothing_chosen_and_no_driver(monkeypatch):
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    real = devices.driver
    monkeypatch.setattr(devices, "driver", lambda load=absent: real(load))


@pytest.fixture
def machine(monkeypatch):
    """Stand for a machine: its driver, whether CuPy is there, what the smoke test says."""
    real = devices.driver

    def make(library=None, *, cupy=True, smoke="", wheel="cupy-cuda12x"):
        found = real(lambda name: library or FakeLibrary())
        monkeypatch.setattr(devices, "driver", lambda: found)
        monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy") if cupy else None)
        monkeypatch.setattr(cupy_driver, "problem", lambda index: smoke)
        monkeypatch.setattr(devices, "_version", lambda name: "14" if name == wheel else None)

    return make


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)


class TestResolve:
    @pytest.mark.parametrize("device", ["auto", None])
    def test_auto_takes_numba_where_there_is_no_driver(self, device):
        assert devices.resolve(device) == devices.Choice(
            "cpu",
            "numba",
            "cpu with numba (not cuda, because there is no NVIDIA driver; install one (in a "
            "container: docker run --gpus all))",
        )

    def test_auto_without_numba_takes_numpy_and_says_why(self, without_numba):
        choice = devices.resolve()
        assert (choice.device, choice.backend) == ("cpu", "numpy")
        assert "not numba, because Numba can't be imported" in choice.reason
        assert "pip install numba" in choice.reason

    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    def test_a_backend_is_taken_as_asked(self, backend, machine):
        machine()
        taken = devices.Choice("cpu", backend, f"cpu with {backend} (as asked)")
        assert devices.resolve("cpu", backend) == taken
        assert devices.resolve("auto", backend) == taken

    def test_a_backend_that_is_missing_is_not_replaced(self, without_numba):
        with pytest.raises(DeviceError, match=r"'numba' can't be had.*pip install numba"):
            devices.resolve("cpu", "numba")

    def test_the_variable_stands_for_auto_only(self, monkeypatch):
        monkeypatch.setenv(devices.VARIABLE, "cpu")
        assert devices.resolve("auto").reason == "cpu with numba (as GPUBP_DEVICE says)"
        monkeypatch.setenv(devices.VARIABLE, "cuda")
        assert devices.resolve("cpu").device == "cpu"
        with pytest.raises(DeviceError, match="'cuda' can't be had"):
            devices.resolve("auto")
        with pytest.raises(
            InputError, match=r"'numpy' computes on cpu, not on cuda \(as GPUBP_DEV"
        ):
            devices.resolve("auto", "numpy")

    @pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "cuda:-1", "cuda:1\n"])
    def test_unknown_devices_are_refused(self, device):
        with pytest.raises(InputError, match=r"unknown device .*known: auto, cpu, cuda"):
            devices.resolve(device)

    @pytest.mark.parametrize("backend", [{"backend": "numbe"}, {"trained_with": "numbe"}])
    def test_unknown_backends_are_refused(self, backend):
        with pytest.raises(InputError, match="unknown backend 'numbe'; did you mean 'numba'"):
            devices.resolve("cpu", **backend)

    @pytest.mark.parametrize(
        ("device", "backend"), [("cpu", "cupy"), ("cuda", "numba"), ("cuda:1", "numpy")]
    )
    def test_a_backend_of_another_device_is_refused(self, device, backend, machine):
        machine()
        with pytest.raises(
            InputError, match=rf"{backend!r} computes on .*, not on {device} \(as a"
        ):
            devices.resolve(device, backend)


PROBLEMS = {  # what is wrong, and of several things the first that is looked at
    "no GPU": ({"library": FakeLibrary(0), "cupy": False}, "finds no GPU; nvidia-smi should"),
    "fails": ({"library": FakeLibrary(failing="cuInit")}, "driver fails: cuInit returned 100"),
    "old driver": (
        {"library": FakeLibrary(version=11080), "cupy": False},
        "the driver is for CUDA 11.8, older than 12.0; install a newer driver",
    ),
    "no CuPy, 12": ({"cupy": False}, "CuPy is not installed; pip install 'gpubp[cuda12]'"),
    "no CuPy, 13": (
        {"library": FakeLibrary(version=13010), "cupy": False, "smoke": "never asked"},
        "CuPy is not installed; pip install 'gpubp[cuda13]'",
    ),
    "CuPy too new": (
        {"wheel": "cupy-cuda13x", "smoke": "never asked"},
        "that for CUDA 13, but the driver is for CUDA 12.8; pip uninstall cupy-cuda13x, then "
        "pip install 'gpubp[cuda12]'",
    ),
    "smoke": ({"smoke": "NVRTC is missing; pip install x"}, "NVRTC is missing; pip install x"),
}


class TestCuda:
    @pytest.mark.parametrize(
        ("device", "backend", "expected"),
        [
            ("auto", None, "cuda with cupy on NVIDIA H200"),
            ("auto", "cupy", "cuda with cupy on NVIDIA H200 (as asked)"),
            ("cuda", None, "cuda with cupy on NVIDIA H200 (as asked)"),
            ("cuda:1", "cupy", "cuda:1 with cupy on NVIDIA T4 (as asked)"),
        ],
    )
    def test_it_is_taken_where_all_is_well(self, device, backend, expected, machine):
        machine()
        choice = devices.resolve(device, backend)
        assert (choice.device, choice.backend) == (expected.partition(" ")[0], "cupy")
        assert choice.index == (1 if device == "cuda:1" else 0)
        assert choice.reason == expected

    @pytest.mark.parametrize("case", PROBLEMS)
    def test_what_is_wrong_is_one_line_with_a_remedy(self, case, machine):
        """The same line from `auto`, which falls back, and from `cuda`, which does not."""
        settings, words = PROBLEMS[case]
        machine(**settings)
        problem = devices.cuda_problem()
        assert words in problem
        assert "\n" not in problem
        choice = devices.resolve("auto")
        assert (choice.device, choice.backend) == ("cpu", "numba")
        assert choice.reason == f"cpu with numba (not cuda, because {problem})"
        for device, backend, what in (
            ("cuda", None, "device 'cuda'"), ("auto", "cupy", "backend 'cupy'"),
        ):  # fmt: skip
            with pytest.raises(DeviceError) as caught:
                devices.resolve(device, backend)
            assert str(caught.value) == f"{what} can't be had: {problem}; or use device 'cpu'"

    def test_of_several_gpus_each_is_looked_at(self, machine):
        machine(FakeLibrary(3))
        assert devices.resolve("cuda:1").reason == "cuda:1 with cupy on NVIDIA T4 (as asked)"
        with pytest.raises(DeviceError, match=r"Tesla V100 has compute capability 7\.0, less than"):
            devices.resolve("cuda:2")
        with pytest.raises(
            DeviceError,
            match=r"'cuda:3' can't.*no cuda:3, the driver finds 3 GPUs, cuda:0 to cuda:2",
        ):
            devices.resolve("cuda:3")

    def test_an_index_beyond_the_only_gpu(self, machine):
        machine(FakeLibrary(1))
        with pytest.raises(DeviceError, match="no cuda:1, the driver finds one GPU, cuda:0; name"):
            devices.resolve("cuda:1")

    def test_cupy_that_fails_to_import_is_quoted_by_its_cause(self, machine, monkeypatch):
        machine()

        def fail(name):
            raise ImportError("=====\n a page of advice\n") from ImportError("libfoo.so:\n no file")

        monkeypatch.setattr(devices.importlib, "import_module", fail)
        assert devices.cuda_problem() == (
            "CuPy can't be imported: libfoo.so: no file; pip install 'gpubp[cuda12]'"
        )

    def test_hidden_gpus_are_named_as_such(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert devices.driver(lambda name: FakeLibrary(0)).problem == (
            "the NVIDIA driver finds no GPU; nvidia-smi should list one; unset "
            "CUDA_VISIBLE_DEVICES, which is ''"
        )


class TestTrainedWith:
    """A model's own backend comes first, and the reason says why it is another."""

    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    def test_it_is_taken_where_it_can_be_had(self, backend, machine):
        machine()
        for device, why in (("auto", "as it was trained"), ("cpu", "as asked")):
            reason = f"cpu with {backend} ({why})"
            assert devices.resolve(device, trained_with=backend).reason == reason

    def test_without_a_gpu_the_best_there_is_goes_on(self):
        choice = devices.resolve("auto", trained_with="cupy")
        assert choice.backend == "numba"
        assert choice.reason.startswith(
            "cpu with numba (the model was trained with cupy, which can't be had here because "
            "there is no NVIDIA driver; "
        )

    def test_without_numba_numpy_goes_on(self, without_numba):
        choice = devices.resolve("cpu", trained_with="numba")
        assert choice.backend == "numpy"
        assert "(as asked; the model was trained with numba, which can't be had" in choice.reason

    @pytest.mark.parametrize(
        ("device", "trained_with", "expected"),
        [
            ("cpu", "cupy", "cpu with numba (as asked; {} cupy, which is not for cpu)"),
            ("cuda", "numpy", "cuda with cupy on NVIDIA H200 (as asked; {} numpy, which is not for "
             "cuda)"),
        ],
    )  # fmt: skip
    def test_it_gives_way_to_the_device(self, device, trained_with, expected, machine):
        machine()
        choice = devices.resolve(device, trained_with=trained_with)
        assert choice.reason == expected.format("the model was trained with")

    def test_it_gives_way_to_a_backend_that_is_named(self, machine):
        machine()
        choice = devices.resolve("auto", "numpy", trained_with="cupy")
        assert choice.reason == "cpu with numpy (as asked)"

    def test_a_device_that_is_named_is_not_replaced(self):
        with pytest.raises(DeviceError, match="device 'cuda' can't be had"):
            devices.resolve("cuda", trained_with="numba")


class TestPrecision:
    CPU, CUDA = (
        devices.Choice("cpu", "numba", "cpu with numba"),
        devices.Choice("cuda:1", "cupy", ""),
    )

    @pytest.mark.parametrize("precision", devices.PRECISIONS)
    def test_a_gpu_has_all(self, precision):
        devices.check_precision(self.CUDA, precision)

    def test_the_cpu_has_all_but_one(self):
        for precision in ("fp32", "fp64", "bf16"):
            devices.check_precision(self.CPU, precision)
        with pytest.raises(InputError) as caught:
            devices.check_precision(self.CPU, "tf32")
        assert str(caught.value) == (
            "precision 'tf32' needs device 'cuda', but this is cpu with numba; use 'fp32', 'fp64' "
            "or 'bf16'"
        )

    def test_there_are_no_others(self):
        with pytest.raises(InputError, match="unknown precision 'fp16'; did you mean 'fp64'"):
            devices.check_precision(self.CUDA, "fp16")


class TestDriver:
    def test_it_is_asked_for_its_version_and_gpus(self):
        opened = []
        found = devices.driver(lambda name: opened.append(name) or FakeLibrary())
        assert opened == ["libcuda.so.1"]
        assert found == devices.Driver(
            (12, 8),
            (
                devices.Gpu("NVIDIA H200", 140 << 30, (9, 0)),
                devices.Gpu("NVIDIA T4", 16 << 30, (7, 5)),
            ),
        )
        assert str(found) == "NVIDIA H200, NVIDIA T4 (driver for CUDA 12.8)"

    def test_no_driver(self):
        assert str(devices.driver(absent)).startswith("there is no NVIDIA driver; ")

    def test_a_driver_without_gpus(self):
        found = devices.driver(lambda name: FakeLibrary(gpus=0))
        assert str(found) == "the NVIDIA driver finds no GPU; nvidia-smi should list one"

    @pytest.mark.parametrize("failing", ["cuDriverGetVersion", "cuInit", "cuDeviceGetName"])
    def test_a_driver_that_fails(self, failing):
        found = devices.driver(lambda name: FakeLibrary(failing=failing))
        assert found.gpus == ()
        assert str(found) == (
            f"the NVIDIA driver fails: {failing} returned 100, no CUDA-capable device is detected; "
            "nvidia-smi should list one"
        )


def test_the_inventory():
    found = devices.inventory()
    assert found.processor
    assert found.cores >= 1
    assert found.blas
    assert found.numba
    assert found.driver.problem


def test_cores_keep_to_the_quota_of_the_group(monkeypatch):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: set(range(8)))
    for content, cores in (("max 100000\n", 8), ("250000 100000\n", 2), ("50000 100000\n", 1)):
        monkeypatch.setattr(devices.Path, "read_text", lambda path, encoding, c=content: c)
        assert devices.cores() == cores


def test_who_implements_a_kernel():
    assert devices.implementers("relu") == ("reference", "numba", "cuda")
    assert {devices.implementers(kernel)[0] for kernel in KERNELS} == {"reference"}


def test_without_numba_the_others_are_there(without_numba):
    assert devices.implementers("relu") == ("reference", "cuda")


def test_importing_it_imports_no_compiler_and_no_driver():
    code = (
        "import sys, gpubp.devices;"
        "sys.exit(bool({'numba', 'scipy', 'cupy', 'threadpoolctl'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
class TestCupyWithoutGpu:
    """CuPy as it is installed, in a process of its own; no driver there, or one that is a fake."""

    @staticmethod
    def run(code):
        """Return what a trainer on ``auto`` says, and what the error of ``cuda`` is."""
        code = f"""
import sys, warnings
warnings.simplefilter("error")
from gpubp import Dense, Sequential, Trainer, devices
from gpubp.errors import DeviceError
{code}
print(Trainer(Sequential(Dense(2))).device_reason)
try:
    Trainer(Sequential(Dense(2)), device="cuda")
except DeviceError as error:
    print(error)
print("cupy" in sys.modules)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        automatic, error, cupy = done.stdout.splitlines()
        return automatic, error, cupy == "True"

    def test_no_driver(self):
        automatic, error, imported = self.run(
            "devices.driver = lambda: devices.Driver(problem='there is no driver; install it')"
        )
        assert automatic == ("cpu with numba (not cuda, because there is no driver; install it)")
        assert error == (
            "device 'cuda' can't be had: there is no driver; install it; or use device 'cpu'"
        )
        assert not imported

    def test_a_driver_that_is_broken(self):
        """It lists a GPU, and then CuPy gets nowhere with it."""
        automatic, error, imported = self.run(
            "import ctypes, os; os.environ['CUDA_VISIBLE_DEVICES'] = ''\n"
            "devices.driver = lambda: devices.Driver((13, 0), (devices.Gpu('H', 1, (9, 0)),))"
        )
        assert automatic.startswith("cpu with numba (not cuda, because ")
        assert error.startswith("device 'cuda' can't be had: ")
        problem = automatic.partition("because ")[2].removesuffix(")")
        assert problem in error
        assert "driver" in problem
        assert imported
