"""What the Numba backend chooses: the routine of each product, and the shares of a minibatch.

Both change the last bits of a result. A choice is the user's; else the one that the checkpoint
holds; else by times measured on this machine (kept.py); and where there are none, or none is
clearly the better, by a rule that looks at the plan alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpubp.backends import GEMMS, SHARE_BY, numba_measure
from gpubp.backends.base import Choices
from gpubp.backends.kept import Kept, Times
from gpubp.backends.numba_units import LINE, divisible, products
from gpubp.errors import DeviceError, InputError, unknown_name, warn
from gpubp.kernels.contract import dtype_name
from gpubp.kernels.numba import blas, compiled, entry, mkl
from gpubp.plan.ir import GRADS, TRANSIENT, Buffer, Call, Plan

# So many operations and rows a share should have at least, to be worth the barriers of a thread of
# its own. Measured on two cores.
MINIMUM_FLOPS = 250_000
MINIMUM_ROWS = 8

# A step is split by units if it has more weights than so many times what layers put out, and so
# many more for the barriers. Measured on two cores, of networks from 6 to 270 thousand weights.
_WORTH, _MEETING = 1.5, 15_000

_NEAR = 2  # times the least operations, or part of them: where the rule may be wrong
# Operations of a step up to which one share is tried, too: some 0.2 ms on one thread, of which
# what threads send each other may be more than they save.
_SMALL = 20_000_000
_CLEARLY = 0.95  # of the time that the rule's way takes, at most, is clearly better
_MOST_ROWS = 256  # of a minibatch, for which a product is measured: more take as long a row

_ASKED, _SAVED, _RULE = "as asked", "as in the checkpoint", "by the rule"


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


class Chooser:
    """The choices of a backend.

    Args:
        threads: how many threads may share a minibatch.
        gemm: the routine of all products, or "auto".
        shares: into how many shares a minibatch is split if it has the rows, or None.
        share_by: by what, one of :data:`gpubp.backends.SHARE_BY`.

    Raises:
        DeviceError: MKL is asked for and not installed.
    """

    def __init__(self, threads: int, gemm: str, shares: int | None, share_by: str) -> None:
        if gemm == "mkl" and mkl.library() is None:
            raise DeviceError(
                "gemm 'mkl' can't be had: MKL is not installed; pip install 'gpubp[mkl]', or use "
                "gemm='auto'"
            )
        self._threads, self._gemm, self._fixed, self._by = threads, gemm, shares, share_by
        self._saved: dict[str, dict[str, str]] = {"products": {}, "shares": {}}
        self._products: dict[str, Choice] = {}
        self._alike: dict[object, Choice] = {}  # of products by kernel, shapes, dtypes and scalars
        self._shares: dict[str, Choice] = {}  # of a training step, by the rows of a minibatch

    def routine(self, call: Call) -> Choice | None:
        """Return by which routine a call is computed; None if it is not a product.

        Raises:
            InputError: the routine that was asked for has no products of that dtype.
        """
        if not entry.is_product(call.contract):
            return None
        forms = tuple(None if b is None else (b.shape, b.dtype) for b in call.operands)
        alike = call.kernel, forms, call.scalars
        if alike not in self._alike:
            self._alike[alike] = self._routine_of(call)
        return self._alike[alike]

    def _routine_of(self, call: Call) -> Choice:
        product = typical(call)
        if self._gemm != "auto":
            there = entry.routines(_dtype(product))
            if self._gemm not in there:
                raise InputError(
                    f"gemm {self._gemm!r} has no products of {_dtype(product)}; use 'auto' or "
                    f"{' or '.join(map(repr, there))}"
                )
            return Choice(self._gemm, _ASKED)
        name = name_of(product)
        if name not in self._products:
            self._products[name] = self._routine(product, name)
        return self._products[name]

    def shares(self, plan: Plan, measure: Callable[[Sequence[str]], Times]) -> Choice:
        """Return into what shares a step is split, such as "1", "2 by rows" or "2 by units".

        ``measure`` times a step with some of these.

        Raises:
            InputError: the user asked for shares by units, and the network can't be split so.
        """
        if not plan.update:
            return Choice(named(self._count(plan), "rows"), _RULE)
        rows = str(plan.rows)
        if rows not in self._shares:
            self._shares[rows] = self._of_step(plan, self._saved["shares"].get(rows), measure)
        return self._shares[rows]

    def most_shares(self, plan: Plan) -> int:
        """Return the largest number of shares that :meth:`shares` may choose for a step."""
        count = self._count(plan)
        near = _counts_near(plan, count, self._threads) if self._fixed is None else []
        return max([count, *near])

    def shares_of(self, rows: int) -> Choice:
        """Return what :meth:`shares` chose for a training step on so many rows."""
        return self._shares[str(rows)]

    def _of_step(
        self, plan: Plan, saved: str | None, measure: Callable[[Sequence[str]], Times]
    ) -> Choice:
        if saved and self._fits(plan, saved):
            return Choice(saved, _SAVED)
        count = self._count(plan)
        if self._by == "units" and count > 1 and not self._divisible(plan, count):
            raise InputError(
                f"share_by='units' can't be had for this network and {count} shares: it takes "
                f"dense layers of at least {LINE * count} inputs, in fp32 or fp64, gemm 'auto' or "
                "'tiles', and a processor with AVX2; use share_by='auto' or 'rows'"
            )
        usual = self._named(plan, count)
        candidates = [usual]
        if self._fixed is None:
            near = _counts_near(plan, count, self._threads)
            candidates += [self._named(plan, number) for number in near]
        if self._by == "auto" and count > 1 and self._divisible(plan, count):
            candidates += [n for n in (named(count, by) for by in SHARE_BY[1:]) if n != usual]
        if self._fixed is not None and len(candidates) == 1:
            return Choice(usual, _ASKED)
        name = f"step-{_digest(plan)}-{self._threads}-threads"
        return _best(name, "with", usual, candidates, lambda: measure(candidates))

    def _count(self, plan: Plan) -> int:
        """Return how many shares are asked for, else by the rule."""
        return _count(plan, self._threads) if self._fixed is None else min(self._fixed, plan.rows)

    def _named(self, plan: Plan, count: int) -> str:
        """Return the name of a number of shares, split as is asked for, else by the rule."""
        units = self._by == "units" or (self._by == "auto" and sends_less(plan))
        return named(count, "units" if units and self._divisible(plan, count) else "rows")

    def _fits(self, plan: Plan, saved: str) -> bool:
        """Return whether a step can be split as a checkpoint says; else what it says is left.

        It was of another network, of other rows or of another precision, or of no plan at all.
        """
        count, _, by = saved.partition(" by ")
        shares = int(count)
        return shares <= plan.rows and (by != "units" or self._divisible(plan, shares))

    def _divisible(self, plan: Plan, count: int) -> bool:
        return self._gemm in ("auto", "tiles") and divisible(plan, count)

    def record(self) -> Choices:
        """Return the choices that are not the user's, for a checkpoint."""
        made = {"products": self._products, "shares": self._shares}
        return {
            kind: {**saved, **{name: choice.name for name, choice in made[kind].items()}}
            for kind, saved in self._saved.items()
        }

    def restore(self, record: Choices) -> None:
        """Choose as a :meth:`record` says.

        Raises:
            InputError: it names a routine that there is not, or a number of shares.
        """
        products, shares = record.get("products", {}), record.get("shares", {})
        for name in products.values():
            if name not in GEMMS[1:]:
                raise unknown_name("gemm", name, GEMMS[1:])
        possible = {named(n, by) for n in range(1, self._threads + 1) for by in SHARE_BY[1:]}
        for split in shares.values():
            if split not in possible:
                raise InputError(f"shares {split!r}, with {self._threads} threads")
        self._saved = {"products": dict(products), "shares": dict(shares)}
        self._products, self._alike, self._shares = {}, {}, {}

    def _routine(self, product: Call, name: str) -> Choice:
        dtype = _dtype(product)
        saved = self._saved["products"].get(name)
        if saved == "mkl" and mkl.library() is None:
            warn(
                "the model was trained with products by MKL, which is not installed, so results "
                "will differ in their last bits; pip install 'gpubp[mkl]'",
                RuntimeWarning,
            )
        elif saved:
            return Choice(saved, _SAVED)
        usual, names = entry.usual_routine(dtype, _c(product).shape[-1]), entry.routines(dtype)
        if len(names) == 1 or 0 in (b.size for b in product.operands if b is not None):
            return Choice(usual, _RULE)
        return _best(name, "by", usual, names, lambda: numba_measure.routines(product, names))


