"""Time from the start of ``python -c`` to the end of the first training step, 64-128-10 at 32.

All start from the same weights, and the loss that each one's first step says is checked.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import suites
from gpubp import backends, devices
from gpubp.bench.contenders import installed
from gpubp.bench.race import take_turns

_DATA = """
import numpy as np
random = np.random.default_rng(0)
X = random.standard_normal((32, 64), dtype=np.float32)
y = random.integers(0, 10, 32)
W1, W2 = (random.standard_normal(s, dtype=np.float32) / 8 for s in ((64, 128), (128, 10)))
"""
_OURS = """
from gpubp import Dense, Sequential, Trainer
trainer = Trainer(Sequential(Dense(128, "relu"), Dense(10)), backend="{}")
trainer.initialize(64)
trainer.set_named_parameters({{"W1": W1, "W2": W2}})
trainer.fit(X, y, batch_size=32)
loss = trainer.history.column("loss")[0]
"""
_TORCH = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
with torch.no_grad():
    for layer, W in ((model[0], W1), (model[2], W2)):
        layer.weight.copy_(torch.from_numpy(W.T))
        layer.bias.zero_()
optimizer = torch.optim.Adam(model.parameters(), fused=True)
loss = nn.functional.cross_entropy(model(torch.from_numpy(X)), torch.from_numpy(y))
loss.backward()
optimizer.step()
loss = loss.item()
"""
_JAX = """
import jax, optax
def loss(params, x, y):
    (w1, b1), (w2, b2) = params
    logits = jax.nn.relu(x @ w1 + b1) @ w2 + b2
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
@jax.jit
def step(params, moments, x, y):
    value, gradient = jax.value_and_grad(loss)(params, x, y)
    updates, moments = optimizer.update(gradient, moments)
    return optax.apply_updates(params, updates), moments, value
optimizer = optax.adam(1e-3)
params = [(W1, np.zeros(128, np.float32)), (W2, np.zeros(10, np.float32))]
loss = jax.block_until_ready(step(params, optimizer.init(params), X, y))[2]
"""
_DONE = "print(float(loss), flush=True)"
_ROUNDS, _COLD_ROUNDS, _QUICK_ROUNDS = 7, 3, 2
_OURS_BY_NAME = {
    f"gpubp {backend}, {state}": (_OURS.format(backend), state == "cold")
    for backend in backends.DEVICES
    for state in (("cold", "warm") if backend != "numpy" else ("warm",))  # which compiles nothing
}
_PEERS = {"PyTorch eager": (_TORCH, ("torch",)), "JAX": (_JAX, ("jax", "optax"))}
_DEFAULT = "gpubp numba, warm"
_LIMIT_SECONDS = 1.5

Times = dict[str, list[float]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, quick: bool) -> Times:
    """Return the times by contender.

    Cold means that our cache is empty; all libraries were read from the disk before.
    """
    folder = tmp_path_factory.mktemp("cache")
    programs = {name: program for name, (program, cold) in _OURS_BY_NAME.items() if not cold}
    programs |= {name: program for name, (program, _) in _PEERS.items()}
    turns: dict[str, Callable[[], float]] = {
        name: partial(_first_step, program, folder)
        for name, program in programs.items()
        if not _missing(name)
    }
    for turn in turns.values():
        turn()
    cold: dict[str, Callable[[], float]] = {
        name: lambda program=program: _first_step(program, tmp_path_factory.mktemp("cold"))
        for name, (program, is_cold) in _OURS_BY_NAME.items()
        if is_cold and not _missing(name)
    }
    return take_turns(turns, _QUICK_ROUNDS if quick else _ROUNDS) | take_turns(
        cold, 1 if quick else _COLD_ROUNDS
    )


@pytest.mark.benchmark(timer=suites.replay, group="start to first step, 64-128-10@32")
@pytest.mark.parametrize("contender", [*_OURS_BY_NAME, *_PEERS])
def test_start(benchmark: Any, finished: Times, contender: str) -> None:
    if _missing(contender):
        pytest.skip(_missing(contender))
    benchmark.extra_info |= {
        "contender": contender, "role": "peer" if contender in _PEERS else "ours",
        "default": contender == _DEFAULT,
        "limit_seconds": _LIMIT_SECONDS if contender == _DEFAULT else None,
    }  # fmt: skip
    suites.replay.into(benchmark, finished[contender])


def _missing(contender: str) -> str:
    """Return what it would need that is not here; else the empty text."""
    if contender.startswith("gpubp cupy"):
        return devices.cuda_problem()
    absent = [p for p in _PEERS.get(contender, ("", ()))[1] if not installed(p)]
    return f"{contender} is missing: pip install {' '.join(absent)}" if absent else ""


def _first_step(program: str, folder: Path) -> float:
    """Return the seconds until a program says its loss, its own end not counted."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _DATA + program + _DONE],
        stdout=subprocess.PIPE, text=True, cwd=folder,
        env=os.environ | dict.fromkeys(("GPUBP_CACHE_DIR", "CUPY_CACHE_DIR"), str(folder)),
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        said = process.stdout.readline()
        seconds = time.perf_counter() - start
    assert process.returncode == 0
    assert math.isclose(float(said), _loss(), rel_tol=1e-5)
    return seconds


@cache
def _loss() -> float:
    """Return the loss of the first step, in float64."""
    given: dict[str, Any] = {}
    exec(_DATA, given)  # the very rows and weights
    x, first, second = (given[name].astype(np.float64) for name in ("X", "W1", "W2"))
    z = np.maximum(x @ first, 0) @ second
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(-log_p[np.arange(len(x)), given["y"]].mean())
