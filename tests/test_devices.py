"""Which device is taken, what is said of it, and a driver that is asked through a fake library."""

import subprocess
import sys

import pytest

from gpubp import devices
from gpubp.errors import DeviceError, InputError
from gpubp.kernels.spec import KERNELS


class FakeLibrary:
    """Stands for libcuda on a machine with two GPUs; the call named ``failing`` returns 100."""

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
                return {70: b"NVIDIA H200", 71: b"NVIDIA T4"}[handle]
            case "cuDeviceTotalMem_v2":
                return {70: 140 << 30, 71: 16 << 30}[handle]
            case "cuDeviceGetAttribute":
                return {75: {70: 9, 71: 7}, 76: {70: 0, 71: 5}}[arguments[0]][handle]
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
    real = devices.driver
    monkeypatch.setattr(devices, "driver", lambda load=absent: real(load))


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)


class TestResolve:
    @pytest.mark.parametrize("device", ["auto", None])
    def test_auto_takes_numba_and_says_why_not_cuda(self, device):
        choice = devices.resolve(device)
        assert (choice.device, choice.backend) == ("cpu", "numba")
        assert choice.reason.startswith("cpu with numba (not cuda, because")
        assert "\n" not in choice.reason

    def test_auto_without_numba_takes_numpy_and_says_why(self, without_numba):
        choice = devices.resolve()
        assert (choice.device, choice.backend) == ("cpu", "numpy")
        assert "not numba, because Numba can't be imported" in choice.reason
        assert "pip install numba" in choice.reason

    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    def test_a_backend_is_taken_as_asked(self, backend):
        assert devices.resolve("cpu", backend) == devices.Choice(
            "cpu", backend, f"cpu with {backend} (as asked)"
        )
        assert devices.resolve("auto", backend).backend == backend

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

    @pytest.mark.parametrize("device", ["cuda", "cuda:1"])
    def test_cuda_says_what_is_missing_and_what_installs_it(self, device):
        with pytest.raises(DeviceError) as caught:
            devices.resolve(device)
        message = str(caught.value)
        assert f"{device!r} can't be had: this version of gpubp has no CUDA backend" in message
        assert "pip install --upgrade 'gpubp[cuda12]'" in message
        assert "no NVIDIA driver" in message
        assert "CuPy is" in message

    def test_cuda_names_the_gpus_that_it_cannot_use(self, monkeypatch):
        found = devices.driver(lambda name: FakeLibrary(version=13010))
        monkeypatch.setattr(devices, "driver", lambda: found)
        with pytest.raises(
            DeviceError, match=r"cuda13.*NVIDIA H200, NVIDIA T4 .driver for CUDA 13.1"
        ):
            devices.resolve("cuda")

    @pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "cuda:-1"])
    def test_unknown_devices_are_refused(self, device):
        with pytest.raises(InputError, match=r"unknown device .*known: auto, cpu, cuda"):
            devices.resolve(device)

    def test_unknown_backends_are_refused(self):
        with pytest.raises(InputError, match="unknown backend 'numbe'; did you mean 'numba'"):
            devices.resolve("cpu", "numbe")


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
        assert str(devices.driver(absent)) == "no NVIDIA driver (libcuda.so.1 is not found)"

    def test_a_driver_without_gpus(self):
        found = devices.driver(lambda name: FakeLibrary(gpus=0))
        assert str(found) == "the NVIDIA driver finds no GPU"

    @pytest.mark.parametrize("failing", ["cuDriverGetVersion", "cuInit", "cuDeviceGetName"])
    def test_a_driver_that_fails(self, failing):
        found = devices.driver(lambda name: FakeLibrary(failing=failing))
        assert found.gpus == ()
        assert str(found) == (
            f"the NVIDIA driver fails: {failing} returned 100, no CUDA-capable device is detected"
        )

    @pytest.mark.parametrize(
        ("version", "extra"), [((12, 8), "cuda12"), ((13, 0), "cuda13"), ((0, 0), "cuda12")]
    )
    def test_what_is_installed_fits_the_driver(self, version, extra):
        assert f"'gpubp[{extra}]'" in devices.missing_cuda(devices.Driver(version))


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
    assert devices.implementers("relu") == ("reference", "numba")
    assert {devices.implementers(kernel)[0] for kernel in KERNELS} == {"reference"}


def test_without_numba_only_the_reference_is_there(without_numba):
    assert devices.implementers("relu") == ("reference",)


def test_importing_it_imports_no_compiler_and_no_driver():
    code = (
        "import sys, gpubp.devices;"
        "sys.exit(bool({'numba', 'scipy', 'cupy', 'threadpoolctl'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
