"""What every elementwise kernel must give at the edges of its dtype, from numbers of 60 digits.

A table has of each activation its value and its slope, of each loss the same, and where pieces of
the formula or of the code meet. Arguments are zeros, the smallest and largest numbers of the dtype,
infinities, NaN and the neighbours of every place where pieces meet. A result may be off by some
units of its last place, ``ULPS``, or where terms cancel, of the largest term's. What lies beyond
the largest number is infinite. A device that takes subnormal numbers of float32 for 0 is said to
have ``flushed``.
"""

from dataclasses import dataclass, field

import mpmath
import numpy as np
from cases import Call
from host_cuda.products import decode, encode
from precisions import Precision

from gpubp.kernels.contract import WIDE
from gpubp.kernels.spec import KERNELS

mpmath.mp.dps = 60
mpf = mpmath.mpf
ULPS = {"float32": 4, "float64": 4, "bfloat16": 1}
FAR = mpf(10) ** 400  # stands for infinity: beyond any dtype

# Bits of the fraction, and the smallest and largest exponent of a normal number.
LAYOUT = {"float32": (23, -126, 127), "float64": (52, -1022, 1023), "bfloat16": (7, -126, 127)}


def largest(dtype):
    bits, _, high = LAYOUT[dtype]
    return mpf(2) ** high * (2 - mpf(2) ** -bits)


def smallest(dtype):
    """Return the smallest number above 0, which is not normal."""
    bits, low, _ = LAYOUT[dtype]
    return mpf(2) ** (low - bits)


def unit(x, dtype):
    """Return the distance to the next number of the dtype, at x."""
    bits, low, _ = LAYOUT[dtype]
    exponent = mpmath.frexp(x)[1] - 1 if x else low
    return mpf(2) ** (max(int(exponent), low) - bits)


def floor(dtype, flushed):
    """Return what flushing subnormal numbers to 0 may cost: the smallest normal number."""
    return mpf(2) ** LAYOUT[dtype][1] if flushed and dtype != "float64" else mpf(0)


def stored(values, dtype):
    """Return values as the dtype has them, bfloat16 in float32."""
    with np.errstate(all="ignore"):
        return decode(encode(np.asarray(values, np.float64), dtype), dtype)


def points(dtype, *places):
    """Return the arguments for a dtype; round each of the places, the place and its neighbours."""
    normal = mpf(2) ** LAYOUT[dtype][1]
    tiny, most = smallest(dtype), largest(dtype)
    edges = [0, tiny, normal - tiny, normal, mpf("1e-5"), mpf("0.3"), 1, 2, 20, most]
    for place in places:
        if place > most:
            continue
        here = mpf(float(stored(float(place), dtype)))
        edges += [here - unit(here, dtype), here, here + unit(here, dtype)]
    finite = [float(sign * mpf(edge)) for edge in edges for sign in (1, -1)]
    return stored([*finite, np.inf, -np.inf, np.nan], dtype)


def exactly(x):
    """Return a number, which may be infinite, with 60 digits."""
    return mpmath.sign(x) * FAR if np.isinf(x) else mpf(float(x))


def agree(found, right, dtype, what, *, size=0, lost=0):
    """Assert that a result is the right one, to within units of its last place or of ``size``.

    ``right`` is None for NaN; ``lost`` is what rounding among subnormal numbers may have cost.
    """
    if right is None:
        assert np.isnan(found), f"{what}: {found}, not NaN"
        return
    off = ULPS[dtype] * unit(max(abs(right), abs(mpf(size))), dtype) + lost
    most = largest(dtype)
    assert not np.isnan(found), f"{what}: NaN, not {mpmath.nstr(right, 9)}"
    if np.isinf(found):
        assert abs(right) + off > most, f"{what}: {found}, not {mpmath.nstr(right, 9)}"
        assert (found > 0) == (right > 0), what
        return
    assert abs(right) - off <= most, f"{what}: {found}, not infinite"
    assert abs(mpf(float(found)) - right) <= off, f"{what}: {found}, not {mpmath.nstr(right, 9)}"


