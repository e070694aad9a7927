"""Every kernel once: its operands, dtypes, write modes, allowed aliases, formula and source.

All else reads this table: argument checks, the plan's verifier, ``gpubp.ops``, the conformance
tests and the kernel list of the documentation. It holds no arithmetic; the words it is written in
are explained in contract.py.
"""

from __future__ import annotations

from gpubp.errors import unknown_name
from gpubp.kernels.contract import Kernel, Operand, Scalar

_GLOROT = "Glorot, Bordes & Bengio 2011, Deep sparse rectifier neural networks"
_BISHOP = "Bishop 2006, Pattern Recognition and Machine Learning"
_GOODFELLOW = "Goodfellow, Bengio & Courville 2016, Deep Learning"
_PHILOX = "Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3"

_SRIVASTAVA = "Srivastava et al. 2014, Dropout; counter-based numbers: " + _PHILOX

KERNELS: dict[str, Kernel] = {}


def kernel(name: str) -> Kernel:
    """Return the contract of a kernel.

    Raises:
        InputError: there is no kernel of that name.
    """
    if name not in KERNELS:
        raise unknown_name("kernel", name, KERNELS)
    return KERNELS[name]


def _add(
    family: str,
    name: str,
    operands: list[Operand],
    formula: str,
    *scalars: Scalar,
    inplace: tuple[tuple[str, str], ...] = (),
    saved: tuple[str, ...] = (),
    source: str = "",
) -> None:
    KERNELS[name] = Kernel(
        name, family, tuple(operands), formula, tuple(scalars), inplace, saved, source
    )


def _in(name: str, axes: str, dtype: str = "float", **more: str | bool) -> Operand:
    return Operand(name, tuple(axes.split()), dtype, "read", **more)  # type: ignore[arg-type]


def _out(name: str, axes: str, dtype: str = "float", **more: bool) -> Operand:
    return Operand(name, tuple(axes.split()), dtype, "overwrite", **more)


def _sum(name: str, axes: str, dtype: str = "float") -> Operand:
    return Operand(name, tuple(axes.split()), dtype, "accumulate")


def _state(name: str, axes: str, dtype: str = "float") -> Operand:
    return Operand(name, tuple(axes.split()), dtype, "update")


def _matrix() -> None:
    flags = (
        Scalar("transpose_a", "bool", False),
        Scalar("transpose_b", "bool", False),
        Scalar("accumulate", "bool", False),
    )
    # c is "update" because with accumulate its old value counts; without, it is never looked at.
    for name, lead in (("matmul", ""), ("batched_matmul", "N ")):
        _add(
            "matrix",
            name,
            [
                _in("a", f"{lead}B I", transpose="transpose_a"),
                _in("b", f"{lead}I O", transpose="transpose_b"),
                _state("c", f"{lead}B O", "either"),
            ],
            "c = a b (+ c if accumulate), a or b transposed in its last two axes if so flagged",
            *flags,
        )
    _add(
        "matrix",
        "bias_add",
        [_in("z", "B O"), _in("b", "O"), _out("out", "B O")],
        "out[i,j] = z[i,j] + b[j]",
        inplace=(("z", "out"),),
    )
    _add(
        "matrix",
        "bias_grad",
        [_in("dz", "B O"), _out("db", "O", "wide")],
        "db[j] = sum_i dz[i,j]",
    )
    _products_with_epilogues(*flags[:2])


