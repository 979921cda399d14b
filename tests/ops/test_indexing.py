"""Elements by position, sorting and searching, sets, scattering, counting."""

from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits

from .table import BOOL, F32, F64, FLOATS, I32, I64, checks_of, grad, row

pytestmark = pytest.mark.usefixtures("first_code_only")

A, MASK = np.array([[0, 2], [1, 1]]), np.array([True, False, True])
INDEX = {"result": I64, "gradient": False}
VALUES = {"dtypes": (*FLOATS, I64, BOOL)}
WHOLE = {"dtypes": (I64, I32), "gradient": False}
FOUND = {"by_value": True}  # how many there are is read

ROWS = [
    *[
        row("Tensor.__getitem__", *shapes, call=lambda x, k=key: x[k], like=lambda x, k=key: x[k],
            detail=str(key).replace("\n", ""))
        for key, shapes in (
            (1, ((3, 4), (2,))),
            (-1, ((3, 4),)),
            ((1, 2), ((3, 4),)),
            (np.int64(1), ((3, 4),)),
            (slice(1, None), ((3, 4), (1, 2), (0, 2))),
            (slice(None, None, -1), ((3, 4), (5,))),
            ((slice(None), slice(3, 0, -2)), ((3, 4),)),
            (slice(np.int64(1), np.int64(3)), ((5,),)),
            (None, ((3,), ())),
            ((Ellipsis, 0), ((3, 4), (2, 3, 4))),
            ((Ellipsis, None), ((3, 4), ())),
            (Ellipsis, ((3, 4), ())),
            (slice(2, 3), ((3, 4),)),
            (slice(3, 1), ((5, 2),)),
            ((), ((3,), ())),
            ((slice(None), 1, slice(1, 2)), ((2, 3, 4),)),
            (A, ((3, 4), (3,))),
            ((A, A), ((3, 4),)),
            ((slice(None), A), ((2, 3),)),
            ((0, slice(None), A), ((2, 5, 3),)),
            ((slice(None), 0, A), ((2, 5, 3),)),
            ((A, slice(None), A), ((3, 2, 3),)),
            ((A, None, A), ((3, 3),)),
            ((None, A), ((3,),)),
            ((A, Ellipsis), ((3, 4, 2),)),
            (-A, ((3,),)),
            (A.astype(np.uint8), ((3, 2),)),
            ([0, 2], ((3, 4),)),
            (([0, 1], [1, 0]), ((3, 4),)),
            ([], ((3, 4),)),
            (np.array([], int), ((3, 4), (3,))),
            (np.array(2), ((3,), (3, 4))),
            (MASK, ((3,), (3, 4))),
            ([True, False, True], ((3, 4),)),
            ((slice(None), MASK), ((2, 3),)),
            ((None, MASK), ((3,), (3, 2))),
            ((MASK, None), ((3, 2),)),
            ((MASK, slice(1)), ((3, 4),)),
            ((MASK, [0, 1]), ((3, 4),)),
            ((slice(None), None, MASK), ((2, 3),)),
            (np.eye(3, 4, dtype=bool), ((3, 4), (3, 4, 2))),
            ((Ellipsis, np.eye(3, 4, dtype=bool)), ((2, 3, 4),)),
            (np.zeros((0, 4), bool), ((0, 4),)),
            (True, ((3, 4), (), (0,))),
            (False, ((3, 4), ())),
            (np.array(True), ((3,), ())),
            (np.True_, ((3,),)),
            ((True, 1), ((3, 4),)),
            ((0, True), ((3, 4),)),
            ((True, False), ((3,),)),
            ((None, True), ((3,),)),
            ((slice(None), True), ((3, 4),)),
            ((True, A), ((3, 4),)),
            ((A, True), ((3, 4),)),
        )
    ],
    row("take", (3, 4), args=([2, 0, 2],), axis=1),
    row("take", (3, 4), (2,), args=([1, -1],)),
    row("take", (3, 4), args=(A,), axis=0),
    row("take_along_axis", (3, 4), call=lambda x: tj.take_along_axis(x, tj.tensor([[1], [0], [-2]]), axis=1),
        like=lambda x: np.take_along_axis(x, np.array([[1], [0], [-2]]), 1)),
    row("take_along_axis", (3, 4), (3, 1), call=lambda x: tj.take_along_axis(x, tj.argsort(x, axis=0), axis=0),
        like=lambda x: np.sort(x, axis=0), detail="to sort"),
    row("put_along_axis", ((3, 4), (3, 1)), call=lambda x, v: _put(x, tj.tensor([[1], [0], [-2]]), v),
        like=lambda x, v: _put(x, np.array([[1], [0], [-2]]), v)),
    # Scattering
    row("scatter_add", ((3, 4), (2, 4)), dtypes=(*FLOATS, I64), ulps=4, low=0.1,
        call=lambda x, v: tj.scatter_add(x, 0, tj.tensor([[0, 2, 1, 2], [0, -1, 1, 0]]), v),
        like=lambda x, v: _added(x, np.array([[0, 2, 1, 2], [0, 2, 1, 0]]), v, 0)),
    row("scatter_add", ((3, 4), (3, 5)), dtypes=(*FLOATS, I64), ulps=4, low=0.1, detail="a smaller index",
        call=lambda x, v: tj.scatter_add(x, 1, tj.tensor([[0, 3], [1, 1]]), v),
        like=lambda x, v: _added(x, np.array([[0, 3], [1, 1]]), v, 1)),
    row("scatter_add", ((), ()), call=lambda x, v: tj.scatter_add(tj.reshape(x, (1,)), 0, tj.tensor([0]), tj.reshape(v,
        (1,))),
        like=lambda x, v: np.reshape(x + v, (1,)), dtypes=FLOATS, detail="of one"),
    row("segment_sum", (5,), (5, 2), dtypes=(*FLOATS, I64), ulps=4, low=0.1,
        call=lambda x: tj.segment_sum(x, tj.tensor([0, 2, 0, -1, 7]), 4),
        like=lambda x: np.stack([x[0] + x[2], 0 * x[0], x[1], 0 * x[0]])),
    row("segment_sum", (3, 2), (3,), dtypes=FLOATS, call=lambda x: tj.segment_sum(x, tj.tensor([1, 0, 1])),
        like=lambda x: np.stack([x[1], x[0] + x[2]]), ulps=4, low=0.1, detail="as many as there are"),
    row("segment_sum", (0, 2), dtypes=FLOATS, call=lambda x: tj.segment_sum(x, tj.zeros(0, dtype=I64), 2),
        like=lambda x: np.zeros((2, 2)), detail="of nothing"),
    row("one_hot", (3, 4), (), (0,), args=(4,), dtypes=(I64, I32), **INDEX,
        like=lambda x, n: np.eye(n + 1, dtype=I64)[np.where((x >= 0) & (x < n), x, n)][..., :n]),
    # Sorting
    row("sort", (3, 40), (5,), (0,), (2, 0, 3), **VALUES),
    row("sort", (7, 3), axis=0),
    row("sort", (7, 3), call=lambda x: tj.sort(x, axis=0, descending=True), like=lambda x: -np.sort(-x, axis=0),
        dtypes=(*FLOATS, I64), detail="down"),
    row("argsort", (3, 9), (5,), (0,), like=lambda x: np.argsort(x, stable=True), **INDEX),
    row("argsort", (9, 2), call=lambda x: tj.argsort(x, axis=0, descending=True),
        like=lambda x: np.argsort(-x, axis=0, stable=True), dtypes=(*FLOATS, I64), **INDEX, detail="down"),
    row("lexsort", ((9,), (9,)), ((2, 5), (2, 5)), many=True, dtypes=(I64, F32), **INDEX),
    row("partition", (9,), (3, 5), args=(2,), like=lambda x, k: np.sort(x)),
    row("partition", (3, 5), args=([0, -1],), axis=None, like=lambda x, k, axis: np.sort(x, axis=None)),
    row("argpartition", (9,), (3, 5), args=(2,), like=lambda x, k: np.argsort(x, stable=True), **INDEX),
    row("topk", (3, 9), (4,), args=(3,), pick=lambda r: r[0] if isinstance(r, tuple) else r,
        like=lambda x, k: -np.sort(-x)[..., :k], dtypes=(*FLOATS, I64)),
    row("topk", (9, 2), args=(2,), axis=0, largest=False, pick=lambda r: r[1] if isinstance(r, tuple) else r, **INDEX,
        like=lambda x, k, axis, largest: np.argsort(x, axis, stable=True)[:k]),
    # Searching
    row("searchsorted", (9,), (2, 3), (), call=lambda x: tj.searchsorted(tj.tensor([-1.0, 0.0, 1.0]).astype(x.dtype),
        x),
        like=lambda x: np.searchsorted(np.array([-1.0, 0.0, 1.0], x.dtype), x), dtypes=(*FLOATS, I64), **INDEX),
    row("searchsorted", (9,), dtypes=(I64,), **INDEX, detail="right, sorted by",
        call=lambda x: tj.searchsorted(tj.tensor([1, -1, 0]), x, side="right", sorter=tj.tensor([1, 2, 0])),
        like=lambda x: np.searchsorted(np.array([1, -1, 0]), x, side="right", sorter=[1, 2, 0])),
    *[
        row("digitize", (9,), (2, 3), (), (0,), call=lambda x, b=bins, r=right: tj.digitize(x, tj.tensor(b), r),
            like=lambda x, b=bins, r=right: np.digitize(x, b, r), dtypes=(*FLOATS, I64), **INDEX,
            detail=f"{bins} {right}")
        for bins in ([-1.0, 0.0, 1.0], [2, 1, 0, -3], [1.0])
        for right in (False, True)
    ],
    row("nonzero", (3, 9), pick=1, dtypes=(I64, BOOL), **INDEX, **FOUND),
    row("nonzero", (0, 9), pick=0, dtypes=(I64, BOOL), **INDEX, **FOUND),
    row("flatnonzero", (3, 9), (), (0,), dtypes=(I64, BOOL, F32), **INDEX, **FOUND),
    row("argwhere", (3, 9), (5,), (), (0, 2), dtypes=(I64, BOOL), **INDEX, **FOUND),
    row("count_nonzero", (3, 9), (), (0,), dtypes=(I64, BOOL), **INDEX),
    row("unravel_index", (), (0,), (2, 2), args=((4, 5),), pick=1, prepare=np.abs, **WHOLE, result=I64),
    # Sets
    row("unique_values", (20,), (3, 4), (0,), (), like=np.unique, dtypes=(*FLOATS, I64), **FOUND),
    row("unique_counts", (20,), (0,), pick=lambda r: r.counts, **WHOLE, result=I64, **FOUND),
    row("unique_inverse", (20,), (3, 4), (), pick=lambda r: r.inverse_indices, **WHOLE, result=I64, **FOUND),
    row("unique_all", (20,), (0,), pick=lambda r: r.indices, **WHOLE, result=I64, **FOUND),
    row("unique", (20,), (3, 4), (), (0,), dtypes=(*FLOATS, I64, BOOL), **FOUND),
    row("unique", (20,), return_index=True, return_counts=True, pick=2, **WHOLE, result=I64, **FOUND),
    row("unique", (20,), return_inverse=True, pick=1, **WHOLE, result=I64, **FOUND),
    row("unique", (9, 2), (4, 1), axis=0, dtypes=(F64, I64), **FOUND),
    row("unique", (2, 9), axis=-1, return_inverse=True, pick=0, dtypes=(F64, I64), **FOUND),
    row("isin", (20,), (3, 4), (), (0,), call=lambda x: tj.isin(x, tj.tensor([1, 2, -3])), like=lambda x: np.isin(x, [1,
        2, -3]),
        dtypes=(I64, F32), result=BOOL, gradient=False),
    row("isin", ((20,), (40,)), invert=True, dtypes=(I64,), result=BOOL, gradient=False),
    row("isin", ((20,), (0,)), dtypes=(I64,), result=BOOL, gradient=False),
    # Counting
    row("bincount", (20,), (0,), prepare=np.abs, **WHOLE, result=I64, **FOUND),
    row("bincount", (20,), prepare=np.abs, minlength=40, **WHOLE, result=I64, **FOUND),
    row("bincount", (7,), call=lambda w: tj.bincount(tj.tensor([0, 2, 2, 5, 0, 1, 2]), w), ulps=4, low=0.1,
        like=lambda w: np.bincount([0, 2, 2, 5, 0, 1, 2], w), detail="weighted"),
    row("histogram", (30,), (2, 3), (), (0,), args=(3,), pick=0, dtypes=(*FLOATS, I64), **INDEX, **FOUND),
    row("histogram", (30,), args=(4,), range=(-1.0, 1.5), pick=0, dtypes=FLOATS, **INDEX),
    row("histogram", (30,), args=(3,), range=(-1.0, 1.0), pick=1, dtypes=FLOATS, gradient=False),
    row("histogram", (30,), args=([-2.0, -1.0, 0.5, 0.5, 2.0],), pick=0, dtypes=FLOATS, **INDEX),
    row("histogram", (30,), args=(4,), range=(-1.0, 1.5), density=True, pick=0, gradient=False, ulps=8),
    row("histogram", (5,), call=lambda w: tj.histogram(tj.tensor([0.0, 1, 1, 2, 4]), 2, weights=w)[0], low=0.1, ulps=4,
        like=lambda w: np.histogram([0.0, 1, 1, 2, 4], 2, weights=w)[0], detail="weighted"),
]  # fmt: skip


