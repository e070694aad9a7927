"""What a plan says of itself: its text, and the operations and bytes of its calls."""

from dataclasses import replace

import pytest

from gpubp import Dense, Dropout, Sequential, Trainer
from gpubp.plan.build import ROW, Inputs, Rows
from gpubp.plan.ir import ANY, DATA, GRADS, PARAMS, TRANSIENT, Buffer, Call

# Written by hand: backpropagation through sigmoid and a linear layer, 4 rows of 2 features. The
# operations: 1 + 8 + 4 to fetch, 48 + 12 + 12 and 24 + 4 forward, 5 for the loss, 1 + 24 + 24 and
# 12 + 3 + 48 back, 13 to update, 2 counters.
DERIVATION = """\
training step: 4 rows, float64, 245 floating-point operations

forward
  η = schedule(t)                                    rate(rates[N], step[1], start[1]) -> lr[1]
  x = X[permutation], next 4 rows                    gather(X[N,2], permutation[N], row[1]) -> x[4,2]
  y = y[permutation], next 4 rows                    gather(y[N,1], permutation[N], row[1]) -> y[4,1]
  z1 = x W1                                          matmul(x[4,2], W1[2,3]) -> z1[4,3]
  z1 += b1                                           bias_add(z1[4,3], b1[3]) -> z1[4,3]
  a1 = sigmoid(z1)                                   sigmoid(z1[4,3]) -> a1[4,3]
  z2 = a1 W2                                         matmul(a1[4,3], W2[3,1]) -> z2[4,1]
  z2 += b2                                           bias_add(z2[4,1], b2[1]) -> z2[4,1]
  L += mean squared_error(z2, y); dz2 = ∂L/∂z2       squared_error(z2[4,1], y[4,1], loss[1], scale=0.25) -> loss[1], dz2[4,1]

backward
  db2 = Σ_rows dz2                                   bias_grad(dz2[4,1]) -> db2[1]
  dW2 = a1ᵀ dz2                                      matmul(a1[4,3], dz2[4,1], transpose_a) -> dW2[3,1]
  da1 = dz2 W2ᵀ                                      matmul(dz2[4,1], W2[3,1], transpose_b) -> da1[4,3]
  dz1 = da1 ⊙ sigmoid'(a1)                           sigmoid_delta(da1[4,3], a1[4,3]) -> dz1[4,3]
  db1 = Σ_rows dz1                                   bias_grad(dz1[4,3]) -> db1[3]
  dW1 = xᵀ dz1                                       matmul(x[4,2], dz1[4,3], transpose_a) -> dW1[2,3]

update
  w -= η g                                           sgd(grads[13], lr[1], params[13]) -> params[13]
  t = t + 1                                          advance(row[1], step[1], rows=4) -> row[1], step[1]"""  # noqa: E501 (as it is printed)


def text_of(*layers, **settings):
    trainer = Trainer(Sequential(*layers), backend="numpy", **settings)
    trainer.initialize(2)
    return str(trainer.plan(4))


def squeezed(text):
    """Each line with its columns apart by one space: the width is the printer's business."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_a_printed_plan_is_the_derivation_of_backpropagation():
    text = text_of(
        Dense(3, "sigmoid"), Dense(1), loss="squared_error", optimizer="sgd", precision="fp64"
    )
    assert squeezed(text) == squeezed(DERIVATION)


def test_formulas_stand_in_a_column():
    lines = [line for line in text_of(Dense(3, "tanh"), Dense(2)).splitlines() if " -> " in line]
    starts = {line.index(line.split("   ")[-1].strip()) for line in lines}
    assert len(starts) == 1


def test_dropout_draws_its_mask_again_on_the_way_back():
    text = squeezed(text_of(Dense(3, "relu"), Dropout(0.25), Dense(2)))
    assert "a2 = a1 ⊙ m2 / 0.75 dropout(a1[4,3], seed[1], step[1], rate=0.25, stream=" in text
    assert "da1_kept = da2 ⊙ m2 / 0.75 dropout_delta(da2[4,3], seed[1], step[1]" in text


def test_penalties_and_clipping_stand_between_backward_and_the_optimizer():
    text = text_of(Dense(3), Dense(2), l1=0.5, l2=0.25, clip_value=2.0, clip_norm=3.0)
    update = [line.split("   ")[0].strip() for line in text.partition("update\n")[2].splitlines()]
    assert update[:5] == [
        "g += 0.5 sign(W)", "g += 0.25 W", "g = min(max(g, -2), 2)", "‖g‖²", "g *= min(1, 3 / ‖g‖)",
    ]  # fmt: skip
    assert "(params[0:12]" in text.replace("l1_penalty(", "(")  # the weights, not the 5 biases


def test_nothing_is_computed_below_the_first_layer_that_is_trained():
    assert "dx" not in text_of(Dropout(0.5), Dense(3, "relu"), Dense(2))


def test_a_share_of_a_minibatch_says_so():
    trainer = Trainer(Sequential(Dense(3)), backend="numpy")
    trainer.initialize(2)
    share = Rows(8, first=4, count=3)
    plan = trainer._engine._plan("training", Inputs(2, "float32", "labels"), share, True)
    text = squeezed(str(plan))
    assert text.startswith("training step of 3 of 8 rows: 3 rows, float32")
    assert "gather(X[N,2], permutation[N], row[1], first=4) -> x[3,2]" in text
    assert "scale=0.125" in text  # the mean is over the whole minibatch


x = Buffer("x", (4, 3), "float32", TRANSIENT)
W = Buffer("W", (3, 5), "float32", PARAMS)
z = Buffer("z", (4, 5), "float32", TRANSIENT)


def test_the_operations_of_a_product():
    """15 weights, each met by 4 rows, a multiplication and an addition, whatever is transposed."""
    assert Call("matmul", (x, W, z)).flops == 2 * 4 * 15
    assert Call("matmul", (x, z, W), (("transpose_a", True),)).flops == 2 * 4 * 15
    assert Call("matmul", (z, W, x), (("transpose_b", True),)).flops == 2 * 4 * 15


def test_the_operations_of_the_rest_are_the_elements_written():
    assert Call("relu", (z, z)).flops == 20
    assert Call("bias_grad", (z, Buffer("db", (5,), "float32", GRADS))).flops == 5


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("float64", 8)])
def test_the_bytes_of_a_product(dtype, width):
    operands = tuple(replace(buffer, dtype=dtype) for buffer in (x, W, z))
    product = Call("matmul", operands)
    assert product.bytes == width * (12 + 15 + 20)
    adding = Call("matmul", operands, (("accumulate", True),))
    assert adding.bytes == width * (12 + 15 + 2 * 20)


def test_a_product_with_an_epilogue_counts_as_one():
    mask = Buffer("mask", (4, 16), "uint8", TRANSIENT)
    b = Buffer("b", (5,), "float32", PARAMS)
    product = Call("matmul_bias_relu", (x, W, b, z, mask))
    assert product.flops == Call("matmul", (x, W, z)).flops
    assert product.bytes == 4 * (12 + 15 + 5 + 20) + 4 * 16


def test_bfloat16_has_two_bytes():
    narrow = (replace(buffer, dtype="bfloat16") for buffer in (x, W, z))
    assert Call("matmul", tuple(narrow)).bytes == 2 * (12 + 15 + 20)


def test_the_bytes_of_a_minibatch_leave_out_the_rest_of_the_data():
    source = Buffer("X", (ANY, 3), "float64", DATA)
    assert Call("take_rows", (source, ROW, x)).bytes == 4 * 12 + 8
