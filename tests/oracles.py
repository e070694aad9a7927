"""Independent truth for every kernel: textbook formulas in float64, written without the kernels.

``expected(call)`` gives what each written operand must hold after a call. Forward functions are
written on complex numbers too, so that slopes come from the complex step, im f(z + ih) / h, and not
from a second formula that might share a mistake with the kernel. Frameworks are further oracles;
they are in kernels/test_frameworks.py.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import special

from gpubp.kernels.spec import ACTIVATIONS as ACTIVATION_NAMES

STEP = 1e-30


def expected(call):
    """Return the arrays that the written operands of ``call`` must hold after it."""
    values = {
        name: array if array is None or array.dtype.kind in "iub" else array.astype(np.float64)
        for name, array in (call.named | call.hidden).items()
    }
    return ORACLES[call.kernel.name](**values, **call.scalars)


def _select(condition, yes, no):
    return np.where(condition, yes, no)


def _gelu_tanh(z):
    return z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def _softmax(z):
    e = np.exp(z - z.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


ACTIVATIONS: dict[str, Callable] = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: _select(z.real > 0, z, 0),
    "leaky_relu": lambda z, alpha: _select(z.real > 0, z, alpha * z),
    "elu": lambda z, alpha: _select(z.real > 0, z, alpha * (np.exp(z) - 1)),
    "gelu": lambda z: z * (1 + special.erf(z / np.sqrt(2))) / 2,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "exponential": np.exp,
    "softmax": _softmax,
    "log_softmax": lambda z: np.log(_softmax(z)),
}


def gradient(f, z):
    """Return d sum(f(z)) / dz, f working row by row if z has two axes, by the complex step."""
    z = z.astype(np.complex128)
    slope = np.empty(z.shape)
    columns = [(..., k) for k in range(z.shape[1])] if z.ndim == 2 else [...]
    for column in columns:
        shifted = z.copy()
        shifted[column] += 1j * STEP
        values = f(shifted).imag / STEP
        slope[column] = values.sum(axis=1) if z.ndim == 2 else values
    return slope


def _delta(f, da, z, **scalars):
    z = z.astype(np.float64)
    return {"dz": gradient(lambda z: da * f(z, **scalars), z)}


def _activation_oracles(name):
    f = ACTIVATIONS[name]

    def forward(z, **scalars):
        return {"a": f(z, **_without(scalars, "a", "b"))}

    def biased(z, b, **scalars):
        return {"z": z + b, "a": f(z + b, **_without(scalars, "a"))}

    def biased_dropout(z, b, seed, step, rate, stream, first, **scalars):
        a = biased(z, b, **_without(scalars, "y"))
        return a | {"y": _dropout(a["a"], seed, step, rate, stream, first)}

    def delta(da, z, **scalars):
        return _delta(f, da, z, **_without(scalars, "a", "dz", "db"))

    def delta_bias_grad(**values):
        dz = delta(**values)["dz"]
        return {"dz": dz, "db": dz.sum(axis=0)}

    def dropout_delta_bias_grad(dy, seed, step, rate, stream, first, **values):
        return delta_bias_grad(da=_dropout(dy, seed, step, rate, stream, first), **values)

    return {
        name: forward,
        f"bias_{name}": biased,
        f"bias_{name}_dropout": biased_dropout,
        f"{name}_delta": delta,
        f"{name}_delta_bias_grad": delta_bias_grad,
        f"{name}_dropout_delta_bias_grad": dropout_delta_bias_grad,
    }


def _without(values, *names):
    return {name: value for name, value in values.items() if name not in names}


def _matmul(a, b, c, transpose_a=False, transpose_b=False, accumulate=False):
    left, right = "...ji" if transpose_a else "...ij", "...kj" if transpose_b else "...jk"
    return {"c": np.einsum(f"{left},{right}->...ik", a, b) + (c if accumulate else 0)}


def _product(a, b, bias=0.0, mask=None, transpose_a=False, transpose_b=False):
    """The product, its bias added, the elements whose bit is not set in ``mask`` left out."""
    c = _matmul(a, b, None, transpose_a, transpose_b)["c"] + bias
    if mask is not None:
        bits = np.unpackbits(mask, axis=1, bitorder="little")
        c = np.where(bits[:, : c.shape[1]] == 1, c, 0)
    return c


def _matmul_bias_relu(a, b, bias, c, mask, **flags):
    z = _product(a, b, bias, **flags)
    bits = np.packbits(z > 0, axis=1, bitorder="little")
    wide = np.zeros((len(z), 16 * -(-z.shape[1] // 128)), np.uint8)
    wide[:, : bits.shape[1]] = bits
    return {"c": z * (z > 0), "mask": wide}


def _matmul_relu_delta(a, b, mask, c, db=None, **flags):
    c = _product(a, b, mask=mask, **flags)
    return {"c": c, "db": np.ones(len(c)) @ c}


def _huber(z, t, threshold):
    r = z - t
    size = r * np.sign(r.real)
    return _select(size.real <= threshold, r**2 / 2, threshold * (size - threshold / 2))


def _sigmoid_cross_entropy(z, t):
    a = 1 / (1 + np.exp(-z))
    return -t * np.log(a) - (1 - t) * np.log(1 - a)


ELEMENTWISE_LOSSES: dict[str, Callable] = {
    "squared_error": lambda z, t: (z - t) ** 2 / 2,
    "absolute_error": lambda z, t: (z - t) * np.sign((z - t).real),
    "huber": _huber,
    "quantile": lambda z, t, q: _select(t > z.real, q * (t - z), (1 - q) * (z - t)),
    "poisson": lambda z, t: np.exp(z) - t * z,
    "sigmoid_cross_entropy": _sigmoid_cross_entropy,
}


def _loss(f, z, t, weights, mask, loss, dz, scale=1.0, **scalars):
    def terms(z):
        kept = f(z, t, **scalars)
        if mask is not None:
            kept = np.where(mask if mask.ndim == 2 else mask[:, None], kept, 0)
        return scale * kept * (1 if weights is None else weights[:, None])

    return {"loss": loss + terms(z).sum(), "dz": gradient(terms, z)}


def _cross_entropy(z, p, smoothing=0.0):
    q = (1 - smoothing) * p + smoothing * p.sum(axis=1, keepdims=True) / p.shape[1]
    return -q * np.log(_softmax(z))


def _softmax_cross_entropy(z, labels, **values):
    return _loss(_cross_entropy, z, np.eye(z.shape[1])[labels], **values)


def philox_word(seed, step, stream, index):
    """Word ``index`` of a stream, by Philox4x32-10 on Python's integers."""
    low, seed, step = 2**32 - 1, seed % 2**64, step % 2**64
    c, k = [index // 4, stream, step & low, step >> 32], [seed & low, seed >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & low, (p >> 32) ^ c[3] ^ k[1], p & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return c[index % 4]


def _bits(seed, step, stream, first, count):
    words = [philox_word(int(seed[0]), int(step[0]), stream, first + i) for i in range(count)]
    return np.array(words, np.uint32)


def _dropout(x, seed, step, rate, stream, first=0):
    keep = _bits(seed, step, stream, first, x.size).reshape(x.shape) >= rate * 2**32
    return np.where(keep, x / (1 - rate), 0)


def _optimizer(update, *states):
    """Return the oracle of an optimizer from its update of one parameter."""

    def oracle(params, grads, lr, step=(0,), **values):
        state = {name: values.pop(name) for name in states}
        rows = [
            update(p, g, float(lr[0]), *each, t=int(step[0]) + 1, **values)
            for p, g, *each in zip(params, grads, *state.values(), strict=True)
        ]
        columns = np.array(rows).reshape(-1, 1 + len(states)).T
        return dict(zip(("params", *states), columns, strict=True))

    return oracle


def _with_preparation(oracle):
    """Return the oracle of an optimizer with all that is done to the gradient before it."""

    def prepared(
        params, grads, squares, rounded, l1, l2, decaying, clip_value, clip_norm, **values
    ):
        first = np.arange(len(params)) < decaying
        g = grads + np.where(first, l1 * np.sign(params) + l2 * params, 0)
        if clip_value:
            g = np.clip(g, -clip_value, clip_value)
        if clip_norm:
            g = g * min(1.0, clip_norm / np.sqrt(squares.sum()))
        after = oracle(params=params, grads=g, **values)
        if "weight_decay" in values:
            kept = oracle(params=params, grads=g, **values | {"weight_decay": 0.0})
            after["params"] = np.where(first, after["params"], kept["params"])
        return after | {"grads": g, "rounded": _bfloat16(after["params"])}

    return prepared


def _bfloat16(x):
    """The nearest numbers of eight binary digits."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(mantissa * 256) / 256, exponent)


def _momentum(p, g, lr, velocity, t, momentum):
    velocity = momentum * velocity - lr * g
    return p + velocity, velocity


def _nesterov(p, g, lr, velocity, t, momentum):
    velocity = momentum * velocity - lr * g
    return p + momentum * velocity - lr * g, velocity


def _adam(p, g, lr, m, v, t, beta1, beta2, eps, weight_decay=0.0):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    p -= lr * weight_decay * p
    return p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps), m, v


def _rmsprop(p, g, lr, v, t, rho, eps):
    v = rho * v + (1 - rho) * g**2
    return p - lr * g / (np.sqrt(v) + eps), v


def _adagrad(p, g, lr, v, t, eps):
    return p - lr * g / (np.sqrt(v + g**2) + eps), v + g**2


def _gather(source, permutation, row, x, first):
    return {"x": source[[permutation[row[0] + first + i] for i in range(len(x))]]}


def _take(source, row, x, first):
    return {"x": source[row[0] + first : row[0] + first + len(x)]}


def _put(x, row, out, first):
    out = out.copy()
    out[row[0] + first : row[0] + first + len(x)] = x
    return {"out": out}


def _rows(condition, count):
    return {"count": count + sum(bool(row) for row in condition)}


OPTIMIZERS: dict[str, Callable] = {
    "sgd": _optimizer(lambda p, g, lr, t: (p - lr * g,)),
    "momentum": _optimizer(_momentum, "velocity"),
    "nesterov": _optimizer(_nesterov, "velocity"),
    "adam": _optimizer(_adam, "m", "v"),
    "adamw": _optimizer(_adam, "m", "v"),
    "rmsprop": _optimizer(_rmsprop, "v"),
    "adagrad": _optimizer(_adagrad, "v"),
}

ORACLES: dict[str, Callable] = {
    "matmul": _matmul,
    "batched_matmul": _matmul,
    "matmul_bias": lambda a, b, bias, c, **flags: {"c": _product(a, b, bias, **flags)},
    "matmul_bias_relu": _matmul_bias_relu,
    "matmul_relu_delta": _matmul_relu_delta,
    "matmul_relu_delta_bias_grad": _matmul_relu_delta,
    "matmul_bias_grad": lambda a, b, c, db, **flags: {
        "c": _product(a, b, **flags),
        "db": np.ones(len(b)) @ b,
    },
    "bias_add": lambda z, b, out: {"out": z + b},
    "bias_grad": lambda dz, db: {"db": sum(dz, np.zeros(dz.shape[1]))},
    **{k: f for name in ACTIVATION_NAMES for k, f in _activation_oracles(name).items()},
    "identity_delta": lambda da, dz: {"dz": da},
    **{name: partial(_loss, f) for name, f in ELEMENTWISE_LOSSES.items()},
    "softmax_cross_entropy": _softmax_cross_entropy,
    "softmax_cross_entropy_dense": partial(_loss, _cross_entropy),
    "random_bits": lambda seed, step, bits, stream: {
        "bits": _bits(seed, step, stream, 0, len(bits))
    },
    "dropout": lambda x, y, **values: {"y": _dropout(x, **values)},
    "dropout_delta": lambda dy, dx, **values: {"dx": _dropout(dy, **values)},
    **OPTIMIZERS,
    **{f"{name}_update": _with_preparation(oracle) for name, oracle in OPTIMIZERS.items()},
    "round_bfloat16": lambda params, rounded: {"rounded": _bfloat16(params)},
    "l1_penalty": lambda params, grads, l1: {"grads": grads + l1 * np.sign(params)},
    "l2_penalty": lambda params, grads, l2: {"grads": grads + l2 * params},
    "clip_value": lambda grads, limit: {"grads": np.clip(grads, -limit, limit)},
    "clip_norm": lambda squares, grads, limit: {
        "grads": grads * min(1.0, limit / max(np.sqrt(squares.sum()), 1e-300))
    },
    "add": lambda x, y: {"y": x + y},
    "sum_of_squares": lambda x, total: {"total": np.array([np.dot(x, x)])},
    "sum_of_squared_errors": lambda z, t, total: {"total": total + ((z - t) ** 2).sum()},
    "count_correct": lambda z, labels, count: _rows(z.argmax(axis=1) == labels, count),
    "count_correct_dense": lambda z, t, count: _rows(z.argmax(axis=1) == t.argmax(axis=1), count),
    "count_correct_binary": lambda z, t, count: _rows(
        [all((z > 0) == (t > 0.5)) for z, t in zip(z, t, strict=True)], count
    ),
    "gather": _gather,
    "gather_labels": _gather,
    "take_rows": _take,
    "take_labels": _take,
    "put_rows": _put,
    "advance": lambda row, step, rows, steps: {"row": row + rows, "step": step + steps},
    "rate": lambda rates, step, start, lr: {"lr": rates[step - start]},
}
