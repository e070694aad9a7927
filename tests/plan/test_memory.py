"""Placement of transient memory, judged by running plans on cells that remember who wrote them."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gpubp.plan.build import ROW
from gpubp.plan.ir import ANY, DATA, TRANSIENT, Buffer, Call, Plan
from gpubp.plan.memory import ALIGNMENT, lifetimes, place
from gpubp.plan.verify import verify


def buffer(name, size=16, dtype="float32"):
    return Buffer(name, (size,), dtype, TRANSIENT)


def load(target):
    """A call that writes a buffer and reads none."""
    return Call("take_rows", (Buffer("X", (ANY,), "float64", DATA), ROW, target))


def plan(*calls):
    return Plan("test", 16, "float32", calls)


@st.composite
def programs(draw):
    """Calls that read values written before, old or recent, into new buffers or over old ones.

    Of the kernels, all but ``add`` may work in place of their first operand and never of their
    second.
    """
    calls, known = [], []
    for index in range(draw(st.integers(1, 15))):
        if not known or draw(st.integers(0, 4)) == 0:
            size = draw(st.sampled_from((1, 15, 16, 17, 64)))
            known.append(buffer(f"t{index}", size, draw(st.sampled_from(("float32", "float64")))))
            calls.append(load(known[-1]))
            continue
        first = draw(st.sampled_from(known[-3:]))  # the recent ones: most values die young
        alike = [b for b in known if (b.size, b.dtype) == (first.size, first.dtype)][-4:]
        kernel = draw(st.sampled_from(("relu", "gelu", "relu_delta", "gelu_delta", "add")))
        inputs = [first]
        if kernel.endswith("_delta"):
            inputs.append(draw(st.sampled_from(alike)))
        barred = inputs[:1] if kernel == "add" else inputs[1:]
        targets = [b for b in alike if b not in barred]
        if kernel != "add":
            targets.append(buffer(f"t{index}", first.size, first.dtype))
        if targets:
            target = draw(st.sampled_from(targets))
            known += [] if target in known else [target]
            calls.append(Call(kernel, (*inputs, target)))
    return plan(*calls)


def cells(buffer, layout):
    start = layout.offsets[buffer]
    return [(buffer.dtype, start + i) for i in range(buffer.size)]


def check_by_running(program, layout):
    """Every read finds the value last written to its buffer; overlap in a call is by leave only."""
    memory, versions = {}, Counter()
    for call in program.calls:
        transient = {
            o.name: b
            for o, b in zip(call.contract.operands, call.operands, strict=True)
            if b.region == TRANSIENT
        }
        for source in call.reads():
            if source.region == TRANSIENT:
                found = {memory.get(cell) for cell in cells(source, layout)}
                assert found == {(source.name, versions[source.name])}, (call, source)
        written = {o.name for o in call.contract.outputs}
        for name in written & transient.keys():
            own = cells(transient[name], layout)
            for other in transient.keys() - {name}:
                theirs = cells(transient[other], layout)
                if (other, name) in call.contract.inplace:
                    assert own == theirs or not set(own) & set(theirs)
                else:
                    assert not set(own) & set(theirs), (call, name, other)
            versions[transient[name].name] += 1
            value = (transient[name].name, versions[transient[name].name])
            memory.update(dict.fromkeys(own, value))


@given(programs())
def test_values_are_there_when_they_are_read(program):
    layout = place(program)
    check_by_running(program, layout)
    verify(program, layout)  # which must agree


@given(programs())
def test_buffers_lie_aligned_within_their_arenas(program):
    layout = place(program)
    for placed, offset in layout.offsets.items():
        assert offset % ALIGNMENT == 0
        assert offset >= 0
        assert offset + placed.size <= layout.lengths[placed.dtype]
    assert layout.offsets.keys() == set(lifetimes(program.calls))


@given(programs(), st.sampled_from((1, 16, 128)))
def test_an_arena_of_another_alignment(program, alignment):
    layout = place(program, alignment=alignment)
    assert all(offset % alignment == 0 for offset in layout.offsets.values())
    check_by_running(program, layout)


@given(programs())
def test_arenas_are_no_larger_than_all_buffers_side_by_side(program):
    layout = place(program)
    for dtype, length in layout.lengths.items():
        sizes = [-(-b.size // ALIGNMENT) * ALIGNMENT for b in layout.offsets if b.dtype == dtype]
        assert length <= sum(sizes)


def test_a_chain_of_kernels_that_work_in_place_needs_one_buffer():
    a, b, c = map(buffer, "abc")
    layout = place(plan(load(a), Call("relu", (a, b)), Call("tanh", (b, c))))
    assert layout.offsets == {a: 0, b: 0, c: 0}
    assert layout.lengths == {"float32": 16}


def test_an_input_that_is_read_later_is_not_taken_over():
    a, b, c = map(buffer, "abc")
    program = plan(load(a), Call("relu", (a, b)), Call("relu_delta", (b, a, c)))
    offsets = place(program).offsets
    assert offsets[b] != offsets[a]
    assert offsets[c] == offsets[b]  # the gradient's memory, which dies there


def test_memory_is_used_again_when_it_is_free():
    """Four buffers, two of them alive at a time: b takes a place of its own, c that of a."""
    shapes = {"a": (4, 4), "b": (4, 4), "c": (4, 4)}
    a, b, c = (Buffer(name, shape, "float32", TRANSIENT) for name, shape in shapes.items())
    source = Buffer("X", (ANY, 4), "float32", DATA)
    program = plan(
        Call("take_rows", (source, ROW, a)),
        Call("matmul", (a, a, b)),
        Call("matmul", (b, b, c)),
    )
    layout = place(program)
    assert layout.offsets == {a: 0, b: 16, c: 0}
    assert layout.lengths == {"float32": 32}


def test_dtypes_have_arenas_of_their_own():
    a, b = buffer("a"), buffer("b", 8, "float64")
    layout = place(plan(load(a), load(b), Call("relu", (a, a)), Call("relu", (b, b))))
    assert layout.offsets == {a: 0, b: 0}
    assert layout.lengths == {"float32": 16, "float64": 16}


def test_a_network_of_thousands_of_layers_takes_what_its_activations_take():
    """Of n layers the activations are all alive at the turn, and the last has no gradient to keep.

    Placed and verified by bisection: quadratic steps would take minutes here, not a second.
    """
    layers = 3000
    x = [buffer(f"x{i}") for i in range(layers + 1)]
    d = [buffer(f"d{i}") for i in range(layers + 1)]
    forward = [load(x[0]), *(Call("relu", (x[i], x[i + 1])) for i in range(layers))]
    backward = [Call("relu", (x[layers], d[layers]))]
    backward += [Call("relu_delta", (d[i + 1], x[i], d[i])) for i in reversed(range(layers))]
    deep = plan(*forward, *backward)
    layout = place(deep, take_over=False)
    verify(deep, layout)
    # At the call that writes d[layers - 1] there are x[0] to x[layers - 1] and two gradients.
    assert layout.lengths == {"float32": ALIGNMENT * (layers + 2)}


@given(programs())
def test_a_placed_slot_is_as_low_as_it_can_be(program):
    """Lower by one step, it would lie where another slot is alive at the same time."""
    layout = place(program, take_over=False)
    spans = lifetimes(program.calls)
    for one, (first, last) in spans.items():
        start = layout.offsets[one]
        blockers = {
            layout.offsets[other] + -(-other.size // ALIGNMENT) * ALIGNMENT
            for other, (born, dies) in spans.items()
            if other != one and other.dtype == one.dtype and born <= last and first <= dies
        }
        assert start == 0 or start in blockers
