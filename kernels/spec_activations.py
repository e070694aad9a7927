"""The contracts of the activations: each with its delta kernel and the passes that do more."""

from __future__ import annotations

from gpubp.kernels.contract import Scalar
from gpubp.kernels.declare import (
    BISHOP,
    DROPOUT,
    KEEP,
    KEY,
    SRIVASTAVA,
    add,
    overwrites,
    reads,
    updates,
)

_GLOROT = "Glorot, Bordes & Bengio 2011, Deep sparse rectifier neural networks"
_GOODFELLOW = "Goodfellow, Bengio & Courville 2016, Deep Learning"

# The elementwise activations: scalars, what the delta kernel needs, f, f', source.
_ACTIVATIONS: dict[str, tuple[tuple[Scalar, ...], str, str, str, str]] = {
    "identity": ((), "", "z", "1", ""),
    "sigmoid": ((), "a", "1 / (1 + exp(-z))", "a (1 - a)", BISHOP + ", eq. 4.59"),
    "tanh": ((), "a", "tanh(z)", "1 - a²", BISHOP + ", eq. 5.59"),
    "relu": ((), "a", "max(z, 0)", "1 if a > 0 else 0 (0 at z = 0, NaN for NaN)", _GLOROT),
    "leaky_relu": (
        (Scalar("alpha", "float", 0.01),),
        "z",
        "z if z > 0 else alpha z",
        "1 if z > 0 else alpha (NaN for NaN)",
        "Maas, Hannun & Ng 2013, Rectifier nonlinearities improve neural network acoustic models",
    ),
    "elu": (
        (Scalar("alpha", "float", 1.0, above=0),),
        # Of a, a + alpha would be 0 from where a is rounded to -alpha on: z = -17 in float32.
        "z",
        "z if z > 0 else alpha (exp(z) - 1), alpha > 0",
        "1 if z > 0 else alpha exp(z)",
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


def activations() -> None:
    """Enter all of them in the table."""
    for name, (scalars, saved, f, slope, source) in _ACTIVATIONS.items():
        kept = (saved,) if saved else ()
        if name != "identity":  # its passes are no passes: the layer leaves them out
            _fused_activation(name, scalars, saved, f, slope, source)
        add(
            "activation",
            name,
            [reads("z", "..."), overwrites("a", "...")],
            f"a = {f}",
            *scalars,
            inplace=(("z", "a"),),
            saved=kept,
            source=source,
        )
        saved_operands = [reads(saved, "...")] if saved else []
        add(
            "activation",
            f"{name}_delta",
            [reads("da", "..."), *saved_operands, overwrites("dz", "...")],
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
        add(
            "activation",
            name,
            [reads("z", "B K"), overwrites("a", "B K")],
            f,
            inplace=(("z", "a"),),
            saved=("a",),
            source=_GOODFELLOW + ", section 6.2.2.3",
        )
        add(
            "activation",
            f"{name}_delta",
            [reads("da", "B K"), reads("a", "B K"), overwrites("dz", "B K")],
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
    z = updates("z", "B O") if in_z else reads("z", "B O")
    biased = f"z += b; a = {f}" if in_z else f"with z + b in place of z: a = {f}"
    back = [reads(saved, "B O"), *KEY, overwrites("dz", "B O"), overwrites("db", "O", "wide")]
    inplace = () if in_z else (("z", "a"),)
    add(
        "activation",
        f"bias_{name}",
        [z, reads("b", "O"), overwrites("a", "B O")],
        biased,
        *scalars,
        inplace=inplace,
        saved=(saved,),
        source=source,
    )
    add(
        "activation",
        f"bias_{name}_dropout",
        [z, reads("b", "O"), *KEY, overwrites("a", "B O"), overwrites("y", "B O")],
        f"{biased}; y_i = a_i / (1 - rate) if keep_i else 0; {KEEP}",
        *scalars,
        *DROPOUT,
        inplace=inplace,
        saved=(saved,),
        source=f"{source}; {SRIVASTAVA}",
    )
    add(
        "activation",
        f"{name}_delta_bias_grad",
        [reads("da", "B O"), *(o for o in back if o not in KEY)],
        f"dz = da · ({slope}); db[j] = sum_i dz[i,j]",
        *scalars,
        inplace=(("da", "dz"),),
        source=source,
    )
    add(
        "activation",
        f"{name}_dropout_delta_bias_grad",
        [reads("dy", "B O"), *back],
        f"da_i = dy_i / (1 - rate) if keep_i else 0; dz = da · ({slope}); db[j] = sum_i dz[i,j]; "
        + KEEP,
        *scalars,
        *DROPOUT,
        inplace=(("dy", "dz"),),
        source=f"{source}; {SRIVASTAVA}",
    )