@dataclass
class Case:
    """An activation or a loss: value, slope, and what they need at the edges.

    ``size`` and ``slope_size`` give the largest of the terms that may cancel, or what the error of
    an argument within the formula comes to; ``lost`` is what a factor that is rounded to a
    subnormal number is multiplied with. ``domain`` are the limits of what the slope is taken of.
    """

    value: object
    slope: object
    places: tuple = ()
    size: object = lambda *_: 0
    slope_size: object = lambda *_: 0
    lost: object = lambda *_: 0
    domain: tuple = (-mpmath.inf, mpmath.inf)
    scalars: dict = field(default_factory=dict)


def _sigmoid(z):
    return 1 / (1 + mpmath.exp(-z)) if z > -FAR else mpf(0)


def _density(z):
    return mpmath.npdf(z) if abs(z) < 1000 else mpf(0)


def _cdf(z):
    return mpmath.ncdf(max(min(z, mpf(1000)), mpf(-1000)))


_SCALE = 2 * mpmath.sqrt(2 / mpmath.pi)


def _gate(z):
    near = max(min(z, mpf(1000)), mpf(-1000))
    return _sigmoid(_SCALE * (near + mpf(0.044715) * near**3))


def _gelu_tanh_slope(z):
    near, s = max(min(z, mpf(1000)), mpf(-1000)), _gate(z)
    return s + near * s * (1 - s) * _SCALE * (1 + 3 * mpf(0.044715) * near**2)


def _times(z, factor):
    """Return z · factor, 0 where a factor beyond any dtype is too small for all."""
    return z * factor if factor > 1 / FAR else mpf(0)


def _silu_slope(z):
    s = _sigmoid(z)
    return s + _times(z, s * (1 - s))


def _elu(z):
    return z if z > 0 else mpf(0.3) * mpmath.expm1(z)


# Where exp is infinite, subnormal and 0 in float32 and float64.
_EXP = (88.7228, 88.37, -87.3365, -103.97, 709.7827, 709.43, -708.396, -745.13)
_NEAR_ONE = lambda *_: 1  # noqa: E731

ACTIVATIONS = {
    "identity": Case(lambda z: z, lambda da: da),
    "sigmoid": Case(_sigmoid, lambda a: a * (1 - a), (*_EXP, 17.3, 36.7), domain=(0, 1)),
    "tanh": Case(
        mpmath.tanh, lambda a: 1 - a * a, (9.01, 19.06, 25, 50, 1), slope_size=_NEAR_ONE,
        domain=(-1, 1),
    ),
    "relu": Case(lambda z: max(z, mpf(0)), lambda a: mpf(a > 0), domain=(0, mpmath.inf)),
    "leaky_relu": Case(
        lambda z: z if z > 0 else mpf(0.3) * z, lambda z: mpf(1) if z > 0 else mpf(0.3),
        scalars={"alpha": 0.3},
    ),
    "elu": Case(
        _elu, lambda z: mpf(1) if z > 0 else mpf(0.3) * mpmath.exp(z), (*_EXP, 17, 50),
        scalars={"alpha": 0.3},
    ),
    # An error of z² / 2 of a unit is one of exp(-z² / 2) of z² / 2 units.
    "gelu": Case(
        lambda z: _times(z, _cdf(z)), lambda z: _cdf(z) + z * _density(z),
        (13, 13.2, 14.4, 30, 37.5, 38.5, 40),
        size=lambda z: min(z * z, 2000) * abs(_times(z, _cdf(z))) if z < 0 else 0,
        slope_size=lambda z: 1 if abs(z) < 5 else z * z * abs(z) * _density(z),
        lost=lambda z: min(abs(z), 40),
    ),
    "gelu_tanh": Case(
        lambda z: _times(z, _gate(z)), _gelu_tanh_slope, (9.9, 10.5, 20.5, 22, 40, 1e13, 1e19),
        size=lambda z: min(abs(z) ** 3, 2000) * abs(_times(z, _gate(z))) if z < 0 else 0,
        slope_size=lambda z: 1 if abs(z) < 5 else min(abs(z) ** 3, 2000) * abs(_gelu_tanh_slope(z)),
        lost=lambda z: min(abs(z) ** 3, 2000),
    ),
    "silu": Case(
        lambda z: _times(z, _sigmoid(z)), _silu_slope, (*_EXP, 800, 1.278),
        slope_size=lambda z: 0 if z < -5 else min(1 + abs(z), 40),
        lost=lambda z: min(abs(z), 800),
    ),
    "softplus": Case(
        lambda z: max(z, mpf(0)) + mpmath.log1p(mpmath.exp(-abs(z))),
        lambda a: -mpmath.expm1(-a), (*_EXP, 17, 50), domain=(0, mpmath.inf),
    ),
    "exponential": Case(mpmath.exp, lambda a: a, _EXP, domain=(0, mpmath.inf)),
}  # fmt: skip


