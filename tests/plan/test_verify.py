"""What the verifier refuses, one broken plan each, and that it lets good ones pass."""

import re
from dataclasses import replace

import pytest

from gpubp.errors import PlanError
from gpubp.plan.build import ROW
from gpubp.plan.ir import ANY, DATA, GRADS, PARAMS, TRANSIENT, Buffer, Call, Plan
from gpubp.plan.memory import Layout, place
from gpubp.plan.verify import verify

X = Buffer("X", (ANY, 3), "float32", DATA)
x = Buffer("x", (4, 3), "float32", TRANSIENT)
z = Buffer("z", (4, 5), "float32", TRANSIENT)
a = Buffer("a", (4, 5), "float32", TRANSIENT)
W = Buffer("W", (3, 5), "float32", PARAMS)
dW = Buffer("dW", (3, 5), "float32", GRADS)
db = Buffer("db", (5,), "float32", GRADS, 15)
params, grads = (Buffer(name, (20,), "float32", name) for name in (PARAMS, GRADS))
lr = Buffer("lr", (1,), "float64", TRANSIENT)

LOAD = Call("take_rows", (X, ROW, x), formula="x = next 4 rows of X")
PRODUCT = Call("matmul", (x, W, z), formula="z = x W")
RELU = Call("relu", (z, a), formula="a = relu(z)")
RATE = Call(
    "rate",
    (
        Buffer("rates", (ANY,), "float64", DATA),
        *(Buffer(name, (1,), "int64", "counters", i) for i, name in enumerate(("step", "start"))),
        lr,
    ),
)
SGD = Call("sgd", (grads, lr, params))


def plan(*forward, backward=(), update=()):
    return Plan("test", 4, "float32", forward, tuple(backward), tuple(update))


def refused(broken, *words, layout=None):
    with pytest.raises(PlanError, match=".*".join(map(re.escape, words))):
        verify(broken, layout or place(broken))


def test_a_good_plan_passes():
    backward = [Call("matmul", (x, z, dW), (("transpose_a", True),)), Call("bias_grad", (z, db))]
    good = plan(LOAD, PRODUCT, RATE, backward=backward, update=[SGD])
    verify(good, place(good))


def test_a_wrong_shape():
    narrow = replace(z, shape=(4, 2))
    refused(plan(LOAD, Call("matmul", (x, W, narrow))), "call 1, matmul", "'c'", "O = 5", "(4, 2)")


def test_a_wrong_rank():
    refused(plan(LOAD, Call("matmul", (x, db, z))), "call 1, matmul", "'b'", "(I, O)")


def test_a_wrong_dtype():
    double = replace(W, dtype="float64")
    refused(plan(LOAD, Call("matmul", (x, double, z))), "call 1, matmul", "'b'", "float64")


def test_a_missing_operand():
    refused(plan(LOAD, Call("matmul", (x, None, z))), "call 1, matmul", "'b' is missing")


def test_a_scalar_that_the_kernel_does_not_have():
    odd = Call("relu", (x, x), (("alpha", 0.1),))
    refused(plan(LOAD, odd), "call 1, relu", "no scalar 'alpha'")


def test_use_before_definition():
    refused(plan(LOAD, RELU), "call 1, relu (a = relu(z))", "reads z[4,5]", "nothing has written")


def test_accumulation_into_what_was_never_written():
    adds = replace(PRODUCT, scalars=(("accumulate", True),))
    refused(plan(LOAD, adds), "call 1, matmul", "reads z[4,5]", "nothing has written")


def test_a_product_that_does_not_accumulate_may_write_anew():
    good = plan(LOAD, PRODUCT)
    verify(good, place(good))


def test_a_value_that_is_overwritten_before_it_is_read():
    """relu's output in the place of x, which the last product still wants."""
    broken = plan(LOAD, PRODUCT, RELU, Call("matmul", (x, W, z)))
    layout = Layout({x: 0, z: 32, a: 0}, {"float32": 64})
    refused(broken, "call 3, matmul", "x[4,3]", "overwritten before it is read", layout=layout)


@pytest.mark.parametrize(
    ("start", "fault"), [(36, False), (35, True), (24, True), (5, True), (4, False)]
)
def test_a_write_destroys_what_it_shares_an_element_with(start, fault):
    """The output a of relu has 20 elements from ``start`` on; x has the 12 from 24 to 36."""
    layout = Layout({x: 24, z: 64, a: start}, {"float32": 256})
    program = plan(LOAD, PRODUCT, RELU, Call("matmul", (x, W, z)))
    if fault:
        refused(program, "call 3, matmul", "x[4,3]", "overwritten before it is read", layout=layout)
    else:
        verify(program, layout)


def test_an_overwritten_value_that_nobody_reads_again_is_no_fault():
    layout = Layout({x: 0, z: 32, a: 0}, {"float32": 64})
    verify(plan(LOAD, PRODUCT, RELU), layout)


def test_an_alias_that_the_kernel_forbids():
    layout = Layout({x: 0, z: 0}, {"float32": 32})
    refused(
        plan(LOAD, PRODUCT), "call 1, matmul (z = x W)", "c = z[4,5] overlaps a = x[4,3]",
        layout=layout,
    )  # fmt: skip


def test_an_alias_that_the_kernel_allows():
    layout = Layout({x: 0, z: 16, a: 16}, {"float32": 48})
    verify(plan(LOAD, PRODUCT, RELU), layout)


def test_an_allowed_alias_that_is_shifted():
    """In place means the same elements, not memory that overlaps by half."""
    layout = Layout({x: 0, z: 16, a: 24}, {"float32": 48})
    refused(plan(LOAD, PRODUCT, RELU), "call 2, relu", "a = a[4,5] overlaps z", layout=layout)


def test_an_allowed_alias_of_an_operand_that_is_given_twice():
    double = Call("relu_delta", (z, z, z))
    refused(plan(LOAD, PRODUCT, double), "call 2, relu_delta", "dz = z[4,5] overlaps a = z")


def test_overlap_within_a_persistent_vector():
    shifted = replace(params, offset=8, name="others")
    broken = plan(Call("l2_penalty", (params, shifted), (("l2", 0.1),)))
    refused(broken, "call 0, l2_penalty", "grads = others[20] overlaps params")


def test_a_gradient_that_backward_leaves_out():
    backward = [Call("matmul", (x, z, dW), (("transpose_a", True),))]
    broken = plan(LOAD, PRODUCT, RATE, backward=backward, update=[SGD])
    refused(broken, "update reads grads[15:20]", "never writes")


def test_padding_between_gradients_is_no_hole():
    """Two parameters of 15 and 5 elements that start at multiples of 16."""
    apart = replace(db, offset=16)
    whole = tuple(replace(buffer, shape=(32,)) for buffer in (grads, params))
    backward = [Call("matmul", (x, z, dW), (("transpose_a", True),)), Call("bias_grad", (z, apart))]
    update = [Call("sgd", (whole[0], lr, whole[1]))]
    padded = plan(LOAD, PRODUCT, RATE, backward=backward, update=update)
    verify(padded, place(padded), alignment=16)
    refused(padded, "update reads grads[15:32]", "never writes")
    apart = plan(LOAD, PRODUCT, RATE, backward=backward[:1], update=update)
    with pytest.raises(PlanError, match=r"grads\[16:32\]"):
        verify(apart, place(apart), alignment=16)


def test_a_gradient_with_a_hole():
    backward = [Call("bias_grad", (z, db))]
    broken = plan(LOAD, PRODUCT, RATE, backward=backward, update=[SGD])
    refused(broken, "update reads grads[0:20]", "never writes")
