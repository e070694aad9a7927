"""The precisions in which a kernel computes, and what its result must be in each.

A bfloat16 operand is a float32 array in a call of cases.py; it is rounded on its way to the kernel.
"""

from dataclasses import dataclass, replace

import cases
import numpy as np
import oracles
from host_cuda.products import decode, encode
from runners import close, run_reference, same

from gpubp.kernels.contract import WIDE

# bfloat16 has 8 bits of mantissa: its nearest number is within 2⁻⁸ of the value, relatively.
NARROW_ROUNDING = 2**-8


@dataclass(frozen=True)
class Precision:
    """A working dtype, and whether operands that may be as wide as it is computed in are so."""

    working: str
    wide: bool = False

    def __str__(self):
        return self.working + "-wide" * self.wide

    def dtype(self, declared, array):
        """Return the dtype of an operand as the kernel has it."""
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


def agree(actual, expected, declared, precision, what, *, roundings=1):
    """Assert equality to within the rounding, or several, of an operand's dtype."""
    dtype = precision.dtype(declared, actual)
    if dtype == "bfloat16":
        finite = np.abs(expected)[np.isfinite(expected)]
        scale = max(1, finite.max(initial=0))
        np.testing.assert_allclose(
            actual,
            expected,
            rtol=roundings * NARROW_ROUNDING,
            atol=roundings * NARROW_ROUNDING * scale / 8,
            err_msg=what,
        )
    else:
        close(actual, expected, WIDE[precision.working], what)


def check(call, done, precision, *, against_oracle, roundings=1):
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
            agree(
                array,
                truth.written[name],
                declared,
                precision,
                f"{name} by the reference",
                roundings=roundings,
            )
            if name in oracle:
                agree(
                    array,
                    oracle[name],
                    declared,
                    precision,
                    f"{name} by the oracle",
                    roundings=roundings,
                )
