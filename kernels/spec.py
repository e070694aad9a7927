"""Every kernel once: its operands, dtypes, write modes, allowed aliases, formula and source.

All else reads this table: argument checks, the plan's verifier, ``gpubp.ops``, the conformance
tests and the kernel list of the documentation. It holds no arithmetic; the words it is written in
are explained in contract.py and declare.py. The activations stand in spec_activations.py.
"""

from __future__ import annotations

from gpubp.errors import unknown_name
from gpubp.kernels.contract import Kernel, Operand, Scalar
from gpubp.kernels.declare import (
    BISHOP,
    DROPOUT,
    KEEP,
    KERNELS,
    KEY,
    PHILOX,
    SRIVASTAVA,
    STREAM,
    accumulates,
    add,
    overwrites,
    reads,
    updates,
)
from gpubp.kernels.spec_activations import ACTIVATIONS, ELEMENTWISE, activations

__all__ = ["ACTIVATIONS", "ELEMENTWISE", "KERNELS", "kernel"]


def kernel(name: str) -> Kernel:
    """Return the contract of a kernel.

    Raises:
        InputError: there is no kernel of that name.
    """
    if name not in KERNELS:
        raise unknown_name("kernel", name, KERNELS)
    return KERNELS[name]


def _matrix() -> None:
    flags = (
        Scalar("transpose_a", "bool", False),
        Scalar("transpose_b", "bool", False),
        Scalar("accumulate", "bool", False),
    )
    # c is "update" because with accumulate its old value counts; without, it is never looked at.
    for name, lead in (("matmul", ""), ("batched_matmul", "N ")):
        add(
            "matrix",
            name,
            [
                reads("a", f"{lead}B I", transpose="transpose_a"),
                reads("b", f"{lead}I O", transpose="transpose_b"),
                updates("c", f"{lead}B O", "either"),
            ],
            "c = a b (+ c if accumulate), a or b transposed in its last two axes if so flagged",
            *flags,
        )
    add(
        "matrix",
        "bias_add",
        [reads("z", "B O"), reads("b", "O"), overwrites("out", "B O")],
        "out[i,j] = z[i,j] + b[j]",
        inplace=(("z", "out"),),
    )
    add(
        "matrix",
        "bias_grad",
        [reads("dz", "B O"), overwrites("db", "O", "wide")],
        "db[j] = sum_i dz[i,j]",
    )
    _products_with_epilogues(*flags[:2])


