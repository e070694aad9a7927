"""The devices that the CUDA path is tested on: the stand-in, and a GPU where one can be used."""

import cases
import pytest
from cuda_calls import MANY
from host_cuda import build
from host_cuda.driver import Machine

from gpubp.kernels.cuda import cupy_driver

NO_GPU = cupy_driver.problem(0)


@pytest.fixture(autouse=True)
def many(monkeypatch):
    """Let calls be made of this size, too."""
    monkeypatch.setitem(cases.SIZES, "many", MANY)


@pytest.fixture
def machine():
    """A machine of stand-in devices."""
    if build.missing_compiler():
        pytest.skip(build.missing_compiler())
    return Machine()


@pytest.fixture(params=["host"] if NO_GPU else ["host", "device"])
def driver(request):
    """A device, current while a test runs."""
    if request.param == "device":
        found = cupy_driver.CupyDriver(0)
    else:
        found = request.getfixturevalue("machine").drivers[0]
    with found.active():
        yield found


@pytest.fixture
def turns(driver):
    """Ways to run a test that must all give the same bits."""
    machine = getattr(driver, "machine", None)
    return machine.turns() if machine else [lambda: None] * 2