def typical(call: Call) -> Call:
    """Return the product that a product is measured as: of a power of two of rows.

    So a smaller minibatch at an epoch's end, or any number of rows to predict, finds what was
    measured before, and gets the routine that the others have. The rows of a minibatch are those of
    c, or where a is transposed the length of the sums.
    """
    flags = call.contract.bind_scalars(dict(call.scalars))
    axes = _axes(call)
    batch = "I" if flags.get("transpose_a") else "B"
    rows = axes[batch]
    axes[batch] = min(_MOST_ROWS, 1 << (rows - 1).bit_length()) if rows else 0
    operands: list[Buffer | None] = []
    for declared, buffer in zip(call.contract.operands, call.operands, strict=True):
        if buffer is None:
            operands.append(None)
            continue
        shape = [axes[name] for name in declared.axes]
        if flags.get(declared.transpose):
            shape[-2:] = shape[:-3:-1]
        operands.append(Buffer(declared.name, tuple(shape), buffer.dtype, TRANSIENT))
    return Call(call.kernel, tuple(operands), call.scalars)


def name_of(product: Call) -> str:
    """Return a name for a product, such as ``matmul-128x64x256-float32-transpose_a``."""
    flags = product.contract.bind_scalars(dict(product.scalars))
    axes = _axes(product)
    lengths = "x".join(str(axes[name]) for name in ("T", "B", "I", "O") if name in axes)
    declared = zip(product.contract.operands, product.operands, strict=True)
    dtypes = dict.fromkeys(dtype_name(b.dtype) for o, b in declared if b is not None and o.floating)
    return "-".join([product.kernel, lengths, *dtypes, *(name for name in flags if flags[name])])


