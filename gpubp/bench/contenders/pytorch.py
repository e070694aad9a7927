"""PyTorch: eager, compiled by ``torch.compile``, and captured in a CUDA graph; and its BLAS alone.

bf16 is autocast's, with float32 weights as gpubp has them.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gpubp.bench.cases import BETA1, BETA2, EPSILON, LEARNING_RATE, Case
from gpubp.bench.contenders.base import Contender

_MODULES = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
_DTYPES = {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16}
_EVALUATED_ROWS = 1024


class Eager(Contender):
    """The usual loop, with what makes it fast: fused Adam, index_select, gradients set to None.

    With ``compiled`` forward, loss and their backward are compiled.
    """

    capturable = False

    def __init__(self, case: Case, threads: int | None, compiled: bool = False) -> None:
        super().__init__(case, threads)
        if threads is not None:
            torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("high" if case.precision == "tf32" else "highest")
        self.dtype = torch.float64 if case.precision == "fp64" else torch.float32
        self.x, self.y = self._put(case.data())
        self.held_out = self._put(case.held_out())
        self.model = self._model()
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), LEARNING_RATE, (BETA1, BETA2), EPSILON, fused=True,
            capturable=self.capturable,
        )  # fmt: skip
        self.objective = self.forward
        if compiled:
            torch.compiler.reset()  # what it compiled for the last case would make this one dynamic
            self.objective = torch.compile(self.forward, dynamic=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss."""
        with self._autocast():
            return cross_entropy(self.model(x), y)

    def train(self, epochs: int, shuffle: bool) -> float:
        """Train by the usual loop."""
        self._wait()
        start = time.perf_counter()
        for _ in range(epochs):
            for rows in self._order(shuffle).split(self.case.batch):
                self.step(rows)
        self._wait()
        return time.perf_counter() - start

    def step(self, rows: Tensor) -> None:
        """Do a training step on some rows."""
        self.optimizer.zero_grad(set_to_none=True)
        self.objective(self.x.index_select(0, rows), self.y.index_select(0, rows)).backward()
        self.optimizer.step()

    @torch.no_grad()
    def loss(self) -> float:
        """Evaluate all rows."""
        return float(self.forward(self.x, self.y))

    @torch.inference_mode()
    def evaluate(self) -> float:
        """Evaluate by the usual loop; sums stay on the device until its end."""
        loss = torch.zeros((), device=self.x.device, dtype=torch.float64)
        correct = torch.zeros((), device=self.x.device, dtype=torch.int64)
        for x, y in zip(*(part.split(_EVALUATED_ROWS) for part in self.held_out), strict=True):
            with self._autocast():
                z = self.model(x).to(self.dtype)
            loss += cross_entropy(z, y, reduction="sum")
            correct += (z.argmax(1) == y).sum()
        loss.item()
        return float(correct) / len(self.held_out[0])

    def _autocast(self) -> torch.autocast:
        """Return a context in which products are of bfloat16 where that is the precision."""
        narrow = self.case.precision == "bf16"
        return torch.autocast(self.x.device.type, torch.bfloat16, enabled=narrow)

    def _put(self, arrays: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
        x, y = map(torch.from_numpy, arrays)
        return x.to(self.case.device, self.dtype), y.to(self.case.device)

    def _model(self) -> nn.Sequential:
        modules: list[nn.Module] = []
        for (i, o), (weight, bias) in zip(
            pairwise(self.case.sizes), self.case.layers(), strict=True
        ):
            linear = nn.Linear(i, o)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(weight.T))
                linear.bias.copy_(torch.from_numpy(bias))
            modules += [linear, _MODULES[self.case.activation]()]
        return nn.Sequential(*modules[:-1]).to(self.case.device, self.dtype)

    def _order(self, shuffle: bool) -> Tensor:
        make = torch.randperm if shuffle else torch.arange
        return make(self.case.rows, device=self.x.device)

    def _wait(self) -> None:
        if self.x.is_cuda:
            torch.cuda.synchronize(self.x.device)


class Captured(Eager):
    """The whole step in a CUDA graph, which takes its rows from a tensor that is refilled."""

    capturable = True

    def __init__(self, case: Case, threads: int | None) -> None:
        super().__init__(case, threads)
        self._rows = torch.arange(case.batch, device=self.x.device)
        kept = [p.detach().clone() for p in self.model.parameters()]
        beside = torch.cuda.Stream(self.x.device)
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):  # what is set up at first must not be captured
                super().step(self._rows)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            super().step(self._rows)
        self._start_again(kept)

    def step(self, rows: Tensor) -> None:
        """Replay a step on some rows."""
        self._rows.copy_(rows)
        self._graph.replay()

    @torch.no_grad()
    def _start_again(self, weights: list[Tensor]) -> None:
        """Set the first weights, and Adam's state to that before the first step, all in place."""
        for parameter, values in zip(self.model.parameters(), weights, strict=True):
            parameter.copy_(values)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()


class Products(Contender):
    """The step's matrix products by ``torch.mm``: another BLAS to find the floor with."""

    def __init__(self, case: Case, threads: int | None) -> None:
        super().__init__(case, threads)
        self.calls = []
        dtype = _DTYPES[case.precision]
        for p in case.products(case.batch):
            a = torch.randn((p.inner, p.rows) if p.transpose_a else (p.rows, p.inner))
            b = torch.randn((p.columns, p.inner) if p.transpose_b else (p.inner, p.columns))
            operands = a.T if p.transpose_a else a, b.T if p.transpose_b else b
            places = (*operands, torch.empty(p.rows, p.columns))
            self.calls.append([place.to(dtype) for place in places])

    def train(self, epochs: int, shuffle: bool) -> float:
        """Multiply."""
        start = time.perf_counter()
        for _ in range(epochs * self.case.steps):
            for a, b, c in self.calls:
                torch.mm(a, b, out=c)
        return time.perf_counter() - start

    def loss(self) -> None:
        """Return None: nothing is learned."""
        return
