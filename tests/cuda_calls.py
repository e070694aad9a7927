"""Runs the calls of cases.py through a CUDA driver.

A bfloat16 operand is a float32 array in the call; it is rounded on its way to the device. Every
operand lies between guard bytes, aligned as a driver aligns or, ``askew``, by one element only.
"""

from dataclasses import dataclass, replace

import cases
import numpy as np
import oracles
from host_cuda.products import STORED, decode, encode
from runners import close, run_reference, same

from gpubp.kernels.contract import WIDE
from gpubp.kernels.cuda import launch

GUARD = 256
FILL = 0xA5
# Several blocks and chunks of rows, and rows of whole packs of 16 bytes.
MANY = {
    "B": 130, "I": 70, "O": 304, "K": 40, "N": 140, "S": 135, "P": 5000, "T": 3, "...": (90, 48),
}  # fmt: skip
SCRATCH = 4096  # at least, for grids other than the usual
# bfloat16 has 8 bits of mantissa: its nearest number is within 2⁻⁹ of the value, relatively.
NARROW_ROUNDING = 2**-8


@dataclass(frozen=True)
class Precision:
    """A working dtype, and whether operands that may be as wide as it is computed in are so."""

    working: str
    wide: bool = False

    def __str__(self):
        return self.working + "-wide" * self.wide

    def dtype(self, declared, array):
        """Return the dtype of an operand on the device."""
        if declared.dtype == "either":
            return WIDE[self.working] if self.wide else self.working
        if declared.dtype in ("float", "wide"):
            return self.working if declared.dtype == "float" else WIDE[self.working]
        return declared.dtype if declared.dtype == "bfloat16" else array.dtype.name

    def call(self, variant, size, **more):
        """Return a call with values that its operands can hold exactly."""
        # What is bfloat16 in any precision is float32 in the call, too: for the real dtype cases.py
        # needs a package that a machine with a GPU may lack.
        operands = variant.kernel.operands
        bits = [o.name for o in operands if o.dtype == "bfloat16" and o.name not in variant.absent]
        made = replace(variant, absent=(*variant.absent, *bits))
        call = made.call(WIDE[self.working], size, **more).mapped(self.rounded)
        for place, declared in enumerate(operands):
            if declared.name in bits:
                call.operands[place] = np.full_like(call.named["params"], np.nan, "float32")
        return call

    def rounded(self, declared, array):
        dtype = self.dtype(declared, array)
        return decode(encode(array, dtype), dtype) if declared.floating else array


def precisions(kernel):
    """Return the precisions in which a kernel computes."""
    if not any(operand.floating for operand in kernel.operands):
        return [Precision("float32")]
    found = [Precision(working) for working in WIDE]
    if any(operand.dtype == "either" for operand in kernel.operands):
        found.append(Precision("bfloat16", wide=True))
    return found


CASES = [(v, precision) for v in cases.VARIANTS for precision in precisions(v.kernel)]


def agree(actual, expected, declared, precision, what):
    """Assert equality to within the rounding of an operand's dtype."""
    dtype = precision.dtype(declared, actual)
    if dtype == "bfloat16":
        finite = np.abs(expected)[np.isfinite(expected)]
        scale = max(1, finite.max(initial=0))
        np.testing.assert_allclose(
            actual, expected, rtol=NARROW_ROUNDING, atol=NARROW_ROUNDING * scale / 8, err_msg=what
        )
    else:
        close(actual, expected, WIDE[precision.working], what)


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


def check(call, done, precision, *, against_oracle):
    """Assert that a call that was done is right, and that its inputs are as they were."""
    for name, array in done.reads.items():
        if array is not None:
            same(array, call.reads[name], f"the input {name}")
    truth = call.in_float64()
    run_reference(truth)
    oracle = oracles.expected(call) if against_oracle else {}
    for declared in call.kernel.outputs:
        name, array = declared.name, done.named[declared.name]
        if array is not None:
            agree(array, truth.written[name], declared, precision, f"{name} by the reference")
            if name in oracle:
                agree(array, oracle[name], declared, precision, f"{name} by the oracle")
