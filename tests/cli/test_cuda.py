"""The command on a GPU, here a stand-in: from data to files, and back to the CPU."""

import re

import pytest
from host_cuda import build
from networks import stand_in

from gpubp.trainer import Trainer

pytestmark = pytest.mark.skipif(bool(build.missing_compiler()), reason=build.missing_compiler())

SMALL = ("--hidden", "32", "--epochs", "6")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    return stand_in(monkeypatch, devices=2)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_digits_in_whole(gpubp, precision):
    result = gpubp("train", "--device", "cuda", "--precision", precision, *SMALL)
    assert result.code == 0, result.err
    first = result.out.splitlines()[0]
    assert first.startswith("device: cuda with cupy on stand-in 0 (as asked)")
    assert (precision in first) == (precision != "fp32")
    accuracy = float(re.search(r"test: accuracy ([\d.]+), on 359 rows", result.out)[1])
    assert accuracy > 0.75
    again = gpubp("evaluate", "gpubp-run", "digits", "--device", "cuda")
    assert f"accuracy {accuracy:.4f}" in again.out
    onward = gpubp("evaluate", "gpubp-run", "digits", "--device", "cpu", "--precision", "fp32")
    assert abs(float(re.search(r"accuracy ([\d.]+)", onward.out)[1]) - accuracy) < 0.02


def test_auto_takes_the_gpu_and_the_model_says_so(gpubp):
    result = gpubp("train", *SMALL)
    assert result.out.startswith("device: cuda with cupy")
    assert Trainer.load("gpubp-run/model.safetensors").backend_name == "cupy"


def test_a_gpu_by_its_number(gpubp, machine):
    result = gpubp("train", "--device", "cuda:1", *SMALL)
    assert result.code == 0, result.err
    assert result.out.startswith("device: cuda:1 with cupy on stand-in 1")
    assert machine.drivers[0].known.used == 0


def test_the_plan_on_a_gpu_has_its_fused_products(gpubp):
    gpubp("train", "--device", "cuda", *SMALL)
    assert "matmul_bias_grad(" in gpubp("explain", "gpubp-run", "--device", "cuda").out
    assert "matmul_bias_grad(" not in gpubp("explain", "gpubp-run", "--device", "cpu").out