def _products_with_epilogues(transpose_a: Scalar, transpose_b: Scalar) -> None:
    """Add what a matrix library does to a product before it writes it."""
    a, b = _in("a", "B I", transpose="transpose_a"), _in("b", "I O", transpose="transpose_b")
    c, db = _out("c", "B O"), _out("db", "O", "wide")
    mask = _in("mask", "B M", "uint8")
    product = "op(a) op(b), op to transpose if so flagged"
    packed = (
        "mask: a bit for each element of c, 8 a byte, the lowest first, rows padded to 16 bytes"
    )
    table: tuple[tuple[str, list[Operand], str], ...] = (
        # The bias is as wide as what it is added to.
        ("bias", [_in("bias", "O", "either"), _out("c", "B O", "either")], "c = p + bias"),
        (
            "bias_relu",
            [_in("bias", "O"), c, _out("mask", "B M", "uint8", optional=True)],
            f"c = max(p + bias, 0); {packed}, set where c > 0",
        ),
        ("relu_delta", [mask, c], f"c = p where mask, else 0; {packed}"),
        (
            "relu_delta_bias_grad",
            [mask, c, db],
            f"c = p where mask, else 0; db[j] = sum_i c[i,j]; {packed}",
        ),
    )
    for name, operands, formula in table:
        _add(
            "matrix",
            f"matmul_{name}",
            [a, b, *operands],
            f"p = {product}; {formula}",
            transpose_a,
            transpose_b,
        )
    _add(
        "matrix",
        "matmul_bias_grad",
        [a, _in("b", "I O"), _out("c", "B O", "wide"), db],
        "c = op(a) b, op to transpose if so flagged; db[j] = sum_i b[i,j]",
        transpose_a,
    )


# The elementwise activations: scalars, what the delta kernel needs, f, f', source.
_ACTIVATIONS: dict[str, tuple[tuple[Scalar, ...], str, str, str, str]] = {
    "identity": ((), "", "z", "1", ""),
    "sigmoid": ((), "a", "1 / (1 + exp(-z))", "a (1 - a)", _BISHOP + ", eq. 4.59"),
    "tanh": ((), "a", "tanh(z)", "1 - a²", _BISHOP + ", eq. 5.59"),
    "relu": ((), "a", "max(z, 0)", "1 if a > 0 else 0 (0 at z = 0)", _GLOROT),
    "leaky_relu": (
        (Scalar("alpha", "float", 0.01),),
        "z",
        "z if z > 0 else alpha z",
        "1 if z > 0 else alpha",
        "Maas, Hannun & Ng 2013, Rectifier nonlinearities improve neural network acoustic models",
    ),
    "elu": (
        (Scalar("alpha", "float", 1.0),),
        "a",
        "z if z > 0 else alpha (exp(z) - 1), alpha > 0",
        "1 if a > 0 else a + alpha",
        "Clevert, Unterthiner & Hochreiter 2016, Fast and accurate deep network learning by ELUs",
    ),
    "gelu": (
        (),
        "z",
        "z Φ(z), Φ(z) = (1 + erf(z/√2)) / 2",
        "Φ(z) + z φ(z), φ(z) = exp(-z²/2) / √(2π)",
        "Hendrycks & Gimpel 2016, Gaussian error linear units",
    ),
    "gelu_tanh": (
        (),
        "z",
        "z (1 + t) / 2, t = tanh(√(2/π) (z + 0.044715 z³))",
        "(1 + t) / 2 + z (1 - t²) √(2/π) (1 + 3·0.044715 z²) / 2",
        "Hendrycks & Gimpel 2016, Gaussian error linear units",
    ),
    "silu": (
        (),
        "z",
        "z s, s = 1 / (1 + exp(-z))",
        "s (1 + z (1 - s))",
        "Elfwing, Uchibe & Doya 2018, Sigmoid-weighted linear units",
    ),
    "softplus": (
        (),
        "a",
        "log(1 + exp(z)) = max(z, 0) + log1p(exp(-|z|))",
        "1 - exp(-a)",
        "Dugas et al. 2001, Incorporating second-order functional knowledge",
    ),
    "exponential": ((), "a", "exp(z)", "a", "McCullagh & Nelder 1989, the link of Poisson rates"),
}
ELEMENTWISE = tuple(_ACTIVATIONS)
ACTIVATIONS = (*ELEMENTWISE, "softmax", "log_softmax")


