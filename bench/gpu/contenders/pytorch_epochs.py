"""PyTorch through whole epochs: the usual loop over a DataLoader, and what an expert would write.

Both give the mean loss over the training rows and that over the validation rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gpu.cases import EpochCase
from gpu.contenders.base import Turn
from gpu.contenders.pytorch import Network, Step

_EVALUATED_AT_ONCE = 1024


class Loader(Network):
    """Rows in host memory, in minibatches of a shuffling DataLoader with pinned memory; eager."""

    case: EpochCase

    def __init__(self, case: str, precision: str, stand_in: bool, workers: int = 0) -> None:
        super().__init__(case, precision, stand_in)
        options: dict[str, Any] = {
            "num_workers": workers, "persistent_workers": workers > 0, "pin_memory": not stand_in,
        }  # fmt: skip
        training, validation = (
            TensorDataset(*map(torch.from_numpy, self.case.data(rows, seed)))
            for rows, seed in ((self.case.rows, 1), (self.case.validation_rows, 3))
        )
        batch = self.case.batch
        self._ordered = DataLoader(training, batch, **options)
        self._shuffled = DataLoader(training, batch, shuffle=True, **options)
        self._validation = DataLoader(validation, _EVALUATED_AT_ONCE, **options)

    def losses(self) -> list[float]:
        self.start()
        losses = self._epoch(self._ordered)
        self._epoch(self._shuffled)
        return losses

    def turn(self) -> Turn:
        return self.timed(lambda: self._epoch(self._shuffled), self.case.turn)

    def _epoch(self, training: Iterable[list[Tensor]]) -> list[float]:
        total = torch.zeros((), device=self.device)
        for rows in training:
            x, y = (part.to(self.device, non_blocking=True) for part in rows)
            total += self.update(x, y).detach() * len(x)
        evaluated = torch.zeros((), device=self.device)
        with torch.no_grad():
            for rows in self._validation:
                x, y = (part.to(self.device, non_blocking=True) for part in rows)
                evaluated += self.objective(x, y) * len(x)
        return [total.item() / self.case.rows, evaluated.item() / self.case.validation_rows]


class GraphLoop(Network):
    """All data on the device, each step a CUDA graph that picks its rows by a counter there.

    With ``whole`` a single graph has all steps of an epoch but the last, which is smaller.
    """

    case: EpochCase

    def __init__(
        self, case: str, precision: str, stand_in: bool, compiled: bool = False,
        whole: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(case, precision, stand_in, compiled, captured=True)
        self._x, self._y = self.put(*self.case.data(self.case.rows, seed=1))
        self._validation = self.put(*self.case.data(self.case.validation_rows, seed=3))
        self._order = torch.arange(self.case.rows, device=self.device)
        self._number = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._total = torch.zeros((), device=self.device)
        full, rest = divmod(self.case.rows, self.case.batch)
        of_graph = full if whole else 1
        steps = self.capture(lambda: self._steps(of_graph))
        self._graphs = [steps] * (full // of_graph)
        if rest:
            self._graphs.append(self.capture(lambda: self._step(self._order[-rest:])))
        self._evaluate: Step = self.capture(self._validate)

    def losses(self) -> list[float]:
        self.start()
        return self._epoch(torch.arange(self.case.rows, device=self.device))

    def turn(self) -> Turn:
        rows = self.case.rows
        return self.timed(
            lambda: self._epoch(torch.randperm(rows, device=self.device)), self.case.turn
        )

    def _epoch(self, order: Tensor) -> list[float]:
        self._order.copy_(order)
        self._number.zero_()
        self._total.zero_()
        for graph in self._graphs:
            graph()
        evaluated = self._evaluate()
        return [self._total.item() / self.case.rows, evaluated.item()]

    def _steps(self, count: int) -> Tensor:
        batch = self.case.batch
        minibatches = self._order[: self.case.rows // batch * batch].view(-1, batch)
        for _ in range(count):
            self._step(minibatches.index_select(0, self._number % len(minibatches)).view(-1))
        return self._total

    def _step(self, rows: Tensor) -> Tensor:
        x, y = self._x.index_select(0, rows), self._y.index_select(0, rows)
        self._total += self.update(x, y).detach() * len(rows)
        self._number += 1
        return self._total

    @torch.no_grad()
    def _validate(self) -> Tensor:
        return self.objective(*self._validation)
