"""What an import costs and loads, seen from a fresh process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

HEAVY = {"numba", "llvmlite", "cupy", "sklearn", "matplotlib", "scipy", "rich", "click"}


def _loaded_by(code: str) -> set[str]:
    """Return the top-level packages that a fresh process has loaded after some code."""
    report = "import sys; print('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}; {report}"], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import gpubp",
        "import gpubp; gpubp.Sequential, gpubp.Dense, gpubp.Trainer, gpubp.losses",
        "import gpubp; gpubp.ops.relu",
    ],
)
def test_import_is_light(code: str) -> None:
    assert not _loaded_by(code) & HEAVY


def test_command_line_is_read_without_what_only_some_commands_need() -> None:
    assert not _loaded_by("import gpubp.cli.main") & (HEAVY - {"click"})


def test_heavy_libraries_would_be_seen() -> None:
    assert "numba" in _loaded_by("import gpubp; gpubp.Trainer(gpubp.Sequential(gpubp.Dense(2)))")


def test_device_cpu_imports_no_cupy_where_there_is_a_gpu() -> None:
    there = "devices.driver = lambda: devices.Driver((13, 0), (devices.Gpu('H200', 1, (9, 0)),))"
    trainer = "gpubp.Trainer(gpubp.Sequential(gpubp.Dense(2)), device={!r})"
    for device, imported in (
        ("cpu", False),
        ("auto", importlib.util.find_spec("cupy") is not None),
    ):
        code = f"import gpubp; from gpubp import devices; {there}; {trainer.format(device)}"
        assert ("cupy" in _loaded_by(code)) == imported


def test_public_names_exist() -> None:
    import gpubp  # noqa: PLC0415

    for name in gpubp.__all__:
        assert getattr(gpubp, name) is not None
    assert dir(gpubp) == sorted(gpubp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Sequentail'"):
        _ = gpubp.Sequentail


def test_kernels_have_one_name_only() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "import kernels"], capture_output=True, text=True, check=False
    )
    if "No module named" in result.stderr:  # where the repository is not the working folder
        pytest.fail("run the tests from the repository's root")
    assert "this package is gpubp.kernels, not kernels" in result.stderr


def test_ctrl_c_amid_an_import_waits_for_its_end():
    """Python loses one that falls into the import system, and makes other errors of some."""
    code = (
        "import builtins, signal, sys, gpubp\n"
        "def pressed(name, *args, real=builtins.__import__):\n"
        "    if name == 'gpubp.initializers' and name not in sys.modules:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    return real(name, *args)\n"
        "builtins.__import__ = pressed\n"
        "try:\n"
        "    gpubp.Sequential\n"
        "except KeyboardInterrupt:\n"
        "    print('gpubp.network' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