def _activations() -> None:
    for name, (scalars, saved, f, slope, source) in _ACTIVATIONS.items():
        kept = (saved,) if saved else ()
        if name != "identity":  # its passes are no passes: the layer leaves them out
            _fused_activation(name, scalars, saved, f, slope, source)
        _add(
            "activation",
            name,
            [_in("z", "..."), _out("a", "...")],
            f"a = {f}",
            *scalars,
            inplace=(("z", "a"),),
            saved=kept,
            source=source,
        )
        saved_operands = [_in(saved, "...")] if saved else []
        _add(
            "activation",
            f"{name}_delta",
            [_in("da", "..."), *saved_operands, _out("dz", "...")],
            f"dz = da · ({slope})",
            *scalars,
            inplace=(("da", "dz"),),
            source=source,
        )
    for name, f, delta in (
        (
            "softmax",
            "a_k = exp(z_k - m) / sum_j exp(z_j - m), m = max_j z_j",
            "a_k (da_k - sum_j a_j da_j)",
        ),
        (
            "log_softmax",
            "a_k = z_k - m - log sum_j exp(z_j - m), m = max_j z_j",
            "da_k - exp(a_k) sum_j da_j",
        ),
    ):
        _add(
            "activation",
            name,
            [_in("z", "B K"), _out("a", "B K")],
            f,
            inplace=(("z", "a"),),
            saved=("a",),
            source=_GOODFELLOW + ", section 6.2.2.3",
        )
        _add(
            "activation",
            f"{name}_delta",
            [_in("da", "B K"), _in("a", "B K"), _out("dz", "B K")],
            f"dz_k = {delta}",
            inplace=(("da", "dz"),),
            source=_GOODFELLOW + ", section 6.2.2.3",
        )


def _fused_activation(
    name: str, scalars: tuple[Scalar, ...], saved: str, f: str, slope: str, source: str
) -> None:
    """Add the passes that do more than the activation, on rows of O columns."""
    # Where the delta kernel needs z, the fused pass leaves the biased z behind for it.
    in_z = saved == "z"
    z = _state("z", "B O") if in_z else _in("z", "B O")
    biased = f"z += b; a = {f}" if in_z else f"with z + b in place of z: a = {f}"
    back = [_in(saved, "B O"), *_KEY, _out("dz", "B O"), _out("db", "O", "wide")]
    forward = {"inplace": () if in_z else (("z", "a"),), "saved": (saved,)}
    _add(
        "activation",
        f"bias_{name}",
        [z, _in("b", "O"), _out("a", "B O")],
        biased,
        *scalars,
        **forward,
        source=source,
    )
    _add(
        "activation",
        f"bias_{name}_dropout",
        [z, _in("b", "O"), *_KEY, _out("a", "B O"), _out("y", "B O")],
        f"{biased}; y_i = a_i / (1 - rate) if keep_i else 0; {_KEEP}",
        *scalars,
        *_DROPOUT,
        **forward,
        source=f"{source}; {_SRIVASTAVA}",
    )
    _add(
        "activation",
        f"{name}_delta_bias_grad",
        [_in("da", "B O"), *(o for o in back if o not in _KEY)],
        f"dz = da · ({slope}); db[j] = sum_i dz[i,j]",
        *scalars,
        inplace=(("da", "dz"),),
        source=source,
    )
    _add(
        "activation",
        f"{name}_dropout_delta_bias_grad",
        [_in("dy", "B O"), *back],
        f"da_i = dy_i / (1 - rate) if keep_i else 0; dz = da · ({slope}); db[j] = sum_i dz[i,j]; "
        + _KEEP,
        *scalars,
        *_DROPOUT,
        inplace=(("dy", "dz"),),
        source=f"{source}; {_SRIVASTAVA}",
    )