def _huber(z, t):
    r, d = abs(z - t), mpf(0.6)
    return r * r / 2 if r <= d else d * (r - d / 2)


def _quantile(z, t):
    return mpf(0.3) * (t - z) if t > z else (1 - mpf(0.3)) * (z - t)


def _quantile_slope(z, t):
    return mpf(0) if z == t else -mpf(0.3) if t > z else 1 - mpf(0.3)


def _cross_entropy(z, t):
    return (1 - t) * max(z, mpf(0)) + t * max(-z, mpf(0)) + mpmath.log1p(mpmath.exp(-abs(z)))


def _cross_entropy_slope(z, t):
    # Both are small where the other is not, so that nothing is lost here either.
    return (1 - t) * _sigmoid(z) - t * _sigmoid(-z)


TARGETS = (0.0, 1.0, 0.5, -3.0, 1e-5, 1e18, -1e38)

LOSSES = {
    "squared_error": Case(lambda z, t: (z - t) ** 2 / 2, lambda z, t: z - t, (1.5e19, 2.5e19)),
    "absolute_error": Case(lambda z, t: abs(z - t), lambda z, t: mpmath.sign(z - t)),
    "huber": Case(
        _huber, lambda z, t: max(min(z - t, mpf(0.6)), -mpf(0.6)), (0.6, 0.4, 1.6),
        scalars={"threshold": 0.6},
    ),
    "quantile": Case(_quantile, _quantile_slope, scalars={"q": 0.3}),
    "poisson": Case(
        lambda z, t: mpmath.exp(z) - t * z, lambda z, t: mpmath.exp(z) - t, _EXP,
        size=lambda z, t: max(mpmath.exp(z), abs(t * z)),
        slope_size=lambda z, t: max(mpmath.exp(z), t),
        domain=(0, mpmath.inf),
    ),
    "sigmoid_cross_entropy": Case(
        _cross_entropy, _cross_entropy_slope, (*_EXP, 12, 15, 17, 37),
        slope_size=lambda z, t: max(t, 1 - t) if 0 < t < 1 else 0,
        domain=(0, 1),
    ),
}  # fmt: skip


def edges(kernels):
    """Return kernels in each working dtype."""
    return [(kernel, working) for kernel in kernels for working in WIDE]


def kernels_of(name):
    """Return the kernels of an elementwise activation."""
    fused = [f"bias_{name}", f"bias_{name}_dropout"] if name != "identity" else []
    deltas = [f"{name}_delta_bias_grad", f"{name}_dropout_delta_bias_grad"] if fused else []
    return [name, *fused, f"{name}_delta", *deltas]


def evaluate(run, name, working, scalars, **values):
    """Return what a kernel writes; ``run(call, precision)`` runs it.

    Operands that are not given: a bias of 0, a gradient of 1, whatever keys.
    """
    kernel, wide = KERNELS[name], WIDE[working]
    shape = next(iter(values.values())).shape
    usual = {
        "b": np.zeros(shape[-1:], wide),
        "da": np.ones(shape, wide),
        "dy": np.ones(shape, wide),
    }
    usual |= {"seed": np.array([1]), "step": np.array([0])}
    operands = [values.get(o.name, usual.get(o.name)) for o in kernel.operands]
    scalars = {s.name: scalars[s.name] for s in kernel.scalars if s.name in scalars}
    made = kernel.infer(operands, kernel.bind_scalars(scalars))
    for place, operand in enumerate(kernel.operands):
        if operand.name in made:
            shape, dtype = made[operand.name]
            operands[place] = np.zeros(shape, wide if dtype == "bfloat16" else dtype)
    call = Call(kernel, operands, scalars)
    run(call, Precision(working))
    return call.written


