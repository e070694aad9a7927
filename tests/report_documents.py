"""Result documents for tests of the report: every number in them is invented."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from gpubp.bench import statistics

Document = dict[str, Any]

# Invented seconds of a step at batch 64, and how they grow: fixed part and part for each row.
_CPU = {
    "gpubp": (12e-6, 0.5e-6), "torch eager": (300e-6, 0.9e-6), "torch.compile": (340e-6, 0.8e-6),
    "jax scan": (16e-6, 0.45e-6), "scikit-learn": (200e-6, 2.2e-6),
    "floor, OpenBLAS threads": (2e-6, 0.3e-6),
}  # fmt: skip
_CUDA = {
    "gpubp": (45e-6, 0.02e-6), "torch eager": (420e-6, 0.03e-6), "torch graph": (70e-6, 0.03e-6),
}  # fmt: skip
NETWORKS = ((784, 256, 10), (32, 64, 64, 2))
BATCHES = (16, 64, 256, 1024)


def full(seed: int = 0, speed: float = 1.0) -> Document:
    """Return the document of a machine with a GPU and all peers; gpubp takes ``speed`` as long."""
    random = np.random.default_rng(seed)
    rows = [
        row
        for sizes in NETWORKS
        for batch in BATCHES
        for device, contenders in (("cpu", _CPU), ("cuda", _CUDA))
        for name, (fixed, each) in contenders.items()
        for row in _rows(random, sizes, batch, device, name, fixed, each, speed)
    ]
    return {
        "format": "gpubp-bench/1",
        "quick": False,
        "environment": _environment(["NVIDIA Invented, 80 GB"]),
        "roofs": [*_roofs("cpu", 9e11, 3e11, 1e11), *_roofs("cuda", 5e13, 9e12, 3e12)],
        "rows": rows,
        "breakdown": [_breakdown("784-256-10", 64, device) for device in ("cpu", "cuda")],
        "memory": [_memory("784-256-10", 203530, batch, "cpu") for batch in (64, 1024)],
        "recommendations": [
            "For 784-256-10 use the CPU below a batch of about 90 and the GPU above.",
            "For 32-64-64-2 use the CPU below a batch of about 70 and the GPU above.",
        ],
        "missing": [{"contender": "jax scan on cuda", "why": "pip install 'jax[cuda13]'"}],
    }


def small() -> Document:
    """Return the document of a quick run: no GPU, no peer, one batch size, nothing optional."""
    document = full()
    rows = [
        row | {"samples": row["samples"][:3], "utilisation": None, "bound": None, "correct": None}
        for row in document["rows"]
        if row["device"] == "cpu" and row["contender"] == "gpubp" and row["batch_size"] == 64
    ]
    missing = [
        {"contender": name, "why": f"pip install {name.split()[0]}"} for name in ("torch", "jax")
    ]
    return document | {
        "quick": True, "environment": _environment([]), "rows": rows, "roofs": [], "breakdown": [],
        "memory": [], "recommendations": [], "missing": missing,
    }  # fmt: skip


def _rows(
    random: np.random.Generator, sizes: tuple[int, ...], batch: int, device: str, name: str,
    fixed: float, each: float, speed: float,
) -> list[dict[str, Any]]:  # fmt: skip
    parameters = sum((i + 1) * o for i, o in pairwise(sizes))
    scale = (speed if name == "gpubp" else 1.0) * parameters / 203530
    seconds = fixed + scale * each * batch * (6 if device == "cpu" else 1)
    shares = {"step": 1.0}
    if name == "gpubp":
        shares |= {"forward": 0.28, "backward": 0.55, "update": 0.17, "epoch": 60.0}
    return [
        _row(random, sizes, parameters, batch, device, name, phase, seconds * share, share)
        for phase, share in shares.items()
    ]


def _row(
    random: np.random.Generator, sizes: tuple[int, ...], parameters: int, batch: int, device: str,
    name: str, phase: str, seconds: float, share: float,
) -> dict[str, Any]:  # fmt: skip
    samples = seconds * (1 + 0.03 * random.standard_gamma(2.0, 11))
    middle = statistics.median(samples)
    flops = int(6 * batch * parameters * share)
    moved = int(4 * (3 * parameters + 6 * batch * sum(sizes)) * share)
    counted = phase != "epoch" and not name.startswith("floor")
    return {
        "network": "-".join(map(str, sizes)),
        "parameters": parameters,
        "batch_size": batch,
        "precision": "fp32",
        "device": device,
        "contender": name,
        "phase": phase,
        "rows": 60 * batch if phase == "epoch" else batch,
        "samples": samples.tolist(),
        "median": middle.value,
        "interval": [middle.low, middle.high],
        "flops": flops if counted else None,
        "bytes": moved if counted else None,
        "utilisation": flops / middle.value / (9e11 if device == "cpu" else 5e13)
        if counted
        else None,
        "bound": "compute" if counted else None,
        "correct": None
        if name.startswith("floor")
        else {
            "what": "loss after one epoch",
            "error": float(random.uniform(1e-7, 9e-6)),
            "tolerance": 2e-4,
            "ok": True,
        },
    }


def _roofs(device: str, gemm: float, cache: float, memory: float) -> list[dict[str, Any]]:
    return [
        _roof(device, "gemm", "fp32", gemm, "FLOP/s"),
        _roof(device, "copy", None, cache, "B/s") | {"bytes": 1 << 16},
        _roof(device, "copy", None, memory, "B/s") | {"bytes": 1 << 26},
        _roof(device, "call", None, 1.2e-7, "s"),
    ]


def _roof(device: str, kind: str, precision: str | None, value: float, unit: str) -> dict[str, Any]:
    return {"device": device, "kind": kind, "precision": precision, "value": value, "unit": unit}


def _breakdown(network: str, batch: int, device: str) -> dict[str, Any]:
    calls = [
        ("x1 = X[rows]", "gather", 2.1e-6, 0, 401408),
        ("z1 = x1 W1", "matmul", 21e-6, 25690112, 1069056),
        ("a1 = relu(z1 + b1)", "bias_relu", 1.9e-6, 32768, 132096),
        ("z2 = a1 W2", "matmul", 1.4e-6, 327680, 78336),
        ("loss, dz2 = softmax_cross_entropy(z2, y)", "softmax_cross_entropy", 2.4e-6, 6400, 5888),
        ("dW2 = a1ᵀ dz2", "matmul_bias_grad", 1.6e-6, 327680, 78336),
        ("da1 = dz2 W2ᵀ", "matmul", 1.3e-6, 327680, 78336),
        ("dz1 = da1 [a1 > 0]", "relu_delta_bias_grad", 1.5e-6, 16384, 197632),
        ("dW1 = x1ᵀ dz1", "matmul", 22e-6, 25690112, 1069056),
        ("m, v, params = adam(grads)", "adam", 14e-6, 2442360, 5698840),
        ("step = step + 1", "advance", 0.1e-6, 0, 16),
    ]
    keys = ("formula", "kernel", "seconds", "flops", "bytes")
    return {
        "network": network, "batch_size": batch, "precision": "fp32", "device": device,
        "calls": [dict(zip(keys, call, strict=True)) for call in calls],
    }  # fmt: skip


def _memory(network: str, parameters: int, batch: int, device: str) -> dict[str, Any]:
    vector = 4 * parameters
    parts = {
        "parameters": vector, "gradients": vector, "optimizer": 2 * vector,
        "transient": 4 * batch * 1400, "data": 256 * batch * 3140, "peak process": 220_000_000,
    }  # fmt: skip
    return {"network": network, "batch_size": batch, "device": device, "bytes": parts}


def _environment(gpus: list[str]) -> dict[str, Any]:
    return {
        "gpubp": "0.1.0", "python": "3.11.7", "numpy": "2.4.6", "numba": "0.63.1",
        "processor": "Invented Processor 9000", "cores": 2, "os": "Linux 6.1",
        "date": "2026-01-02T03:04:05+00:00", "gpus": gpus, "load": [0.21, 1.72],
        "versions": {"torch": "2.13.0", "jax": "0.10.2", "scikit-learn": "1.9.1"},
    }  # fmt: skip