def _losses() -> None:
    scale = Scalar("scale", "float", 1.0)
    note = (
        "loss += scale · sum_i w_i l_i over rows (and outputs) that the mask keeps; dz = its "
        "gradient; l = "
    )
    elementwise: tuple[tuple[str, tuple[Scalar, ...], str, str], ...] = (
        ("squared_error", (), "½ (z - t)²", _BISHOP + ", eq. 5.11"),
        ("absolute_error", (), "|z - t|, slope 0 at z = t", _BISHOP + ", section 1.5.5"),
        (
            "huber",
            (Scalar("threshold", "float", 1.0, least=0),),
            "½ r² if |r| <= threshold else threshold (|r| - ½ threshold), r = z - t",
            "Huber 1964, Robust estimation of a location parameter",
        ),
        (
            "quantile",
            (Scalar("q", "float", 0.5, least=0, below=1),),
            "q (t - z) if t > z else (1 - q) (z - t), slope 0 at z = t",
            "Koenker & Bassett 1978, Regression quantiles",
        ),
        (
            "poisson",
            (),
            "exp(z) - t z, z the logarithm of the rate (log t! is left out)",
            "McCullagh & Nelder 1989, Generalized Linear Models",
        ),
        (
            "sigmoid_cross_entropy",
            (),
            "max(z, 0) - t z + log1p(exp(-|z|)), z logits, t in [0, 1]",
            _BISHOP + ", eq. 4.90",
        ),
    )
    for name, scalars, formula, source in elementwise:
        _add(
            "loss",
            name,
            [
                _in("z", "B K", "either"),
                _in("t", "B K", "wide"),
                _in("weights", "B", "wide", optional=True),
                _in("mask", "B K", "bool", optional=True),
                _sum("loss", "1", "float64"),
                _out("dz", "B K"),
            ],
            note + formula,
            *scalars,
            scale,
            inplace=(("z", "dz"),),
            source=source,
        )
    smoothing = Scalar("smoothing", "float", 0.0, least=0, below=1)
    for name, target, meaning in (
        ("softmax_cross_entropy", _in("labels", "B", "int64"), "the one-hot row of the label"),
        ("softmax_cross_entropy_dense", _in("t", "B K", "wide"), "the target distribution"),
    ):
        _add(
            "loss",
            name,
            [
                _in("z", "B K", "either"),
                target,
                _in("weights", "B", "wide", optional=True),
                _in("mask", "B", "bool", optional=True),
                _sum("loss", "1", "float64"),
                _out("dz", "B K"),
            ],
            note + "log sum_k exp(z_k) · sum_k q_k - sum_k q_k z_k, "
            f"q = (1 - smoothing) p + smoothing (sum_k p_k) / K, p {meaning}",
            smoothing,
            scale,
            inplace=(("z", "dz"),),
            source="Szegedy et al. 2016, Rethinking the Inception architecture, section 7",
        )


# What a dropout mask is made of, in the kernels of two families.
_KEY = (_in("seed", "1", "int64"), _in("step", "1", "int64"))
_STREAM = Scalar("stream", "int")
_DROPOUT = (
    Scalar("rate", "float", least=0, below=1),
    _STREAM,
    Scalar("first", "int", 0, least=0),
)
_KEEP = (
    "keep_i = bits[first + i] >= rate · 2³², bits as random_bits(seed, step, stream), elements in "
    "C order"
)


def _random() -> None:
    _add(
        "random",
        "random_bits",
        [*_KEY, _out("bits", "N", "uint32")],
        "bits[4 c + j] = word j of Philox4x32-10(counter (c, stream, step low, step high), "
        "key = seed)",
        _STREAM,
        source=_PHILOX,
    )
    for name, x, y in (("dropout", "x", "y"), ("dropout_delta", "dy", "dx")):
        _add(
            "random",
            name,
            [_in(x, "..."), *_KEY, _out(y, "...")],
            f"{y}_i = {x}_i / (1 - rate) if keep_i else 0; {_KEEP}",
            *_DROPOUT,
            inplace=((x, y),),
            source=_SRIVASTAVA,
        )


