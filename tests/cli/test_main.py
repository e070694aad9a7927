"""The command as a whole: help, exit codes, errors, and what is on the screen."""

import io
import os
import re
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from gpubp import devices
from gpubp.cli import main as module
from gpubp.cli.main import COMMANDS
from gpubp.cli.progress import compilation_shown
from gpubp.cli.train import command as train
from gpubp.errors import GpubpError
from gpubp.kernels.numba import compiled

from .test_train import assert_equal_models

GPUBP = (sys.executable, "-c", "from gpubp.cli.main import main; main()")


def run(*arguments, **environment):
    return subprocess.run(
        [*GPUBP, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_with_examples(gpubp, arguments):
    result = gpubp(*arguments)
    assert result.code == 0
    for command, text in COMMANDS.items():
        assert command in result.out
        assert text in result.out
    assert "Examples:" in result.out
    assert "Exit codes" in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(gpubp, command):
    result = gpubp(command, "--help")
    assert result.code == 0
    assert "Example" in result.out
    assert f"gpubp {command} " in result.out
    assert result.out.count("--debug") == 1
    assert max(map(len, result.out.splitlines())) <= 80


def test_the_options_of_train_are_in_groups(gpubp):
    text = gpubp("train", "--help").out
    expected = {
        "Data": "--target", "Network": "--hidden", "Training": "--epochs", "Run": "--out",
        "Device": "--device", "Advanced": "--gemm", "Other": "--debug",
    }  # fmt: skip
    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == [*expected]
    for group, option in expected.items():
        section = re.split(r"^\w+:$", text[text.index(f"\n{group}:\n") :], flags=re.MULTILINE)[1]
        assert option in section
    options = re.findall(r"^  (--[\w-]+)", text, re.MULTILINE)
    assert len(options) == len(set(options)) == len(train.params) - 1  # all but DATA


def test_help_imports_neither_a_compiler_nor_data():
    code = (
        "import sys\nfrom gpubp.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'numpy', 'numba', 'sklearn', 'matplotlib', 'rich'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_version(gpubp):
    assert gpubp("--version").out.startswith("gpubp, version ")


def test_an_unknown_command(gpubp):
    result = gpubp("trian")
    assert result.code == 2
    assert result.errors[0].startswith("gpubp: unknown command 'trian'; did you mean 'train'?")
    assert result.errors[1:] == ["'gpubp --help' explains"]


class TestDevices:
    @pytest.fixture
    def gpus(self, monkeypatch):
        """Stand for a machine with GPUs, each with the problem that is given, or none."""

        def make(*problems):
            gpus = tuple(devices.Gpu(f"GPU {i}", 16 << 30, (8, 6)) for i in range(len(problems)))
            monkeypatch.setattr(devices, "driver", lambda: devices.Driver((13, 0), gpus))
            monkeypatch.setattr(devices, "cuda_problem", lambda index=0: problems[index])

        return make

    @staticmethod
    def lines(gpubp):
        result = gpubp("devices")
        assert result.code == 0
        return [re.split("  +", line.strip(), maxsplit=1) for line in result.out.splitlines()]

    def test_what_is_here(self, gpubp, monkeypatch):
        missing = devices.Driver(problem="no driver; install it")
        monkeypatch.setattr(devices, "driver", lambda: missing)
        lines = dict(self.lines(gpubp))
        assert [*lines] == ["CPU", "BLAS", "MKL", "Numba", "GPU", "CuPy", "CUDA backend", "used"]
        assert "usable" in lines["CPU"]
        assert lines["GPU"] == "none"
        assert lines["CUDA backend"] == "no driver; install it"
        assert lines["used"] == "cpu with numba (not cuda, because no driver; install it)"

    def test_a_gpu_that_can_be_used(self, gpubp, gpus):
        gpus("")
        lines = dict(self.lines(gpubp))
        assert lines["GPU"] == "GPU 0 (driver for CUDA 13.0)"
        assert lines["0"] == "GPU 0, 16 GiB, compute capability 8.6"
        assert lines["CUDA backend"] == "can be used"
        assert lines["used"] == "cuda with cupy on GPU 0"

    def test_gpus_of_which_one_cannot(self, gpubp, gpus):
        gpus("", "it is broken; mend it")
        lines = self.lines(gpubp)
        assert ["CUDA backend", "cuda:0 can be used"] in lines
        assert ["CUDA backend", "cuda:1: it is broken; mend it"] in lines

    def test_a_device_by_variable_that_is_not_there(self, gpubp, monkeypatch, gpus):
        monkeypatch.setenv("GPUBP_DEVICE", "cuda")
        gpus("it is broken; mend it")
        used = dict(self.lines(gpubp))["used"]
        assert used.startswith("nothing: device 'cuda' can't be had: it is broken; mend it")

    def test_kernels(self, gpubp):
        lines = [line.split() for line in gpubp("devices", "--kernels").out.splitlines()]
        assert lines[0] == ["kernel", "reference", "numba", "cuda"]
        assert ["relu", "yes", "yes", "yes"] in lines
        assert ["matmul", "yes", "yes", "cuBLASLt"] in lines


class TestErrors:
    @pytest.fixture
    def failing(self, gpubp, monkeypatch):
        """Have a command fail with an error."""

        def fail(error, *arguments):
            def resolve(*_):
                raise error

            monkeypatch.setattr("gpubp.devices.resolve", resolve)
            return gpubp("train", *arguments)

        return fail

    def test_a_failure_is_one_line(self, failing):
        result = failing(GpubpError("it went wrong"))
        assert (result.code, result.errors) == (1, ["gpubp: it went wrong"])

    def test_debug_shows_the_traceback(self, failing):
        result = failing(GpubpError("it went wrong"), "--debug")
        assert result.code == 1
        assert "Traceback" in result.err
        assert result.errors[-1] == "gpubp: it went wrong"

    def test_an_unforeseen_error_is_one_line_too(self, failing):
        result = failing(ZeroDivisionError("division by zero\nand more"))
        assert result.code == 1
        assert result.errors == [
            "gpubp: ZeroDivisionError: division by zero "
            "(not foreseen; --debug shows where it came from)"
        ]

    def test_ctrl_c(self, failing):
        result = failing(KeyboardInterrupt())
        assert result.code == 1
        assert result.errors[-1] == "gpubp: interrupted"

    def test_a_closed_pipe_is_no_error(self):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [*GPUBP, "devices", "--kernels"], stdout=writing, stderr=subprocess.PIPE, check=False
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (1, b"")

    def test_warnings_are_one_line(self, capsys):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = module._show_warning
            warnings.warn("mind the gap", stacklevel=1)
        assert capsys.readouterr().err == "gpubp: warning: mind the gap\n"


class TestCompilation:
    """Kernels are announced by calling the listeners, as the compiler does."""

    @staticmethod
    def shown(kernels, terminal):
        """Return what is written before and after the end of the compilation."""
        stream = io.StringIO()
        stream.isatty = lambda: terminal
        with redirect_stderr(stream):
            with compilation_shown():
                for kernel in kernels:
                    for listener in compiled._listeners:
                        listener(kernel)
                during = stream.getvalue()
            return during, stream.getvalue().removeprefix(during)

    def test_a_terminal_shows_the_kernel_and_is_cleared(self):
        during, after = self.shown(["matmul_float32", "relu_delta_float32"], terminal=True)
        assert during.endswith("\r\x1b[2Kcompiling kernels, once per machine: 2 relu_delta")
        assert after == "\r\x1b[2K"

    def test_a_narrow_terminal_is_not_overrun(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "30")
        during, _ = self.shown(["matmul_float32"], terminal=True)
        assert during == "\r\x1b[2K" + "compiling kernels, once per machine"[:29]

    def test_a_file_gets_one_line(self):
        shown = self.shown(["matmul", "relu"], terminal=False)
        assert shown == ("compiling kernels, once per machine\n", "")

    def test_nothing_is_said_if_nothing_is_compiled(self):
        before = list(compiled._listeners)
        assert self.shown([], terminal=True) == ("", "")
        assert compiled._listeners == before


class TestProcess:
    def test_success_and_failures(self):
        options = ("--hidden", "4", "--epochs", "2", "--backend", "numpy")
        done = run("train", "iris", *options)
        assert done.returncode == 0, done.stderr
        assert Path("gpubp-run/curves.png").exists()
        assert run("train", "iris", "--hidden", "x").returncode == 2
        done = run("evaluate", "gpubp-run", "iris", GPUBP_DEVICE="cuda:99")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1

    def test_a_run_that_is_killed_and_stopped_goes_on_to_the_same_end(self):
        options = ("iris", "--hidden", "4", "--epochs", "80", "--backend", "numpy")
        assert run("train", *options, "--out", "whole").returncode == 0
        code, _ = stop_after_an_epoch(signal.SIGKILL, *options, "--out", "parts")
        assert code == -signal.SIGKILL
        for how, expected in ((signal.SIGTERM, 143), (signal.SIGINT, 1)):
            code, errors = stop_after_an_epoch(how, "--resume", "--out", "parts")
            assert code == expected
            assert errors.endswith("go on with: gpubp train --resume --out parts\n")
            assert "gpubp: stopped; parts/model.safetensors holds epoch" in errors
        done = run("train", "--resume", "--out", "parts")
        assert done.returncode == 0, done.stderr
        assert "the run was complete" not in done.stdout
        assert_equal_models("whole", "parts")


# Signals where an exception has it hard to get out: Python itself ends a process of 'python -m' by
# SIGINT after a KeyboardInterrupt in code that was a text; before 3.12, one in the making of a
# class became a RuntimeError; in what is called back it is lost, and raised again by what hears.
HARD = {
    "text": "exec('signal.raise_signal(number)')",
    "class": """
class Named:
    def __set_name__(self, owner, name):
        signal.raise_signal(number)

type("Owner", (), {"it": Named()})
""",
    "callback": """
import ctypes
sys.unraisablehook = lambda _: None  # Python would say that it is lost
ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(number))()
""",
}
HARDLY = """
import signal, sys
from gpubp import devices
from gpubp.cli.main import main

real, number = devices.resolve, signal.{name}
def resolve(*place):
    {where}
    return real(*place)
devices.resolve = resolve
main(["train", "iris", "--hidden", "4", "--epochs", "1"])
"""


@pytest.mark.parametrize("where", HARD)
@pytest.mark.parametrize(
    ("name", "code", "said"), [("SIGINT", 1, "interrupted"), ("SIGTERM", 143, "terminated")]
)
def test_a_signal_is_neither_lost_nor_another_error(name, code, said, where):
    text = HARDLY.format(name=name, where=HARD[where].replace("\n", "\n    "))
    Path("hard.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "hard"], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (code, f"gpubp: {said}")


def stop_after_an_epoch(how, *arguments):
    """Start training, send it a signal when it has saved an epoch; return exit code and errors."""
    process = subprocess.Popen(
        [*GPUBP, "train", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("epoch") and len(seen) > 1:
            process.send_signal(how)
            break
    _, rest = process.communicate(timeout=60)
    return process.returncode, "".join(seen) + rest
