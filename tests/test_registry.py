"""Closed tables: names in, objects out, and back."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp.errors import InputError
from gpubp.registry import Registry
from gpubp.settings import Settings, entry

SHAPES = Registry("shape")


@SHAPES.add("point")
@dataclass(frozen=True)
class Point:
    pass


@SHAPES.add("circle")
@dataclass(frozen=True)
class Circle:
    radius: float


@SHAPES.add("frame")
@dataclass(frozen=True)
class Frame(Settings):
    inner: object = entry(SHAPES, "point")
    width: float = 1.0
    seen: int = field(default=0, init=False)


shapes = st.recursive(
    st.builds(Circle, st.floats(0, 9)) | st.just(Point()),
    lambda inner: st.builds(Frame, inner, st.floats(0, 9)),
)


@given(shapes)
def test_a_configuration_makes_the_object_again(shape):
    """Entries within entries too; what is no argument is no setting."""
    config = SHAPES.config(shape)
    assert SHAPES.from_config(config) == shape
    assert SHAPES.get(config) == shape
    assert "seen" not in config


def test_names_and_objects():
    assert [*SHAPES] == ["point", "circle", "frame"]
    assert SHAPES.get("frame").inner == Point()
    assert SHAPES.name_of(Circle(1)) == "circle"
    assert SHAPES.get("circle", radius=2.0) == Circle(2.0)
    circle = Circle(3.0)
    assert SHAPES.get(circle) is circle


@pytest.mark.parametrize(
    ("value", "fields", "words"),
    [
        (
            "circel",
            {},
            "unknown shape 'circel'; did you mean 'circle'\\? known: circle, frame, point",
        ),
        ("circle", {"radios": 1}, "unknown option of shape 'circle' 'radios'.*'radius'"),
        ("circle", {}, "shape 'circle' needs its option 'radius'"),
        (7, {}, "7 is no shape; pass an object or one of the names circle, frame, point"),
        (Circle, {}, "is no shape"),
        ({"radius": 1}, {}, "shape configuration needs a name"),
        ({"name": 3}, {}, "shape configuration needs a name"),
        ({"name": "os.system", "command": "x"}, {}, "unknown shape 'os.system'"),
        ("__class__", {}, "unknown shape '__class__'"),
    ],
)
def test_what_is_in_no_table_is_refused(value, fields, words):
    with pytest.raises(InputError, match=words):
        SHAPES.get(value, **fields)


def test_a_type_that_was_not_entered_is_refused_even_if_it_derives_from_one():
    class Disc(Circle):
        pass

    with pytest.raises(InputError, match="is no shape"):
        SHAPES.get(Disc(1.0))