def check_activation(run, kernel, working, flushed=False):
    """Compare one kernel of an activation at every edge of z, or of what its slope is taken of."""
    name = next(name for name in ACTIVATIONS if kernel in kernels_of(name))
    case, back, wide = ACTIVATIONS[name], "_delta" in kernel, WIDE[working]
    place = ("".join(KERNELS[name].saved) or "da") if back else "z"
    function, size = (case.slope, case.slope_size) if back else (case.value, case.size)
    x = points(working, *case.places)
    if back:
        x = x[~((x < float(case.domain[0])) | (x > float(case.domain[1])))]
    scalars = case.scalars | {"rate": 0.0, "stream": 1}
    # One row, so that a sum over rows is of one.
    written = evaluate(run, kernel, working, scalars, **{place: x[None].copy()})
    for operand in written.keys() - {"z"}:
        dtype = wide if operand == "db" else working
        for argument, found in zip(x, written[operand].reshape(-1), strict=True):
            what = f"{kernel} {working}: {operand} at {argument}"
            if np.isnan(argument):
                agree(found, None, dtype, what)
                continue
            z = exactly(argument)
            least = floor(wide, flushed)
            lost = least + case.lost(z) * max(smallest(wide), least)
            agree(found, function(z), dtype, what, size=size(z), lost=lost)


def check_loss(run, name, working, flushed=False):
    """Compare a loss and its slope at every edge of z, for some targets."""
    case, wide = LOSSES[name], WIDE[working]
    z = points(working, *case.places)
    for target in TARGETS:
        if not case.domain[0] <= target <= case.domain[1]:
            continue
        t = np.full_like(z, target, wide)
        dz = evaluate(run, name, working, case.scalars, z=z[:, None], t=t[:, None])["dz"][:, 0]
        for i, argument in enumerate(z):
            values = {"z": z[i : i + 1, None].copy(), "t": t[i : i + 1, None].copy()}
            loss = evaluate(run, name, working, case.scalars, **values)["loss"][0]
            what = f"{name} {working} at z = {argument}, t = {target}"
            if np.isnan(argument):
                agree(loss, None, wide, what)
                agree(dz[i], None, working, what)
                continue
            of = exactly(argument), exactly(t[i])
            lost = floor(wide, flushed)
            agree(
                dz[i], case.slope(*of), working, f"slope of {what}",
                size=case.slope_size(*of), lost=lost,
            )  # fmt: skip
            right = case.value(*of)
            if max(abs(right), abs(of[0] - of[1])) > largest(wide) and not np.isfinite(loss):
                continue  # what matters is that training stops: inf less inf will do
            agree(loss, right, wide, what, size=case.size(*of), lost=lost)


def rounded(x, dtype):
    """Return the number that a dtype has for x, FAR where that is infinite."""
    if abs(x) > largest(dtype) + unit(largest(dtype), dtype) / 2:
        return mpmath.sign(x) * FAR
    step = unit(x, dtype)
    return mpmath.nint(x / step) * step


LR, EPS = mpf(1) / 16, 1e-8


def _by_root(v, g, take, correction, eps, dtype):
    """Return v, which may have become infinite, and lr g / (sqrt(v) + eps), then 0."""
    v = rounded(take * v, dtype)
    return v, mpf(0) if v >= FAR else LR * g / (mpmath.sqrt(v / correction) + mpf(eps))


def _adaptive(take, correction, eps):
    def rule(g, dtype):
        v, change = _by_root(g * g, g, take, correction, eps, dtype)
        return {"v": v, "params": -change}

    return rule


def _adam(g, dtype):
    change = _adaptive(1 - mpf(0.999), 1 - mpf(0.999), EPS)(g, dtype)
    return change | {"m": (1 - mpf(0.9)) * g}