def _dtype(product: Call) -> str:
    """Return the dtype that a product multiplies."""
    a = product.named()["a"]
    assert a is not None  # not optional in any contract
    return a.dtype


def _axes(product: Call) -> dict[str, int]:
    """Return the lengths of a product's axes, of which none is "..."."""
    return {name: length for name, length in product.axes().items() if isinstance(length, int)}


def named(count: int, by: str) -> str:
    """Return the name of a number of shares."""
    return f"{count} by {by}" if count > 1 else "1"


def sends_less(plan: Plan) -> bool:
    """Return whether threads send each other less if a step is split by units.

    By rows it is gradients and parameters; by units, what layers put out and its gradients, and
    they meet more often.
    """
    sent = sum(_c(call).size for call in products(plan) if _c(call).region == TRANSIENT)
    weights = sum(_c(call).size for call in products(plan) if _c(call).region == GRADS)
    return weights > _WORTH * sent + _MEETING


def _count(plan: Plan, threads: int) -> int:
    """Return how many shares the rule has: as many as threads if each gets enough work.

    The rule looks at the plan alone.
    """
    least = max(1, MINIMUM_FLOPS)
    return max(1, min(threads, plan.rows // MINIMUM_ROWS, plan.flops // least))


def _counts_near(plan: Plan, count: int, threads: int) -> list[int]:
    """Return the numbers of shares that may be better than the rule's."""
    least, numbers = max(1, MINIMUM_FLOPS), []
    double = min(threads, plan.rows // MINIMUM_ROWS, 2 * count)
    if count > 1 and plan.flops <= _NEAR * least * count:
        numbers.append(count // 2)
    if double > count and plan.flops * _NEAR >= least * double:
        numbers.append(double)
    if count > 1 and plan.flops <= _SMALL and 1 not in numbers:
        numbers.append(1)
    return numbers


def _c(product: Call) -> Buffer:
    c = product.named()["c"]
    assert c is not None  # it is written
    return c


def _digest(plan: Plan) -> str:
    """Return a digest of what a step takes its time for: its kernels and their shapes."""
    shapes = [(c.kernel, [b and (b.shape, b.dtype) for b in c.operands]) for c in plan.calls]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]


def _best(
    name: str, by: str, usual: str, candidates: Sequence[object], measure: Callable[[], Times]
) -> Choice:
    """Return the candidate that is the fastest by what is kept under a name, or the usual one.

    ``by`` is the word that says of a time whose it is.
    """
    kept = _kept()
    times = kept.times(name, measure) if kept and len(candidates) > 1 else {}
    if usual not in times:
        return Choice(usual, _RULE)
    fastest = min(times, key=times.__getitem__)
    chosen = fastest if times[fastest] < _CLEARLY * times[usual] else usual
    said = (f"{seconds * 1e6:.3g} µs {by} {way}" for way, seconds in times.items())
    return Choice(chosen, f"measured: {', '.join(said)}")


@cache
def _kept() -> Kept | None:
    """Return where times are kept for this machine and its libraries; None if nothing is kept."""
    if not compiled.folder().is_dir():
        return None
    about = f"{compiled.processor()}; {blas.libraries()}"
    digest = hashlib.sha256(about.encode()).hexdigest()[:16]
    return Kept(Path(compiled.folder()) / f"measured-{digest}")
