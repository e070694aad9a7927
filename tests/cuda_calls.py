"""Runs the calls of cases.py, with operands as precisions.py says, through a CUDA driver.

Every operand lies between guard bytes, aligned as a driver aligns or, ``askew``, by one element
only.
"""

from dataclasses import replace

import numpy as np
from host_cuda.products import STORED, decode, encode
from runners import same

from gpubp.kernels.cuda import launch

GUARD = 256
FILL = 0xA5
# Several blocks and chunks of rows, and rows of whole packs of 16 bytes.
MANY = {
    "B": 130, "I": 70, "O": 304, "K": 40, "N": 140, "S": 135, "P": 5000, "T": 3, "...": (90, 48),
}  # fmt: skip
SCRATCH = 4096  # at least, for grids other than the usual


class Operand:
    """An array on the device, between guard bytes."""

    def __init__(self, driver, array, dtype, askew):
        self.driver, self.dtype, self.shape = driver, dtype, array.shape
        stored = np.ascontiguousarray(encode(array, dtype))
        self.start = GUARD + stored.itemsize * askew
        self.stop = self.start + stored.nbytes
        raw = np.full(self.stop + GUARD, FILL, np.uint8)
        raw[self.start : self.stop] = stored.reshape(-1).view(np.uint8)
        self.raw = driver.upload(raw)

    @property
    def place(self):
        return launch.Place(self.driver.address(self.raw) + self.start, self.shape, self.dtype)

    def fetch(self, what):
        """Return what is there now, after a look at the guards."""
        raw = self.driver.download(self.raw)
        around = np.concatenate([raw[: self.start], raw[self.stop :]])
        assert (around == FILL).all(), f"{what}: bytes beside it were written to"
        stored = raw[self.start : self.stop].view(STORED.get(self.dtype, self.dtype))
        return decode(stored.reshape(self.shape), self.dtype)


def run(driver, call, precision, *, askew=False, guard=None, grid=None):
    """Run a call on a driver's device; its arrays then hold what was there afterwards.

    Args:
        driver: the device, which is current.
        call: of cases.py; an array that stands twice is one array on the device.
        precision: of its operands.
        askew: whether operands are aligned to an element only.
        guard: the loss that holds updates back, if any.
        grid: called with the usual grid; returns another.

    Returns:
        False where there is no such kernel: a product that the library has not.
    """
    held = {}
    for declared, array in zip(call.kernel.operands, call.operands, strict=True):
        if array is not None and id(array) not in held:
            held[id(array)] = Operand(driver, array, precision.dtype(declared, array), askew)
    places = [None if array is None else held[id(array)].place for array in call.operands]
    if launch.is_product(call.kernel.name):
        if not _multiply(driver, call, places):
            return False
    else:
        _launch(driver, call, places, guard, grid)
    for name, array in call.named.items():
        if array is not None:
            array[...] = held[id(array)].fetch(f"{call.kernel.name}: {name}")
    return True


def _multiply(driver, call, places):
    shapes = [None if place is None else (place.shape, place.dtype) for place in places]
    gemm = launch.gemm(call.kernel, shapes, call.scalars, tf32=False)
    product = driver.product(gemm)
    if product is not None:
        launch.multiply(driver, product, call.kernel, places)
    return product is not None


def _launch(driver, call, places, guard, grid):
    lengths = launch.scratch_of(call.kernel, places, call.scalars)
    # Partial sums need not start as zeros. Tickets must, and are left so for the next launch.
    partials = driver.upload(np.full(max(SCRATCH, lengths[0]), np.nan))
    tickets = driver.zeros(max(SCRATCH, lengths[1]), "uint32")
    loss = None if guard is None else driver.upload(np.array([guard]))
    made = launch.launch(
        call.kernel,
        places,
        call.scalars,
        guard=0 if loss is None else driver.address(loss),
        scratch=launch.Scratch(driver.address(partials), driver.address(tickets)),
    )
    if grid:
        made = replace(made, grid=grid(made.grid))
    driver.launch(driver.function(made.variant), made.grid, made.block, made.words)
    driver.synchronize()
    assert not driver.download(tickets).any(), f"{call.kernel.name} leaves tickets"


def run_in_turns(driver, turns, call, precision):
    """Run a call in every order of turns; return the first result, which the others must equal.

    None where the library has no such product.
    """
    results = []
    for turn in turns:
        turn()
        results.append(call.copy())
        if not run(driver, results[-1], precision):
            return None
    for other in results[1:]:
        for name, array in results[0].written.items():
            if array is not None:
                same(other.written[name], array, f"{name} in another order")
    return results[0]
