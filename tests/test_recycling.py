"""Tensors and arrays that nobody holds are used again by native code, and nobody can tell."""

from __future__ import annotations

import gc
import itertools
import random
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

import tracejit as tj
from tracejit import native
from tracejit.backends.cpu import objects, recycling
from tracejit.tensor import Parameter, Tensor

from .test_native import installed, kernels, native_only  # noqa: F401

pytestmark = [
    pytest.mark.skipif(objects.why_unsupported() is not None, reason=f"no native calls: {objects.why_unsupported()}"),
    pytest.mark.usefixtures("native_only"),
]


ONES = tj.ones(3)


def made() -> Tensor:
    """A tensor that native code has made."""
    return ONES + 1.0


def kept() -> int:
    return objects.word(recycling.known()["kept"])


def emptied() -> None:
    """Nothing is kept from here on: all is held."""
    held.append([ONES + 1.0 for _ in range(recycling.MOST_INSTANCES + 1)])
    assert kept() == 0


held: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> Any:
    native.install()
    emptied()
    yield
    held.clear()


def test_tensors_are_used_again() -> None:
    first = made()
    where, array = id(first), id(first._value)
    del first
    assert kept() == 1
    second = made()
    assert (id(second), id(second._value)) == (where, array)
    assert second.tolist() == [2.0] * 3
    assert gc.is_tracked(second)
    assert sys.getrefcount(second) == 2


def test_not_more_than_some_are_kept() -> None:
    held.clear()
    held.append([made() for _ in range(3 * recycling.MOST_INSTANCES)])
    held.clear()
    assert kept() == recycling.MOST_INSTANCES


@pytest.mark.parametrize(
    "touch",
    [
        lambda x: setattr(x, "note", "mine"),
        lambda x: x.requires_grad_(),
        lambda x: held.append(weakref.ref(x)),
        lambda x: x.__dict__,
        lambda x: setattr(x, "grad", tj.ones(3)),
    ],
    ids=["attribute", "gradient", "weak reference", "dict", "grad"],
)
def test_what_was_touched_is_not_used_again(touch: Callable[[Tensor], Any]) -> None:
    x = made()
    touch(x)
    del x
    assert kept() == 0
    y = made()
    assert not y.requires_grad
    assert y.grad is None
    assert not hasattr(y, "note")


def _reshaped(a: np.ndarray) -> None:
    a.shape = (3, 1)


def _converted(a: np.ndarray) -> None:
    a.dtype = np.int32  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore:Setting the")
@pytest.mark.parametrize(
    "touch",
    [
        lambda a: a.setflags(write=False),
        _reshaped,
        _converted,
        lambda a: held.append(weakref.ref(a)),
        lambda a: held.append(a),
        lambda a: held.append(a[1:]),
        lambda a: held.append(memoryview(a)),
        lambda a: memoryview(a).release(),
        lambda a: held.append(np.from_dlpack(a)),
        lambda a: a.fill(7),
    ],
    ids=["flags", "shape", "dtype", "weak", "held", "view", "buffer", "released", "DLPack", "values"],
)
def test_arrays_are_as_good_as_new(touch: Callable[[np.ndarray], Any]) -> None:
    x = made()
    touch(x._value)
    last = len(held)
    del x
    for _ in range(3):
        y = made()
        assert y.tolist() == [2.0] * 3
        assert (y._value.shape, y._value.strides, y._value.dtype) == ((3,), (4,), np.float32)
        assert y._value.flags.writeable
        held.append(y)
    if last and isinstance(held[last - 1], np.ndarray):
        assert held[last - 1].tolist() in ([2.0] * 3, [2.0] * 2)
    assert [np.asarray(item).tolist() for item in held[-3:]] == [[2.0] * 3] * 3


def test_weak_references_and_finalizers_see_the_end() -> None:
    x = made()
    ended: ClassVar[list[str]] = []
    reference, finalizer = weakref.ref(x, lambda _: ended.append("reference")), weakref.finalize(x, ended.append, "end")
    array = weakref.ref(x._value)
    del x
    assert reference() is None
    assert array() is None
    assert sorted(ended) == ["end", "reference"]
    assert not finalizer.alive


def test_cycles_are_collected() -> None:
    x = made()
    x.own = x  # type: ignore[attr-defined]
    reference = weakref.ref(x)
    del x
    gc.collect()
    assert reference() is None