# Of each optimizer, what it makes of a gradient where parameters and state are 0.
OPTIMIZERS = {
    "sgd": lambda g, _: {"params": -LR * g},
    "momentum": lambda g, _: {"velocity": -LR * g, "params": -LR * g},
    "nesterov": lambda g, _: {"velocity": -LR * g, "params": -(1 + mpf(0.9)) * LR * g},
    "adam": _adam,
    "adamw": _adam,
    "rmsprop": _adaptive(1 - mpf(0.9), mpf(1), EPS),
    "adagrad": _adaptive(mpf(1), mpf(1), 1e-10),
}


def check_optimizer(run, kernel, working, flushed=False):
    """Compare an update from 0 at every edge of the gradient of which a tenth is normal."""
    rule = OPTIMIZERS[kernel.removesuffix("_update")]
    g = points(working, 1e-23, 1.8446e19, 5.8e20, 1e25, 1.3e154)
    g = g[(g == 0) | ~(abs(g) < 16 * np.finfo(g.dtype).tiny)]
    zeros = {
        o.name: np.zeros_like(g)
        for o in KERNELS[kernel].outputs
        if o.name not in ("grads", "rounded")
    }
    lr = np.array([float(LR)])
    written = evaluate(run, kernel, working, {}, grads=g.copy(), lr=lr, **zeros)
    for i, gradient in enumerate(g):
        right = {} if not np.isfinite(gradient) else rule(exactly(gradient), working)
        for name in zeros:
            what = f"{kernel} {working}: {name} after a gradient of {gradient}"
            if right:
                agree(written[name][i], right[name], working, what, lost=floor(working, flushed))
            else:
                assert not np.isfinite(written[name][i]), what


LIMIT = mpf(0.7)

# Of each kernel of the gradient: the operand that is at an edge, what stands in the gradient
# before, what it becomes, and the scalar.
GRADIENTS = {
    "l1_penalty": ("params", 0, lambda x: LIMIT * mpmath.sign(x), {"l1": 0.7}),
    "l2_penalty": ("params", 0, lambda x: LIMIT * x, {"l2": 0.7}),
    "clip_value": ("grads", 0, lambda x: max(min(x, LIMIT), -LIMIT), {"limit": 0.7}),
    "add": ("x", 1, lambda x: 1 + x, {}),
}


def check_gradient(run, kernel, working, flushed=False):
    """Compare what is done to a gradient at every edge."""
    operand, start, function, scalars = GRADIENTS[kernel]
    x = points(working, 0.7, 1)
    values = {operand: x.copy()}
    if operand != "grads":
        values["y" if kernel == "add" else "grads"] = np.full_like(x, start)
    (array,) = evaluate(run, kernel, working, scalars, **values).values()
    for argument, found in zip(x, array, strict=True):
        what = f"{kernel} {working} at {argument}"
        right = None if np.isnan(argument) else function(exactly(argument))
        agree(found, right, working, what, size=start, lost=floor(working, flushed))


def check_squares(run, working, flushed=False):
    """Compare the square of every edge, in float64."""
    for x in points(working, 1e25, 1e-25, 1e154, 1e200, 1e-200):
        squares = evaluate(run, "sum_of_squares", working, {}, x=np.array([x]))["total"][0]
        right = None if np.isnan(x) else exactly(x) ** 2
        # A number that is flushed is at most the smallest normal one.
        agree(squares, right, "float64", f"the square of {x}", lost=floor(working, flushed) ** 2)


def check_labels(run, working):
    """A label that is no class: the loss is NaN, and no other row's gradient is another for it."""
    rng = np.random.default_rng(0)
    for classes in (2, 5, 70):
        z = rng.normal(size=(19, classes)).astype(WIDE[working])
        labels = rng.integers(0, classes, 19)
        right = evaluate(run, "softmax_cross_entropy", working, {}, z=z, labels=labels)
        for row, label in ((0, classes), (7, -1), (18, 2**62), (3, -(2**62)), (17, 10**6)):
            wrong = labels.copy()
            wrong[row] = label
            found = evaluate(run, "softmax_cross_entropy", working, {}, z=z, labels=wrong)
            assert np.isnan(found["loss"][0]), f"label {label} of {classes} classes"
            others = np.arange(19) != row
            np.testing.assert_array_equal(found["dz"][others], right["dz"][others])