def _products_with_epilogues(transpose_a: Scalar, transpose_b: Scalar) -> None:
    """Add what a matrix library does to a product before it writes it."""
    a, b = reads("a", "B I", transpose="transpose_a"), reads("b", "I O", transpose="transpose_b")
    c, db = overwrites("c", "B O"), overwrites("db", "O", "wide")
    mask = reads("mask", "B M", "uint8")
    product = "op(a) op(b), op to transpose if so flagged"
    packed = (
        "mask: a bit for each element of c, 8 a byte, the lowest first, rows padded to 16 bytes"
    )
    table: tuple[tuple[str, list[Operand], str], ...] = (
        # The bias is as wide as what it is added to.
        ("bias", [reads("bias", "O", "either"), overwrites("c", "B O", "either")], "c = p + bias"),
        (
            "bias_relu",
            [reads("bias", "O"), c, overwrites("mask", "B M", "uint8", optional=True)],
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
        add(
            "matrix",
            f"matmul_{name}",
            [a, b, *operands],
            f"p = {product}; {formula}",
            transpose_a,
            transpose_b,
        )
    add(
        "matrix",
        "matmul_bias_grad",
        [a, reads("b", "I O"), overwrites("c", "B O", "wide"), db],
        "c = op(a) b, op to transpose if so flagged; db[j] = sum_i b[i,j]",
        transpose_a,
    )


def _losses() -> None:
    scale = Scalar("scale", "float", 1.0)
    note = (
        "loss += scale · sum_i w_i l_i over rows (and outputs) that the mask keeps and where w_i "
        "is not 0, whatever stands elsewhere; dz = its gradient; l = "
    )
    elementwise: tuple[tuple[str, tuple[Scalar, ...], str, str], ...] = (
        ("squared_error", (), "½ (z - t)²", BISHOP + ", eq. 5.11"),
        ("absolute_error", (), "|z - t|, slope 0 at z = t", BISHOP + ", section 1.5.5"),
        (
            "huber",
            (Scalar("threshold", "float", 1.0, above=0),),
            "½ r² if |r| <= threshold else threshold (|r| - ½ threshold), r = z - t",
            "Huber 1964, Robust estimation of a location parameter",
        ),
        (
            "quantile",
            (Scalar("q", "float", 0.5, above=0, below=1),),
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
            BISHOP + ", eq. 4.90",
        ),
    )
    for name, scalars, formula, source in elementwise:
        add(
            "loss",
            name,
            [
                reads("z", "B K", "either"),
                reads("t", "B K", "wide"),
                reads("weights", "B", "wide", optional=True),
                reads("mask", "B K", "bool", optional=True),
                accumulates("loss", "1", "float64"),
                overwrites("dz", "B K"),
            ],
            note + formula,
            *scalars,
            scale,
            inplace=(("z", "dz"),),
            source=source,
        )
    smoothing = Scalar("smoothing", "float", 0.0, least=0, below=1)
    for name, target, meaning in (
        (
            "softmax_cross_entropy",
            reads("labels", "B", "int64"),
            "the one-hot row of the label, or NaN if that is not from 0 to K - 1",
        ),
        ("softmax_cross_entropy_dense", reads("t", "B K", "wide"), "the target distribution"),
    ):
        add(
            "loss",
            name,
            [
                reads("z", "B K", "either"),
                target,
                reads("weights", "B", "wide", optional=True),
                reads("mask", "B", "bool", optional=True),
                accumulates("loss", "1", "float64"),
                overwrites("dz", "B K"),
            ],
            note + "log sum_k exp(z_k) · sum_k q_k - sum_k q_k z_k, "
            f"q = (1 - smoothing) p + smoothing (sum_k p_k) / K, p {meaning}",
            smoothing,
            scale,
            inplace=(("z", "dz"),),
            source="Szegedy et al. 2016, Rethinking the Inception architecture, section 7",
        )


def _random() -> None:
    add(
        "random",
        "random_bits",
        [*KEY, overwrites("bits", "N", "uint32")],
        "bits[4 c + j] = word j of Philox4x32-10(counter (c, stream, step low, step high), "
        "key = seed)",
        STREAM,
        source=PHILOX,
    )
    for name, x, y in (("dropout", "x", "y"), ("dropout_delta", "dy", "dx")):
        add(
            "random",
            name,
            [reads(x, "..."), *KEY, overwrites(y, "...")],
            f"{y}_i = {x}_i / (1 - rate) if keep_i else 0; {KEEP}",
            *DROPOUT,
            inplace=((x, y),),
            source=SRIVASTAVA,
        )


def _optimizers() -> None:
    p, g, lr = updates("params", "P"), reads("grads", "P"), reads("lr", "1", "float64")
    step = reads("step", "1", "int64")
    momentum = Scalar("momentum", "float", 0.9, least=0, below=1)
    eps, beta1, beta2 = (
        Scalar("eps", "float", 1e-8, least=0),
        Scalar("beta1", "float", 0.9, least=0, below=1),
        Scalar("beta2", "float", 0.999, least=0, below=1),
    )
    v = updates("velocity", "P")
    moments = [updates("m", "P"), updates("v", "P")]
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
            [g, lr, updates("v", "P"), p],
            "v = rho v + (1 - rho) g²; params -= lr g / (sqrt(v) + eps)",
            (Scalar("rho", "float", 0.9, least=0, below=1), eps),
            "Tieleman & Hinton 2012, lecture 6.5",
        ),
        (
            "adagrad",
            [g, lr, updates("v", "P"), p],
            "v += g²; params -= lr g / (sqrt(v) + eps)",
            (Scalar("eps", "float", 1e-10),),
            "Duchi, Hazan & Singer 2011, Adaptive subgradient methods",
        ),
    )
    for name, operands, formula, scalars, source in table:
        add("optimizer", name, operands, formula, *scalars, source=source)
        _add_update(name, operands, formula, scalars, source)
    add(
        "optimizer",
        "round_bfloat16",
        [reads("params", "P"), overwrites("rounded", "P", "bfloat16")],
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
    add(
        "optimizer",
        f"{name}_update",
        [
            updates("grads", "P"),
            *operands[1:first],
            reads("squares", "T", "float64", optional=True),
            *operands[first:],
            overwrites("rounded", "P", "bfloat16", optional=True),
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
    p, g = reads("params", "P"), updates("grads", "P")
    add("gradient", "l1_penalty", [p, g], "grads += l1 sign(params)", Scalar("l1", "float"))
    add("gradient", "l2_penalty", [p, g], "grads += l2 params", Scalar("l2", "float"))
    add(
        "gradient",
        "clip_value",
        [g],
        "grads = min(max(grads, -limit), limit)",
        Scalar("limit", "float", least=0),
    )
    add(
        "gradient",
        "clip_norm",
        [reads("squares", "T", "float64"), g],
        "grads *= min(1, limit / sqrt(sum_t squares_t)), squares the partial sums of squares; NaN "
        "where their sum is not finite",
        Scalar("limit", "float", above=0),
        source="Pascanu, Mikolov & Bengio 2013, On the difficulty of training RNNs",
    )
    add(
        "gradient",
        "add",
        [reads("x", "P"), updates("y", "P")],
        "y += x",
    )


def _metrics() -> None:
    add(
        "metric",
        "sum_of_squares",
        [reads("x", "P"), overwrites("total", "1", "float64")],
        "total = sum_i x_i²",
    )
    add(
        "metric",
        "sum_of_squared_errors",
        [
            reads("z", "B K", "either"),
            reads("t", "B K", "wide"),
            accumulates("total", "1", "float64"),
        ],
        "total += sum_i,k (z_ik - t_ik)²",
    )
    add(
        "metric",
        "count_correct",
        [
            reads("z", "B K", "either"),
            reads("labels", "B", "int64"),
            accumulates("count", "1", "int64"),
        ],
        "count += number of rows i with argmax_k z_ik = labels_i (the first of equal maxima)",
    )
    add(
        "metric",
        "count_correct_dense",
        [
            reads("z", "B K", "either"),
            reads("t", "B K", "wide"),
            accumulates("count", "1", "int64"),
        ],
        "count += number of rows i with argmax_k z_ik = argmax_k t_ik",
    )
    add(
        "metric",
        "count_correct_binary",
        [
            reads("z", "B K", "either"),
            reads("t", "B K", "wide"),
            accumulates("count", "1", "int64"),
        ],
        "count += number of rows i with (z_ik > 0) = (t_ik > ½) for every k",
    )


def _data() -> None:
    row = reads("row", "1", "int64")
    first = Scalar("first", "int", 0, least=0)
    add(
        "data",
        "gather",
        [
            reads("source", "N ...", "real"),
            reads("permutation", "S", "int64"),
            row,
            overwrites("x", "B ...", "either"),
        ],
        "x[i] = source[permutation[row + first + i]], converted to the working dtype",
        first,
    )
    add(
        "data",
        "gather_labels",
        [
            reads("source", "N", "int64"),
            reads("permutation", "S", "int64"),
            row,
            overwrites("x", "B", "int64"),
        ],
        "x[i] = source[permutation[row + first + i]]",
        first,
    )
    add(
        "data",
        "take_rows",
        [reads("source", "N ...", "real"), row, overwrites("x", "B ...", "either")],
        "x[i] = source[row + first + i], converted to the working dtype",
        first,
    )
    add(
        "data",
        "take_labels",
        [reads("source", "N", "int64"), row, overwrites("x", "B", "int64")],
        "x[i] = source[row + first + i]",
        first,
    )
    add(
        "data",
        "put_rows",
        [reads("x", "B ...", "either"), row, updates("out", "N ...", "wide")],
        "out[row + first + i] = x[i], converted to the dtype of out",
        first,
    )
    add(
        "data",
        "advance",
        [updates("row", "1", "int64"), updates("step", "1", "int64")],
        "row += rows; step += steps",
        Scalar("rows", "int"),
        Scalar("steps", "int", 1),
    )
    add(
        "data",
        "rate",
        [
            reads("rates", "S", "float64"),
            reads("step", "1", "int64"),
            reads("start", "1", "int64"),
            overwrites("lr", "1", "float64"),
        ],
        "lr = rates[step - start], the schedule's values from step start on",
    )


for _define in (
    _matrix, activations, _losses, _random, _optimizers, _gradients, _metrics, _data,
):  # fmt: skip
    _define()