class Derived(Tensor):
    ended: ClassVar[list[str]] = []

    def __init__(self, name: str) -> None:
        super().__init__([1.0, 2.0])
        self.name = name

    def __del__(self) -> None:
        Derived.ended.append(self.name)


class Slotted(Tensor):
    __slots__ = ("own",)


def test_derived_classes_end_once() -> None:
    before = sys.getrefcount(Derived), sys.getrefcount(Slotted), sys.getrefcount(Parameter)
    for number in range(300):
        x = Derived(str(number))
        weak = weakref.ref(x)
        x.other = made()  # type: ignore[attr-defined]
        del x
        assert weak() is None
        y = Slotted([1.0])
        y.own = y  # type: ignore[attr-defined]
        y.note = made()  # type: ignore[attr-defined]
        del y
        z = Parameter(tj.ones(3))
        z.note = z  # type: ignore[attr-defined]
        del z
    gc.collect()
    assert Derived.ended == [str(number) for number in range(300)]
    after = sys.getrefcount(Derived), sys.getrefcount(Slotted), sys.getrefcount(Parameter)
    assert max(abs(one - other) for one, other in zip(before, after, strict=True)) < 5
    assert (made() + 1.0).tolist() == [3.0] * 3


def test_long_chains_end() -> None:
    """CPython puts off the end of what is nested deeply."""
    for kind in (made, lambda: Derived("chain"), lambda: Slotted([1.0]), lambda: Parameter(tj.ones(1))):
        item: Any = kind()
        ends = weakref.ref(item)
        for _ in range(20_000):
            outer: Any = kind()
            outer.inner = item
            item = outer
        del outer
        assert ends() is not None
        del item
        gc.collect()
        assert ends() is None
    emptied()
    x = made()
    del x
    assert kept() == 1


def test_the_class_may_get_a_finalizer(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(Tensor, "__del__", lambda self: ended.append(id(self)), raising=False)
    x = made()
    where = id(x)
    del x
    assert ended[-1] == where
    monkeypatch.undo()
    assert made().tolist() == [2.0] * 3


def test_an_instance_may_become_one_of_another_class() -> None:
    class Named(Tensor):
        pass

    x = made()
    x.__class__ = Named
    x.name = "a"  # type: ignore[attr-defined]
    weak = weakref.ref(x)
    del x
    assert weak() is None
    y = Named([1.0])
    y.__class__ = Tensor
    del y
    assert made().tolist() == [2.0] * 3


def test_kinds_of_arrays_do_not_mix() -> None:
    draw = random.Random(0)
    shapes = [
        (),
        (1,),
        (3,),
        (4, 1),
        (1, 4),
        (2, 3),
        (3, 2),
        (2, 1, 3),
        (1, 1, 1, 2),
        (2, 2, 2, 2, 2),
        (0,),
        (0, 3),
        (300,),
    ]
    dtypes = [np.float32, np.float64, np.int64, np.int32, np.uint8]
    sources = [tj.tensor(np.ones(shape, dtype)) for shape, dtype in itertools.product(shapes, dtypes)]
    alive: list[tuple[Tensor, float]] = []
    for step in range(20_000):
        x = draw.choice(sources)
        number = step % 100
        alive.append((x * number, number))
        if x.dtype.kind == "f":
            alive.append((x < 2, 1))
        assert alive[-1][0].shape == x.shape
        if len(alive) > 40:
            draw.shuffle(alive)
            for result, expected in alive[20:]:
                assert np.array_equal(result.numpy(), np.full(result.shape, expected, result.dtype))
                assert result.numpy().flags.c_contiguous
                assert result.numpy().nbytes == result.size * result.dtype.itemsize
            del alive[20:]


def test_threads_share_what_is_kept() -> None:
    wrong: list[Any] = []

    def work(seed: int) -> None:
        draw, x = random.Random(seed), tj.full((4,), float(seed))
        alive: list[Tensor] = []
        for step in range(4000):
            alive.append(x * 2.0)
            if step % 3 == 0:
                derived = Slotted([1.0])
                derived.own = alive[-1]  # type: ignore[attr-defined]
            if step % 7 == 0:
                alive[-1].note = weakref.ref(alive[-1], lambda _: None)  # type: ignore[attr-defined]
            if draw.random() < 0.1:
                wrong.extend(y for y in alive if y.tolist() != [2.0 * seed] * 4)
                alive.clear()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
