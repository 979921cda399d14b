"""What native code recalls of operations is what Python does."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tracejit import native
from tracejit.backends.cpu import compiler, objects
from tracejit.tensor import Tensor

pytestmark = [
    pytest.mark.skipif(objects.why_unsupported() is not None, reason=f"no native calls: {objects.why_unsupported()}"),
]
SEEN = 40  # often enough to be learnt


@pytest.fixture(autouse=True)
def _installed() -> Any:
    assert native.install()
    yield
    native.uninstall()


def array(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).integers(-50, 50, shape).astype(dtype)


def python_calls(call: Callable[[], Any]) -> int:
    """How many Python functions it calls besides itself."""
    called: list[str] = []
    sys.setprofile(lambda frame, event, argument: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        call()
    finally:
        sys.setprofile(None)
    return len(called) - 1


def learnt(call: Callable[[], Any]) -> Callable[[], Any]:
    for _ in range(SEEN):
        call()
    compiler.wait()
    return call


X, Y, SQUARE = array(4, 6), array(6, 5), array(8, 8)
CASES: dict[str, tuple[Callable[[Any], Any], tuple[int, ...], int]] = {
    "a row": (lambda x: x[1], (4, 6), 0),
    "an element": (lambda x: x[1, -2], (4, 6), 0),
    "rows": (lambda x: x[1:3], (4, 6), 0),
    "columns": (lambda x: x[:, ::2], (4, 6), 0),
    "backwards": (lambda x: x[::-1], (4, 6), 0),
    "the last": (lambda x: x[..., -1], (4, 6), 0),
    "an element after all other axes": (lambda x: x[..., -1], (6,), 0),
    "an element and all other axes": (lambda x: x[1, ..., 2], (4, 6), 0),
    "a number": (lambda x: x[...], (), 0),
    "a new axis": (lambda x: x[None, 2], (4, 6), 0),
    "all": (lambda x: x[:], (4, 6), 0),
    "of large extents": (lambda x: x[300:700], (1000,), 0),
    "a large row": (lambda x: x[1], (2, 1000), 0),
    "reshaped": (lambda x: x.reshape(6, 4), (4, 6), 2),
    "flattened": (lambda x: x.reshape(-1), (4, 6), 2),
    "one": (lambda x: x.reshape(()), (1, 1), 2),
    "transposed": (lambda x: x.T, (4, 6), 2),
    "axes exchanged": (lambda x: x.transpose(0, 2), (2, 3, 4), 2),
    "a sum": (lambda x: x.sum(), (4, 6), 4),
    "sums": (lambda x: x.sum(1), (4, 6), 4),
    "sums of some axes": (lambda x: x.sum((0, 2)), (2, 3, 4), 4),
    "a largest": (lambda x: x.max(), (4, 6), 4),
    "a square": (lambda x: x @ x, (5, 5), 0),
    "a product": (lambda x: tj.matmul(x, x), (5, 5), 1),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_same(case: str, dtype: Any) -> None:
    function, shape, calls = CASES[case]
    x = tj.tensor(array(*shape, dtype=dtype))
    native.uninstall()
    expected = function(x)
    native.install()
    for _ in range(6):  # operations are counted by places: others in this one may put off what is learnt
        call = learnt(lambda: function(x))
        if python_calls(call) - 1 <= calls:
            break
    assert python_calls(call) - 1 <= calls  # methods, which call native code
    found = call()
    assert type(found) is Tensor
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found.numpy().tobytes() == expected.numpy().tobytes()
    assert found.is_leaf
    x += 1
    native.uninstall()
    expected = function(x)
    native.install()
    assert call().numpy().tobytes() == expected.numpy().tobytes()


def test_any_key() -> None:
    """Basic keys and others, on tensors of many shapes."""
    draw = random.Random(0)

    def part(extent: int) -> Any:
        bound = [None, *range(-extent - 2, extent + 3)]
        return draw.choice(
            [
                draw.randrange(-extent, extent),
                slice(draw.choice(bound), draw.choice(bound), draw.choice([None, 1, 2, -1])),
                slice(None), None, Ellipsis, True, [0, extent - 1], np.int64(0), extent + 3,
            ]
        )  # fmt: skip

    for _ in range(150):
        a = array(*[draw.randint(1, 4) for _ in range(draw.randint(0, 3))])
        x = tj.tensor(a)
        key: Any = tuple(part(extent) for extent in a.shape[: draw.randint(0, 3)])
        key = key[0] if len(key) == 1 else key
        for _ in range(SEEN):
            try:
                expected = a[key]
            except IndexError:
                with pytest.raises(IndexError):
                    x[key]
                continue
            assert x[key].shape == expected.shape
            assert x[key].tolist() == expected.tolist()


@pytest.mark.parametrize("index", [[True, False, True], [2, 0]], ids=["a mask", "positions"])
def test_tensors_as_indices(index: list[Any]) -> None:
    x, key = tj.tensor(array(3, 4)), tj.tensor(index)
    rows = learnt(lambda: x[key])()
    assert rows.tolist() == array(3, 4)[index].tolist()


def test_results_are_values_of_their_own() -> None:
    x = tj.tensor(array(4, 6))
    row = learnt(lambda: x[1])()
    before = row.tolist()
    x[1] = 0.0
    row += 1
    assert row.tolist() == [item + 1 for item in before]
    assert x[1].tolist() == [0.0] * 6


def test_gradients_and_traces_see_python() -> None:
    x = tj.tensor(array(4, 6))
    learnt(lambda: (x[1], x.reshape(6, 4), x.sum(), x @ x.T))
    w = x.detach().requires_grad_()
    (w[1].sum() * 2 + w.reshape(6, 4)[0].sum() + (w @ w.T).sum()).backward()
    assert w.grad is not None
    native.uninstall()
    v = x.detach().requires_grad_()
    (v[1].sum() * 2 + v.reshape(6, 4)[0].sum() + (v @ v.T).sum()).backward()
    native.install()
    assert w.grad.tolist() == v.grad.tolist()  # type: ignore[union-attr]
    compiled = tj.jit(lambda x: x[1].sum() + x.reshape(6, 4)[0].sum() + (x @ x.T).sum())
    assert compiled(x).tolist() == (x[1].sum() + x.reshape(6, 4)[0].sum() + (x @ x.T).sum()).tolist()
    assert tj.vmap(lambda row: row[1])(x).tolist() == x[:, 1].tolist()


def test_kinds_are_told_apart() -> None:
    for dtype in (np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_, np.float16, np.complex64):
        for shape in ((2, 3), (3, 2), (6,), (2, 3, 1)):
            a = array(*shape, dtype=dtype)
            x = tj.tensor(a)
            learnt(lambda x=x: (x[1], x.reshape(3, 2), x.T, x.max() if x.dtype.kind == "f" else x))
            assert x[1].tolist() == a[1].tolist()
            assert x.reshape(3, 2).tolist() == a.reshape(3, 2).tolist()
            assert x.T.tolist() == a.T.tolist()
            if dtype not in (np.float16, np.complex64):
                assert x.sum().tolist() == a.sum().tolist()


def test_what_lies_in_another_way() -> None:
    a = array(6, 8)
    whole = tj.tensor(a)
    learnt(lambda: (whole[1], whole.sum(0), whole.reshape(-1)))
    for x, b in ((tj.tensor(a).T, a.T), (tj.tensor(a)[:, ::2], a[:, ::2]), (tj.tensor(a)[::-1], a[::-1])):
        for _ in range(SEEN):
            assert x[1].tolist() == b[1].tolist()
            assert x.sum(0).tolist() == b.sum(0).tolist()
            assert x.reshape(-1).tolist() == b.reshape(-1).tolist()


def test_derived_classes_have_their_own_ways() -> None:
    class Own(Tensor):
        def __getitem__(self, key: Any) -> Any:
            return "own"

        def __matmul__(self, other: Any) -> Any:
            return "left"

        def __rmatmul__(self, other: Any) -> Any:
            return "right"

    x, own = tj.tensor(SQUARE), Own(SQUARE)
    learnt(lambda: (x[0], x @ x))
    assert (own[0], own @ x, x @ own) == ("own", "left", "right")
    assert x.__matmul__("text") is NotImplemented


def test_errors_are_told_each_time() -> None:
    x = tj.tensor(X)
    for _ in range(SEEN):
        with pytest.raises(IndexError, match="out of bounds"):
            x[4]
        with pytest.raises(ValueError, match="reshape"):
            x.reshape(5, 5)
        with pytest.raises((RuntimeError, TypeError, ValueError), match="cannot be multiplied"):
            x @ x
        with pytest.raises(IndexError, match="out of bounds"):
            x.sum(2)
        with pytest.raises(IndexError):
            x[1 << 70]


def test_threads_recall_at_once() -> None:
    x = tj.tensor(array(64, 64))
    call = learnt(lambda: (x.sum().item(), (x @ x)[0, 0].item(), x[3, 5].item()))
    expected, wrong = call(), []

    def work() -> None:
        for _ in range(500):
            if call() != expected:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_reference_counts_balance() -> None:
    x, key, shape = tj.tensor(array(6, 8)), (1, slice(2, 5)), (8, 6)
    wide = tj.tensor(array(2, 1000))
    call = learnt(lambda: (x[key], x.reshape(shape), x.sum(), x @ x.T, wide[1], x.T))
    watched = [x, x._value, key, key[1], shape, None, wide._value, x.dtype, Tensor, np.ndarray]
    before = [sys.getrefcount(item) for item in watched]
    for _ in range(2000):
        call()
    after = [sys.getrefcount(item) for item in watched]
    assert [abs(one - other) < 50 for one, other in zip(before, after, strict=True)] == [True] * len(watched)
