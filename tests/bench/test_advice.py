"""Advice: the batch size at which two devices cross over, and what is said of one."""

import pytest

from gpubp.bench import advice

BATCHES = (32, 128, 512, 2048)


def row(batch, device, seconds, contender="gpubp", **more):
    return {
        "network": "784-256-10", "precision": "fp32", "phase": "step", "batch_size": batch,
        "device": device, "contender": contender, "median": seconds,
        "interval": [seconds * 0.99, seconds * 1.01], "utilisation": 0.5, "bound": "compute",
    } | more  # fmt: skip


def two_devices(crossing):
    """The CPU's time is as the batch, the GPU's stays: they are equal at the crossing."""
    cpu = [row(batch, "cpu", batch * 1e-6) for batch in BATCHES]
    return [*cpu, *[row(batch, "cuda", crossing * 1e-6) for batch in BATCHES]]


@pytest.mark.parametrize("crossing", [100, 192, 512.5])
def test_devices_cross_where_power_laws_do(crossing):
    (sentence,) = advice.recommend({"rows": two_devices(crossing)})
    assert sentence == (
        f"For 784-256-10 use the CPU below batch {round(crossing)} and the GPU above."
    )


def test_the_other_way_round():
    rows = [r | {"device": "cuda" if r["device"] == "cpu" else "cpu"} for r in two_devices(192)]
    (sentence,) = advice.recommend({"rows": rows})
    assert "use the GPU below batch 192 and the CPU above" in sentence


@pytest.mark.parametrize(("crossing", "who"), [(5, "the GPU"), (99999, "the CPU")])
def test_one_is_better_everywhere(crossing, who):
    (sentence,) = advice.recommend({"rows": two_devices(crossing)})
    assert f"use {who} at every batch size from 32 to 2048" in sentence


def test_of_one_device_the_best_batch_the_roof_and_the_better_setting():
    rows = [row(32, "cpu", 1e-3), row(128, "cpu", 2e-3), row(32, "cpu", 5e-4, "gpubp, 1 thread")]
    (sentence,) = advice.recommend({"rows": rows})
    assert "trains fastest at batch 128, 64,000 rows a second" in sentence
    assert "50% of what its compute roof allows" in sentence
    assert "1 thread takes 0.50 of the time at batch 32" in sentence


def test_precisions_are_named_where_there_are_several():
    rows = [row(32, "cpu", 1e-3), row(32, "cpu", 2e-3, precision="fp64")]
    first, second = advice.recommend({"rows": rows})
    assert "in fp32" in first
    assert "in fp64" in second