def _optimizers() -> None:
    p, g, lr = _state("params", "P"), _in("grads", "P"), _in("lr", "1", "float64")
    step = _in("step", "1", "int64")
    momentum = Scalar("momentum", "float", 0.9, least=0, below=1)
    eps, beta1, beta2 = (
        Scalar("eps", "float", 1e-8, least=0),
        Scalar("beta1", "float", 0.9, least=0, below=1),
        Scalar("beta2", "float", 0.999, least=0, below=1),
    )
    v = _state("velocity", "P")
    moments = [_state("m", "P"), _state("v", "P")]
    adam = (
        "t = step + 1; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g²; "
        "params -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)"
    )
    sutskever = "Sutskever et al. 2013, On the importance of initialization and momentum"
    table: tuple[tuple[str, list[Operand], str, tuple[Scalar, ...], str], ...] = (
        ("sgd", [g, lr, p], "params -= lr g", (), "Robbins & Monro 1951"),
        (
            "momentum",
            [g, lr, v, p],
            "velocity = momentum velocity - lr g; params += velocity",
            (momentum,),
            "Polyak 1964; " + sutskever,
        ),
        (
            "nesterov",
            [g, lr, v, p],
            "velocity = momentum velocity - lr g; params += momentum velocity - lr g",
            (momentum,),
            "Nesterov 1983; " + sutskever,
        ),
        (
            "adam",
            [g, lr, step, *moments, p],
            adam,
            (beta1, beta2, eps),
            "Kingma & Ba 2015, Adam, algorithm 1",
        ),
        (
            "adamw",
            [g, lr, step, *moments, p],
            "params -= lr weight_decay params; then " + adam,
            (beta1, beta2, eps, Scalar("weight_decay", "float", 0.01)),
            "Loshchilov & Hutter 2019, Decoupled weight decay regularization",
        ),
        (
            "rmsprop",
            [g, lr, _state("v", "P"), p],
            "v = rho v + (1 - rho) g²; params -= lr g / (sqrt(v) + eps)",
            (Scalar("rho", "float", 0.9, least=0, below=1), eps),
            "Tieleman & Hinton 2012, lecture 6.5",
        ),
        (
            "adagrad",
            [g, lr, _state("v", "P"), p],
            "v += g²; params -= lr g / (sqrt(v) + eps)",
            (Scalar("eps", "float", 1e-10),),
            "Duchi, Hazan & Singer 2011, Adaptive subgradient methods",
        ),
    )
    for name, operands, formula, scalars, source in table:
        _add("optimizer", name, operands, formula, *scalars, source=source)
        _add_update(name, operands, formula, scalars, source)
    _add(
        "optimizer",
        "round_bfloat16",
        [_in("params", "P"), _out("rounded", "P", "bfloat16")],
        "rounded = params, to the nearest bfloat16, ties to even",
    )


def _add_update(
    name: str, operands: list[Operand], formula: str, scalars: tuple[Scalar, ...], source: str
) -> None:
    """Add the optimizer's one pass with all that is done to the gradient before it."""
    first = next(i for i, operand in enumerate(operands) if operand.written)
    decay = (
        ", the decay for the first `decaying` elements only"
        if any(scalar.name == "weight_decay" for scalar in scalars)
        else ""
    )
    _add(
        "optimizer",
        f"{name}_update",
        [
            _state("grads", "P"),
            *operands[1:first],
            _in("squares", "T", "float64", optional=True),
            *operands[first:],
            _out("rounded", "P", "bfloat16", optional=True),
        ],
        "grads += l1 sign(params) + l2 params for the first `decaying` elements; "
        "grads = min(max(grads, -clip_value), clip_value) if clip_value > 0; "
        "grads *= min(1, clip_norm / sqrt(sum_t squares_t)) if clip_norm > 0; "
        f"with g = grads: {formula}{decay}; rounded = params, to the nearest bfloat16",
        *scalars,
        *(Scalar(penalty, "float", 0.0) for penalty in ("l1", "l2")),
        Scalar("decaying", "int", 0, least=0),
        *(Scalar(limit, "float", 0.0, least=0) for limit in ("clip_value", "clip_norm")),
        source=source,
    )


