"""The whole script on the stand-in: every line of it that needs no GPU, on next to no data."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from gpubp.kernels.cuda import cupy_driver

ROOT = Path(__file__).parents[2]
PARTS = "tests,sanitizer,graph/bf16,bench/roofs,bench/tabular/tf32,bench/epoch/fp32"
TESTS = """
import click
import pytest


def test_passes():
    pass


def test_fails():
    assert 1 + 1 == 3
"""


def test_all_parts_with_what_is_needed_and_nothing_else(script, bare, sanitizer, tmp_path):
    chosen = "tests/test_losses.py tests/test_spec.py"
    done = script("--only", PARTS, "--tests", chosen, python=bare.python, path=sanitizer)
    assert done.code == 0, done.said
    assert done.json["stand_in"]
    parts = done.json["parts"]
    assert {part["status"] for part in parts.values()} == {"done"}
    (machine,) = done.json["machines"]
    assert {"click", "torch", "array-api-compat", "hypothesis"} <= set(machine["missing"])
    assert machine["lent"] == ["array_api_compat", "gpubp", "gpubp.kernels"]
    assert machine["gpubp"]["from"] == "source tree"
    tests = parts["tests/chosen"]["result"]
    assert tests["passed"] > 20
    assert not tests["failed"]
    memcheck = parts["sanitizer/memcheck"]["result"]
    assert memcheck["kernels"] == memcheck["of"] > 100
    compared = parts["graph/bf16"]["result"]["compare"]["vectors"]
    assert {"params", "m", "v", "rounded", "counters"} <= set(compared)
    step = parts["bench/tabular/tf32"]["result"]
    ours = step["contenders"]["gpubp"]
    assert ours["right"]
    assert set(ours["seconds"]) == {"wall", "device"}
    assert len(ours["seconds"]["wall"]["rounds"]) == 2
    assert step["contenders"]["JAX scan"] == {"group": "peer", "missing": "jax"}
    assert [call["kernel"] for call in step["trace"]] == step["plan"]["kernels"]
    assert set(step["steps_a_graph"]["steps"]) == {"1", "4"}
    assert step["floor_of_this_run"]["seconds"] > 0
    assert parts["bench/epoch/fp32"]["result"]["contenders"]["gpubp"]["right"]
    assert str(ROOT) not in (tmp_path / "out.json").read_text()


def test_a_part_that_is_done_is_left_out_and_one_that_failed_is_tried_again(script, bare, tmp_path):
    tests = tmp_path / "test_it.py"
    tests.write_text(TESTS.replace("import click\n", ""))
    again = ["--only", "tests/chosen,graph/fp32", "--tests", str(tests)]
    first = script(*again, python=bare.python)
    assert first.code == 1
    part = first.json["parts"]["tests/chosen"]
    assert part["status"] == "failed"
    (failure,) = part["result"]["failures"]
    assert failure["test"].endswith("test_fails")
    assert "assert (1 + 1) == 3" in failure["message"]
    assert part["result"]["passed"] == 1
    tests.write_text(TESTS)
    second = script(*again, python=bare.python)
    assert second.json["parts"]["graph/fp32"] == first.json["parts"]["graph/fp32"]
    result = second.json["parts"]["tests/chosen"]["result"]
    assert result["skips"] == {"click is not installed": 1}


def test_an_installed_package_comes_before_the_source_tree(script, bare):
    for name, folder in (("gpubp", "gpubp"), ("kernels", "gpubp/kernels")):
        shutil.copytree(ROOT / name, bare.site / folder)
    try:
        done = script("--only", "graph/fp32", python=bare.python)
    finally:
        shutil.rmtree(bare.site / "gpubp")
    assert done.code == 0, done.said
    assert done.json["machines"][0]["gpubp"]["from"] == "installed package"
    assert done.json["machines"][0]["lent"] == ["array_api_compat"]


def test_what_does_not_fit_into_the_budget_is_left(script, bare):
    done = script("--only", "graph/fp32,bench/wide", "--budget", "60", python=bare.python)
    assert done.code == 3, done.said
    assert list(done.json["parts"]) == ["graph/fp32"]
    assert "left for another call: bench/wide/bf16" in done.said


def test_an_unknown_part_is_refused(script, bare):
    done = script("--only", "graph,bench/mnist/fp8", python=bare.python)
    assert (done.code, done.json) == (2, None)
    assert "no part 'bench/mnist/fp8'" in done.said


@pytest.mark.skipif(bool(shutil.which("compute-sanitizer")), reason="it is installed here")
def test_without_a_sanitizer_its_parts_are_skipped(script, bare):
    done = script("--only", "sanitizer/memcheck", python=bare.python)
    part = done.json["parts"]["sanitizer/memcheck"]
    assert (done.code, part["status"]) == (0, "skipped")
    assert part["error"] == "compute-sanitizer is not on PATH"


@pytest.mark.parametrize("part", ["bench/mnist/bf16", "bench/epoch/fp32"])
def test_peers_compute_the_same(script, part):
    """Those that are installed here."""
    wanted = [name for name in ("torch", "jax") if find_spec(name)]
    if not wanted:
        pytest.skip("no peer is installed")
    done = script("--only", part)
    assert done.code == 0, done.said
    contenders = done.json["parts"][part]["result"]["contenders"]
    assert not [record["error"] for record in contenders.values() if "error" in record]
    there = [record for record in contenders.values() if "missing" not in record]
    assert len(there) > 1
    assert all(record["right"] for record in there)


def test_a_stand_in_writes_nothing_among_the_results(script):
    out = ROOT / "bench" / "results" / "stand-in.json"
    done = script("--only", "bench/roofs", out=out)
    assert (done.code, done.json) == (2, None)
    assert "no result" in done.said


def test_without_a_gpu_every_part_says_so(script):
    """Nor do tests run that would be taken for tests on a device."""
    if not cupy_driver.problem(0):
        pytest.skip("there is a GPU")
    done = script("--only", "tests,graph/fp32", stand_in=False)
    assert done.code == 1
    assert not done.json["stand_in"]
    for part in done.json["parts"].values():
        assert part["status"] == "failed"
        assert "the GPU can't be used" in part["error"]
        assert "result" not in part
