"""Classes of facts."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, field

import pytest

from tracejit.ir.facts import facts, replace


@facts(frozen=True)
class Point:
    x: int
    y: int = 2


@facts
class Box:
    items: list[int] = field(default_factory=list)
    hidden: str = field(default="", repr=False)
    later: int = field(init=False)


@facts(frozen=True)
class Pixel(Point):
    color: str = "red"


@facts(eq=False, kw_only=True)
class Named:
    name: str
    size: int = 1

    def __post_init__(self) -> None:
        self.size += 1


def test_values() -> None:
    assert (Point(1).x, Point(1).y, Point(1, y=3).y) == (1, 2, 3)
    assert repr(Point(1)) == "Point(x=1, y=2)"
    box = Box([1])
    box.later = 3
    assert repr(box) == "Box(items=[1], later=3)"
    with pytest.raises(TypeError, match=r"Point.__init__\(\) missing 1 required positional argument: 'x'"):
        Point()  # type: ignore[call-arg]


def test_equality_and_hashes() -> None:
    assert Point(1) == Point(1, 2) != Point(2)
    assert Point(1) != Pixel(1)
    assert Point(1) != (1, 2)
    assert hash(Point(1)) == hash(Point(1, 2))
    assert Named(name="a") != Named(name="a")
    assert len({Named(name="a"), Named(name="a")}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Box())


def test_facts_that_are_frozen_stay() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del point.x
    assert point == Point(1)
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point


def test_each_has_what_is_made_for_it() -> None:
    first, second = Box(), Box()
    first.items.append(1)
    assert second.items == []
    assert not hasattr(second, "later")
    assert Box([2]).items == [2]


def test_a_class_of_more_facts() -> None:
    assert repr(Pixel(1, 2)) == "Pixel(x=1, y=2, color='red')"
    assert replace(Pixel(1), color="blue") == Pixel(1, 2, "blue")
    assert Named(name="a", size=3).size == 4
    with pytest.raises(TypeError):
        Named("a")  # type: ignore[misc]
    match Pixel(5, 6, "green"):
        case Pixel(x, y, color=color):
            assert (x, y, color) == (5, 6, "green")