def _gradients() -> None:
    p, g = _in("params", "P"), _state("grads", "P")
    _add("gradient", "l1_penalty", [p, g], "grads += l1 sign(params)", Scalar("l1", "float"))
    _add("gradient", "l2_penalty", [p, g], "grads += l2 params", Scalar("l2", "float"))
    _add(
        "gradient",
        "clip_value",
        [g],
        "grads = min(max(grads, -limit), limit)",
        Scalar("limit", "float", least=0),
    )
    _add(
        "gradient",
        "clip_norm",
        [_in("squares", "T", "float64"), g],
        "grads *= min(1, limit / sqrt(sum_t squares_t)), squares the partial sums of squares",
        Scalar("limit", "float", least=0),
        source="Pascanu, Mikolov & Bengio 2013, On the difficulty of training RNNs",
    )
    _add(
        "gradient",
        "add",
        [_in("x", "P"), _state("y", "P")],
        "y += x",
    )


def _metrics() -> None:
    _add(
        "metric",
        "sum_of_squares",
        [_in("x", "P"), _out("total", "1", "float64")],
        "total = sum_i x_i²",
    )
    _add(
        "metric",
        "sum_of_squared_errors",
        [_in("z", "B K", "either"), _in("t", "B K", "wide"), _sum("total", "1", "float64")],
        "total += sum_i,k (z_ik - t_ik)²",
    )
    _add(
        "metric",
        "count_correct",
        [_in("z", "B K", "either"), _in("labels", "B", "int64"), _sum("count", "1", "int64")],
        "count += number of rows i with argmax_k z_ik = labels_i (the first of equal maxima)",
    )
    _add(
        "metric",
        "count_correct_dense",
        [_in("z", "B K", "either"), _in("t", "B K", "wide"), _sum("count", "1", "int64")],
        "count += number of rows i with argmax_k z_ik = argmax_k t_ik",
    )
    _add(
        "metric",
        "count_correct_binary",
        [_in("z", "B K", "either"), _in("t", "B K", "wide"), _sum("count", "1", "int64")],
        "count += number of rows i with (z_ik > 0) = (t_ik > ½) for every k",
    )


def _data() -> None:
    row = _in("row", "1", "int64")
    first = Scalar("first", "int", 0, least=0)
    _add(
        "data",
        "gather",
        [
            _in("source", "N ...", "real"),
            _in("permutation", "S", "int64"),
            row,
            _out("x", "B ...", "either"),
        ],
        "x[i] = source[permutation[row + first + i]], converted to the working dtype",
        first,
    )
    _add(
        "data",
        "gather_labels",
        [
            _in("source", "N", "int64"),
            _in("permutation", "S", "int64"),
            row,
            _out("x", "B", "int64"),
        ],
        "x[i] = source[permutation[row + first + i]]",
        first,
    )
    _add(
        "data",
        "take_rows",
        [_in("source", "N ...", "real"), row, _out("x", "B ...", "either")],
        "x[i] = source[row + first + i], converted to the working dtype",
        first,
    )
    _add(
        "data",
        "take_labels",
        [_in("source", "N", "int64"), row, _out("x", "B", "int64")],
        "x[i] = source[row + first + i]",
        first,
    )
    _add(
        "data",
        "put_rows",
        [_in("x", "B ...", "either"), row, _state("out", "N ...", "wide")],
        "out[row + first + i] = x[i], converted to the dtype of out",
        first,
    )
    _add(
        "data",
        "advance",
        [_state("row", "1", "int64"), _state("step", "1", "int64")],
        "row += rows; step += steps",
        Scalar("rows", "int"),
        Scalar("steps", "int", 1),
    )
    _add(
        "data",
        "rate",
        [
            _in("rates", "S", "float64"),
            _in("step", "1", "int64"),
            _in("start", "1", "int64"),
            _out("lr", "1", "float64"),
        ],
        "lr = rates[step - start], the schedule's values from step start on",
    )


for _define in (
    _matrix, _activations, _losses, _random, _optimizers, _gradients, _metrics, _data,
):  # fmt: skip
    _define()
