"""Time of a training step, shuffled minibatches and all: gpubp, its peers and the floor."""

from __future__ import annotations

from typing import Any

import pytest

import oracle
from contenders import ENTRIES, Entry
from networks import NETWORKS, Network
from race import Result, race
from replay import replay

_QUICK_ROUNDS = 3
# How far a loss may be from the oracle's, which is in float64, after an epoch, relative to it: a
# few hundred steps of float32. 5e-5 was the largest seen.
_TOLERANCE = 2e-4

Race = tuple[Network, dict[str, Result]]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network.name)
def finished(request: pytest.FixtureRequest, quick: bool) -> Race:
    network: Network = request.param
    cases = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    chosen = [case["entry"] for case in cases if case.get("finished") is network]
    return network, race(network, chosen, _QUICK_ROUNDS if quick else network.rounds)


@pytest.mark.benchmark(timer=replay)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_step(benchmark: Any, finished: Race, entry: Entry) -> None:
    network, results = finished
    result = results[entry.name]
    if result.missing:
        pytest.skip(result.missing)
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
    benchmark.group = f"step {network.name}"
    benchmark.extra_info |= {
        "contender": entry.name, "role": entry.role, "default": entry.threads is None,
        "target": network.target, "loss": result.losses[1],
    }  # fmt: skip
    replay.into(benchmark, result.seconds)
    if None not in result.losses:
        expected = oracle.losses(network, epsilon_first=entry.epsilon_first)
        assert result.losses == pytest.approx(expected, rel=_TOLERANCE)
