"""Time from the start of ``python -c`` to the end of the first training step, 64-128-10 at 32."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from gpubp.bench.race import take_turns
from replay import replay

_DATA = """
import numpy as np
random = np.random.default_rng(0)
X = random.standard_normal((32, 64), dtype=np.float32)
y = random.integers(0, 10, 32)
"""
_OURS = """
from gpubp import Dense, Sequential, Trainer
Trainer(Sequential(Dense(128, "relu"), Dense(10)), backend="numba").fit(X, y, batch_size=32)
"""
_TORCH = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), fused=True)
nn.functional.cross_entropy(model(torch.from_numpy(X)), torch.from_numpy(y)).backward()
optimizer.step()
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
params = [(random.standard_normal(s, dtype=np.float32) / 8, np.zeros(s[1], np.float32))
          for s in ((64, 128), (128, 10))]
jax.block_until_ready(step(params, optimizer.init(params), X, y))
"""
_DONE = 'print("a step is done", flush=True)'
_ROUNDS, _COLD_ROUNDS, _QUICK_ROUNDS = 7, 3, 2
_WARM, _COLD = "gpubp numba, warm", "gpubp numba, cold"
_PROGRAMS = {
    _WARM: (_OURS, ()),
    "PyTorch eager": (_TORCH, ("torch",)),
    "JAX": (_JAX, ("jax", "optax")),
}  # fmt: skip
_LIMIT_SECONDS = 1.5

Times = dict[str, list[float]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, quick: bool) -> Times:
    """Return the times by contender.

    Cold means that our cache is empty; all libraries were read from the disk before.
    """
    cache = tmp_path_factory.mktemp("cache")
    turns: dict[str, Callable[[], float]] = {}
    for name, (program, needs) in _PROGRAMS.items():
        if all(find_spec(package) for package in needs):
            turns[name] = partial(_first_step, program, cache)
            turns[name]()
    cold = {_COLD: lambda: _first_step(_OURS, tmp_path_factory.mktemp("cold"))}
    return take_turns(turns, _QUICK_ROUNDS if quick else _ROUNDS) | take_turns(
        cold, 1 if quick else _COLD_ROUNDS
    )


@pytest.mark.benchmark(timer=replay, group="start to first step, 64-128-10@32")
@pytest.mark.parametrize("contender", [_COLD, *_PROGRAMS])
def test_start(benchmark: Any, finished: Times, contender: str) -> None:
    if contender not in finished:
        pytest.skip(f"{contender} is missing: pip install {' '.join(_PROGRAMS[contender][1])}")
    ours = contender in (_WARM, _COLD)
    benchmark.extra_info |= {
        "contender": contender, "role": "ours" if ours else "peer", "default": contender == _WARM,
        "limit_seconds": _LIMIT_SECONDS if contender == _WARM else None,
    }  # fmt: skip
    replay.into(benchmark, finished[contender])


def _first_step(program: str, cache: Path) -> float:
    """Return the seconds until a program says that it is done, its own end not counted."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _DATA + program + _DONE],
        stdout=subprocess.PIPE, text=True, cwd=cache,
        env=os.environ | {"GPUBP_CACHE_DIR": str(cache)},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        said = process.stdout.readline()
        seconds = time.perf_counter() - start
    assert said
    assert process.returncode == 0
    return seconds
