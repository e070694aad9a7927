"""PyTorch: eager, compiled, the whole step captured in a CUDA graph, and both."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from gpu.cases import BETA1, BETA2, EPSILON
from gpu.contenders.base import Contender, Turn

Step = Callable[[], Tensor]

_WARM = 5  # steps before anything is captured or timed


class Network(Contender):
    """The network with fused Adam; bf16 is autocast's, with float32 weights as gpubp has them."""

    def __init__(
        self, case: str, precision: str, stand_in: bool, compiled: bool = False,
        captured: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(case, precision, stand_in)
        self.device = "cpu" if stand_in else "cuda"
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        modules: list[nn.Module] = []
        for i, o in pairwise(self.case.sizes):
            modules += [nn.Linear(i, o), nn.ReLU()]
        self.model = nn.Sequential(*modules[:-1]).to(self.device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), self.case.rate, (BETA1, BETA2), EPSILON, fused=True,
            capturable=captured and not stand_in,
        )  # fmt: skip
        self.start()
        self.objective: Callable[[Tensor, Tensor], Tensor] = self._loss
        if compiled:
            # Graphs of its own would be in the way of the one around the whole step.
            mode = "max-autotune-no-cudagraphs" if captured else "max-autotune"
            how: dict[str, Any] = {"backend": "aot_eager"} if stand_in else {"mode": mode}
            self.objective = torch.compile(self._loss, dynamic=False, **how)

    @torch.no_grad()
    def start(self) -> None:
        """Set the first weights, and Adam's state to that before the first step, all in place."""
        linears = [module for module in self.model if isinstance(module, nn.Linear)]
        for linear, (weight, bias) in zip(linears, self.case.layers(), strict=True):
            linear.weight.copy_(torch.from_numpy(weight.T))
            linear.bias.copy_(torch.from_numpy(bias))
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

    def put(self, *arrays: Any) -> list[Tensor]:
        """Return NumPy arrays on the device."""
        return [torch.from_numpy(array).to(self.device) for array in arrays]

    def update(self, x: Tensor, y: Tensor) -> Tensor:
        """Do a training step; return the loss before it."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.objective(x, y)
        loss.backward()
        self.optimizer.step()
        return loss

    def capture(self, work: Step) -> Step:
        """Return work as a CUDA graph: a function that runs it again, into the same result."""
        if self.stand_in:
            return work
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = work()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay

    def timed(self, work: Callable[[], object], count: int) -> Turn:
        """Run work so many times; return seconds of one."""
        if self.stand_in:
            start = time.perf_counter()
            for _ in range(count):
                work()
            return {"wall": (time.perf_counter() - start) / count}
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start = time.perf_counter()
        before.record()
        for _ in range(count):
            work()
        after.record()
        queued = time.perf_counter()
        torch.cuda.synchronize()
        wall = time.perf_counter() - start
        seconds = {
            "wall": wall,
            "queued": queued - start,
            "device": before.elapsed_time(after) / 1000,
        }
        return {name: value / count for name, value in seconds.items()}

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
            z = self.model(x)
            return mse_loss(z, y) if self.case.loss == "squared_error" else cross_entropy(z, y)


class Steps(Network):
    """Steps on one minibatch that stays where it is."""

    def __init__(
        self, case: str, precision: str, stand_in: bool, compiled: bool = False,
        captured: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(case, precision, stand_in, compiled, captured)
        x, y = self.put(*self.case.data(self.case.batch, seed=1))
        self.step: Step = lambda: self.update(x, y)
        for _ in range(_WARM):
            self.step()
        if captured:
            self.step = self.capture(self.step)

    def losses(self) -> list[float]:
        self.start()
        # PyTorch's mean is over outputs, too.
        return [self.step().item() * self.case.targets for _ in range(self.case.checked)]

    def turn(self) -> Turn:
        return self.timed(self.step, self.case.turn)
