"""PyTorch on the CPU: eager, and compiled by ``torch.compile``; and its matrix products alone."""

from __future__ import annotations

import time
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from contenders.base import Contender
from networks import BETA1, BETA2, EPSILON, LEARNING_RATE, Network


class Eager(Contender):
    """The usual loop, with what makes it fast: fused Adam, index_select, gradients set to None."""

    def __init__(self, network: Network, threads: int | None) -> None:
        super().__init__(network, threads)
        if threads is not None:
            torch.set_num_threads(threads)
        self.x, self.y = map(torch.from_numpy, network.data())
        modules: list[nn.Module] = []
        for i, o in pairwise(network.sizes):
            modules += [nn.Linear(i, o), nn.ReLU()]
        self.model = nn.Sequential(*modules[:-1])
        linears = [module for module in modules if isinstance(module, nn.Linear)]
        with torch.no_grad():
            for linear, (weight, bias) in zip(linears, network.layers(), strict=True):
                linear.weight.copy_(torch.from_numpy(weight.T))
                linear.bias.copy_(torch.from_numpy(bias))
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), LEARNING_RATE, (BETA1, BETA2), EPSILON, fused=True
        )
        self.objective = self.forward

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(self.model(x), y)

    def train(self, epochs: int, shuffle: bool) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            rows = torch.randperm(self.network.rows) if shuffle else torch.arange(self.network.rows)
            for chosen in rows.split(self.network.batch):
                self.optimizer.zero_grad(set_to_none=True)
                x, y = self.x.index_select(0, chosen), self.y.index_select(0, chosen)
                self.objective(x, y).backward()
                self.optimizer.step()
        return time.perf_counter() - start

    def loss(self) -> float:
        with torch.no_grad():
            return self.forward(self.x, self.y).item()


class Compiled(Eager):
    """Forward, loss and their backward compiled."""

    def __init__(self, network: Network, threads: int | None) -> None:
        super().__init__(network, threads)
        self.objective = torch.compile(self.forward)


class Products(Contender):
    """The step's matrix products by ``torch.mm``: another BLAS to find the floor with."""

    def __init__(self, network: Network, threads: int | None) -> None:
        super().__init__(network, threads)
        self.calls = []
        for p in network.products(network.batch):
            a = torch.randn((p.inner, p.rows) if p.transpose_a else (p.rows, p.inner))
            b = torch.randn((p.columns, p.inner) if p.transpose_b else (p.inner, p.columns))
            operands = a.T if p.transpose_a else a, b.T if p.transpose_b else b
            self.calls.append((*operands, torch.empty(p.rows, p.columns)))

    def train(self, epochs: int, shuffle: bool) -> float:
        start = time.perf_counter()
        for _ in range(epochs * self.network.steps):
            for a, b, c in self.calls:
                torch.mm(a, b, out=c)
        return time.perf_counter() - start

    def loss(self) -> None:
        return None
