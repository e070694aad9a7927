"""Roofs: which one binds, and what is above it."""

import pytest

from gpubp.bench import limits

ROOFS = [
    {"device": "cpu", "kind": "gemm", "precision": "fp32", "value": 100.0, "unit": "FLOP/s"},
    {"device": "cpu", "kind": "gemm", "precision": "fp64", "value": 50.0, "unit": "FLOP/s"},
    {"device": "cpu", "kind": "copy", "precision": None, "value": 8.0, "unit": "B/s", "bytes": 4},
    {"device": "cpu", "kind": "copy", "precision": None, "value": 10.0, "unit": "B/s", "bytes": 16},
    {"device": "cpu", "kind": "copy", "precision": None, "value": 2.0, "unit": "B/s", "bytes": 64},
    {"device": "cpu", "kind": "call", "precision": None, "value": 0.5, "unit": "s"},
    {"device": "cuda", "kind": "gemm", "precision": "fp32", "value": 1.0, "unit": "FLOP/s"},
]


def cost(flops=0, bytes_=0, calls=0):
    return {"flops": flops, "bytes": bytes_, "calls": calls}


@pytest.mark.parametrize(
    ("given", "bound", "seconds"),
    [
        (cost(1000, 20, 1), "compute", 10),
        (cost(100, 200, 1), "memory", 20),
        (cost(100, 20, 40), "calls", 20),
        ({"flops": 100, "bytes": None, "calls": None}, "compute", 1),
    ],
)
def test_the_longest_time_binds(given, bound, seconds):
    assert limits.limit(ROOFS, "cpu", "fp32", given, 16) == limits.Limit(bound, seconds)


def test_precisions_and_devices_have_roofs_of_their_own():
    assert limits.limit(ROOFS, "cpu", "fp64", cost(100), 16).seconds == 2
    assert limits.limit(ROOFS, "cuda", "fp32", cost(100), 16).seconds == 100
    assert limits.limit(ROOFS, "cuda", "bf16", cost(100), 16) is None


@pytest.mark.parametrize(("size", "rate"), [(1, 10), (4, 10), (16, 10), (63, 10), (64, 2), (99, 2)])
def test_bytes_move_at_the_rate_of_what_holds_them(size, rate):
    # A smaller copy that was measured slower than a larger one is no lower roof.
    found = limits.limit(ROOFS, "cpu", "fp32", cost(bytes_=100), size)
    assert found == limits.Limit("memory", 100 / rate)


def test_the_floor_is_the_products_and_the_other_bytes():
    found = limits.floor(ROOFS, "cpu", [2.0, 3.0], {"elementwise": 100, "set": 16})
    assert found == [2.0 + 10, 3.0 + 10]
    assert limits.floor([], "cpu", [2.0], {"elementwise": 100, "set": 16}) == [2.0]


def row(utilisation):
    return {
        "utilisation": utilisation, "phase": "step", "network": "4-2", "batch_size": 8,
        "contender": "gpubp", "device": "cpu", "bound": "compute",
    }  # fmt: skip


def test_what_is_above_its_roof_fails():
    limits.check([row(None), row(0.5), row(1.0)])
    with pytest.raises(limits.RoofError, match=r"step of 4-2 at 8 by gpubp on cpu is at 1.30"):
        limits.check([row(0.5), row(1.2), row(1.3)])