def _put(x: Any, indices: Any, values: Any) -> Any:
    if isinstance(x, tj.Tensor):
        x = x.clone()
        tj.put_along_axis(x, indices, values, axis=1)
    else:
        x = x.copy()
        np.put_along_axis(x, indices, values, axis=1)
    return x


def _added(x: np.ndarray, index: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    result = x.copy()
    places = list(np.indices(index.shape))
    places[axis] = index
    np.add.at(result, tuple(places), values[tuple(map(slice, index.shape))])
    return result


test_value, test_special_values, test_gradient, test_gradient_of_a_jitted_function = checks_of(ROWS)

# In place ------------------------------------------------------------------------------------------

KEYS = [
    0, -1, (1, 2), slice(1, None), (slice(None), slice(None, None, 2)), slice(None, None, -1), Ellipsis, (Ellipsis, 1),
    (slice(None), 1), np.array([0, 2]), (np.array([0, 2]), np.array([1, 1])), (slice(None), np.array([0, 3])), [2, 0],
    np.array([True, False, True]), np.eye(3, 4, dtype=bool), (), range(2),
    (range(1, 3), 0), (0, slice(1, 3)), slice(2, 1), (np.array([0, 0]), 1),
    None, (None, MASK), (MASK, slice(1, None)), True, False, (True, 1), (0, True), (np.array([0, 2]), None),
        np.zeros((0,), int),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_setitem(key: Any) -> None:
    """Against NumPy: with a scalar, a value of the full shape and one that broadcasts; gradients to both sides."""
    original = np.arange(12, dtype=F64).reshape(3, 4)
    region = original[key].shape
    values = [np.float64(-1.0), np.random.default_rng(0).standard_normal(region)]
    if region:
        values.append(np.array([-3.0]))
    for value in values:
        expected = original.copy()
        expected[key] = value

        def assign(x: tj.Tensor, v: tj.Tensor) -> tj.Tensor:
            y = x.clone()
            y[key] = v
            return y

        x, v = tj.tensor(original, requires_grad=True), tj.tensor(value, requires_grad=True)
        result = assign(x, v)
        assert same_bits(np.asarray(result.detach()), expected)
        assert same_bits(np.asarray(tj.jit(assign)(x, v).detach()), expected)
        assert same_bits(np.asarray(x.detach()), original)
        weights = np.random.default_rng(1).uniform(1, 2, (3, 4))
        to_x, to_v = grad((result * tj.tensor(weights)).sum(), [x, v], materialize_grads=True)
        kept = np.ones((3, 4))
        kept[key] = 0
        assert same_bits(np.asarray(to_x), weights * kept)
        step = 1e-6 * np.ones_like(value)
        moved = []
        for sign in (1, -1):
            other = original.copy()
            other[key] = value + sign * step
            moved.append((other * weights).sum())
        assert float(to_v.sum()) == pytest.approx((moved[0] - moved[1]) / 2e-6, abs=1e-6)


def test_what_is_assigned_may_be_a_list() -> None:
    x = tj.zeros(2, 3)
    x[0] = [1, 2.5, 3]
    x[:, 1] = (7, tj.tensor(8))
    assert x.tolist() == [[1.0, 7.0, 3.0], [0.0, 8.0, 0.0]]
    x[0, 0] = 2**70
    assert x[0, 0].item() == 2.0**70
    with pytest.raises(ValueError, match=r"shape \(2,\) cannot be broadcast to \(3,\)"):
        x[0] = [1, 2]
    with pytest.raises(OverflowError, match=f"Python integer {2**70} out of bounds for int64"):
        tj.zeros(2, dtype=int)[:] = 2**70


IN_PLACE = [
    ("+=", lambda x, y: x.__iadd__(y), np.add),
    ("-=", lambda x, y: x.__isub__(y), np.subtract),
    ("*=", lambda x, y: x.__imul__(y), np.multiply),
    ("/=", lambda x, y: x.__itruediv__(y), np.divide),
    ("add_", lambda x, y: x.add_(y), np.add),
    ("sub_", lambda x, y: x.sub_(y), np.subtract),
    ("mul_", lambda x, y: x.mul_(y), np.multiply),
    ("div_", lambda x, y: x.div_(y), np.divide),
    ("copy_", lambda x, y: x.copy_(y), lambda x, y: y),
    ("zero_", lambda x, y: x.zero_(), lambda x, y: np.zeros_like(x)),
    ("fill_", lambda x, y: x.fill_(3.0), lambda x, y: np.full_like(x, 3)),
]


@pytest.mark.parametrize(("change", "expected"), [case[1:] for case in IN_PLACE], ids=[case[0] for case in IN_PLACE])
def test_in_place(change: Any, expected: Any) -> None:
    a, b = np.array([1.0, -2.0, 3.0], F32), np.array([2.0, 4.0, 0.5], F32)

    def function(x: tj.Tensor, y: tj.Tensor) -> tj.Tensor:
        changed = change(x, y)
        assert changed is x
        return x * 1

    for run in (function, tj.jit(function)):
        x, y, before = tj.tensor(a), tj.tensor(b), None
        before = x[:]
        result = run(x, y)
        assert same_bits(np.asarray(x), expected(a, b).astype(F32))
        assert same_bits(np.asarray(result), np.asarray(x))
        assert same_bits(np.asarray(before), a), "another tensor has changed"
        assert same_bits(np.asarray(y), b)


# Errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tj.ones(2)[2], IndexError, "index 2 is out of bounds for axis 0 with size 2"),
        (lambda: tj.ones(2)[tj.tensor([2])], IndexError, "out of bounds for axis 0 with size 2"),
        (lambda: tj.ones(2)[0, 0], IndexError, r"too many indices for tensor of dimension 1: shape \(2,\), 2 indices"),
        (lambda: tj.ones(2)[..., ...], IndexError, "single ellipsis"),
        (lambda: tj.ones(2)[1.5], IndexError, "got float"),
        (lambda: tj.ones(2)[tj.tensor([1.0])], IndexError, "must be integer or boolean tensors, got float32"),
        (lambda: tj.ones(3)[np.array([True, False])], IndexError, r"shape of the mask \(2,\) at axis 0 .* \(3,\)"),
        (
            lambda: tj.ones(2, 3)[:, np.array([True, False])],
            IndexError,
            r"shape of the mask \(2,\) at axis 1 .* \(2, 3\)",
        ),
        (lambda: tj.ones(2, 3)[np.ones((2, 2), bool)], IndexError, r"shape of the mask \(2, 2\)"),
        (lambda: tj.ones(3, 3)[[0, 1], [0, 1, 2]], IndexError, r"could not be broadcast .* \(2,\) \(3,\)"),
        (lambda: tj.ones(3)["a"], IndexError, "got str"),
        (lambda: tj.take_along_axis(tj.ones(2, 2), tj.tensor([0]), 0), ValueError, "same number of dimensions"),
        (lambda: tj.put_along_axis([1.0], [0], 1, 0), TypeError, "changes a Tensor, got list"),
        (lambda: tj.scatter_add(tj.ones(2), 0, tj.tensor([2]), tj.ones(1)), IndexError, "out of bounds for axis 0"),
        (
            lambda: tj.scatter_add(tj.ones(2), 0, tj.tensor([0, 1]), tj.ones(1)),
            ValueError,
            r"smaller than .* src \(1,\)",
        ),
        (lambda: tj.scatter_add(tj.ones(2), 0, tj.tensor([[0]]), tj.ones(1)), ValueError, "as many axes"),
        (lambda: tj.scatter_add(tj.ones(2), 0, tj.ones(1), tj.ones(1)), TypeError, "index must be of integers"),
        (lambda: tj.segment_sum(tj.ones(2), tj.tensor([0]), 1), ValueError, r"each slice of shape \(2,\)"),
        (lambda: tj.topk(tj.ones(2), 3), RuntimeError, "selected index k out of range"),
        (lambda: tj.partition(tj.ones(2), 2), ValueError, r"kth\(=2\) out of bounds \(2\)"),
        (lambda: tj.sort(tj.tensor(1.0)), IndexError, "0-d tensor has no axis"),
        (lambda: tj.digitize(tj.ones(2), tj.tensor([0.0, 2.0, 1.0])), ValueError, "bins must be monotonic"),
        (lambda: tj.digitize(tj.ones(2), tj.ones(2, 2)), ValueError, "bins must be a vector"),
        (lambda: tj.searchsorted(tj.ones(2), tj.ones(1), side="up"), ValueError, "'left' or 'right', got 'up'"),
        (lambda: tj.nonzero(tj.tensor(1)), ValueError, "0-d tensor has no positions"),
        (lambda: tj.unravel_index(tj.tensor(6), (2, 3)), IndexError, "out of bounds for axis 0 with size 6"),
        (lambda: tj.lexsort(()), TypeError, "len > 0"),
        (lambda: tj.bincount(tj.tensor([-1])), ValueError, "must not be negative"),
        (lambda: tj.bincount(tj.ones(2)), TypeError, r"vector of integers, got float32\[2\]"),
        (lambda: tj.bincount(tj.tensor([1]), tj.ones(2)), ValueError, r"don't have the same shape: \(2,\) for \(1,\)"),
        (lambda: tj.histogram(tj.ones(2), 0), ValueError, "must be positive"),
        (lambda: tj.histogram(tj.tensor([np.nan])), ValueError, r"autodetected range of \[nan, nan\] is not finite"),
        (lambda: tj.clip(tj.ones(2, dtype=tj.uint8), -1), OverflowError, "clip: Python integer -1 out of bounds"),
        (lambda: tj.histogram(tj.ones(2), [1.0, 0.0]), ValueError, "increase monotonically"),
        (lambda: tj.histogram(tj.ones(2), 2, range=(1, 0)), ValueError, "max must be larger than min"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "test_indexing.py" in str(caught.value), "the user's line is named"


def test_nan_counts_once_or_each_time() -> None:
    x = tj.tensor([np.nan, 1.0, np.nan])
    assert tj.unique(x).size == 2
    assert tj.unique(x, equal_nan=False).size == 3
    assert tj.unique_values(x).size == 3


def test_nan_is_the_largest() -> None:
    x = tj.tensor([1.0, np.nan, 2.0])
    assert tj.topk(x, 2).indices.tolist() == [1, 2]
    assert tj.sort(x).tolist()[:2] == [1.0, 2.0]


def test_elements_put_along_an_axis_are_put_in_place() -> None:
    x = tj.zeros(2, 3)
    same = x
    assert tj.put_along_axis(x, tj.tensor([[2], [0]]), 7.0, axis=1) is None
    assert same.tolist() == [[0, 0, 7], [7, 0, 0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bounds", [(64, -4.0, 4.0), (1000, -1e-3, 1e-3), (100, 1e8, 1e8 + 16), (3, 2.0, 2.0)], ids=str)
def test_histograms_count_by_the_bounds(dtype: Any, bounds: tuple[int, float, float]) -> None:
    """Also where places are calculated: next to a bound, on it, and where float32 has fewer numbers than bounds."""
    count, *ends = bounds
    _, edges = tj.histogram(tj.zeros(0, dtype=dtype), count, tuple(ends))
    known = np.asarray(edges)
    near = [known, np.nextafter(known, dtype(np.inf)), np.nextafter(known, dtype(-np.inf))]
    others = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 3e38], dtype)
    x = np.concatenate([*near, others, np.random.default_rng(0).uniform(*ends, 999).astype(dtype)])
    inside = x[(x >= known[0]) & (x <= known[-1])]
    places = np.minimum(np.searchsorted(known, inside, side="right") - 1, count - 1)
    counts, _ = tj.histogram(tj.asarray(x), count, tuple(ends))
    np.testing.assert_array_equal(counts.numpy(), np.bincount(places, minlength=count))


@pytest.mark.parametrize("descending", [False, True])
def test_sorting_leaves_equal_elements_in_their_order(descending: bool) -> None:
    """Zeros of either sign are equal, and so are NaNs for this."""
    rng = np.random.default_rng(0)
    for shape, axis in (((500,), 0), ((7, 60), 0), ((7, 60), 1)):
        for values in ([0.0, -0.0, 1.0, -1.0], [np.nan, -np.nan, 0.0, np.inf], [1.0, 2.0, 3.0]):
            x = rng.choice(np.array(values, np.float32), shape)
            order = tj.argsort(tj.asarray(x), axis, descending).numpy()
            found = tj.sort(tj.asarray(x), axis, descending).numpy()
            assert found.tobytes() == np.take_along_axis(x, order, axis).tobytes()
