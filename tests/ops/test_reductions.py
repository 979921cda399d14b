"""Reductions, statistics, quantiles, and running sums and extremes."""

import warnings
from typing import Any

import numpy as np
import pytest

import tracejit as tj

from . import references as by
from .table import BOOL, COMPLEX, F32, F64, FLOATS, I64, INTEGERS, U8, Row, checks_of, row

pytestmark = pytest.mark.usefixtures("first_code_only")

ALL = (*FLOATS, *INTEGERS, BOOL)
POSITION = {"dtypes": ALL, "result": I64, "gradient": False}
PREDICATE = {"dtypes": (*FLOATS, I64, BOOL), "result": BOOL, "gradient": False}
WAYS: tuple[tuple[dict[str, Any], tuple[tuple[int, ...], ...]], ...] = (
    ({}, ((3, 4), (5,), (2, 3, 4), (1, 1), ())),
    ({"axis": 0}, ((3, 4), (5,), (7, 1))),
    ({"axis": -1, "keepdims": True}, ((3, 4), (2, 3, 40))),
    ({"axis": (0, 2)}, ((3, 4, 5),)),
)


def with_nans(x: np.ndarray) -> np.ndarray:
    """Some elements NaN, but not the first and last along any axis."""
    if x.ndim == 0 or x.dtype.kind != "f":
        return x
    holes = np.arange(x.size).reshape(x.shape) % 5 == 2
    return np.where(holes & (x.ravel()[0] != x), np.nan, x)


def reduced(name: str, like: Any = None, **options: Any) -> list[Row]:
    """A reduction of everything, along one axis, along several."""
    return [row(name, *shapes, like=like, **how, **options) for how, shapes in WAYS]


def without_nans(name: str, like: Any = None, **options: Any) -> list[Row]:
    """A function that skips NaN: compared where there are some; differentiated where there is none."""
    theirs = like or getattr(np, name)
    ways = [({}, ((3, 4), (5,))), ({"axis": 1}, ((3, 5), (4, 7)))]
    return [
        one
        for how, shapes in ways
        for one in (
            row(name, *shapes, like=theirs, prepare=with_nans, **{**how, **options, "gradient": False}),
            row(name, *shapes, like=theirs, **how, **options),
        )
    ]


ROWS = [
    *reduced("sum", dtypes=ALL, result="sum", ulps=8, low=0.1),
    row("sum", (0,), (3, 0), dtypes=FLOATS, detail="of nothing"),
    row("sum", (3, 0), (0, 3), axis=1, dtypes=FLOATS, detail="over nothing"),
    row("sum", (3, 4), dtype=F64, result=F64, ulps=8),
    row("sum", (3, 4), axis=(), result="sum", detail="over no axis"),
    *reduced("prod", dtypes=(*FLOATS, I64), result="sum", ulps=8, low=0.5),
    row("prod", (0,), (3, 0), dtypes=FLOATS, detail="of nothing"),
    row("prod", (3, 4), prepare=lambda x: np.where(np.arange(4) == 1, 0, x), ulps=8, detail="of zeros"),
    *reduced("mean", ulps=8, low=0.1),
    *reduced("var", ulps=16),
    row("var", (3, 4), (5,), correction=1, ulps=16),
    *[row("std", *(s for s in shapes if np.prod(s) > 1), **how, ulps=16) for how, shapes in WAYS],
    row("std", (3, 4), axis=1, correction=1, ulps=16),
    *reduced("logsumexp", by.logsumexp, ulps=16),
    *reduced("max", dtypes=ALL),
    *reduced("min", dtypes=ALL),
    row("max", (3, 4), axis=(), detail="over no axis"),
    *reduced("all", **PREDICATE),
    *reduced("any", **PREDICATE),
    row("all", (0,), (2, 0), **PREDICATE, detail="of nothing"),
    row("any", (3, 4), axis=(), **PREDICATE, detail="over no axis"),
    *[
        row(name, *shapes, **how, **POSITION)
        for name in ("argmax", "argmin")
        for how, shapes in (
            ({}, ((3, 4), (5,), (1,), ())),
            ({"axis": 0}, ((3, 4), (40,))),
            ({"axis": -1, "keepdims": True}, ((2, 3, 4),)),
            ({"keepdims": True}, ((3, 4),)),
        )
    ],
    *reduced("count_nonzero", dtypes=(F32, I64, BOOL), result=I64, gradient=False),
    *reduced("ptp", dtypes=(*FLOATS, I64)),
    # Without NaN
    *without_nans("nansum", ulps=8, slack=1.0),
    *without_nans("nanprod", ulps=8),
    *without_nans("nanmean", ulps=16, slack=1.0),
    *without_nans("nanvar", ulps=16),
    *without_nans("nanstd", ulps=16),
    *without_nans("nanmax"),
    *without_nans("nanmin"),
    *without_nans("nanmedian", ulps=4),
    *without_nans("nanargmax", **POSITION | {"dtypes": (*FLOATS, I64)}),
    *without_nans("nanargmin", **POSITION | {"dtypes": (*FLOATS, I64)}),
    row("nanargmax", (7,), prepare=lambda x: np.array([np.nan, -np.inf, np.nan, -np.inf, np.nan, np.nan, np.nan]),
        like=lambda x: np.array(1), dtypes=FLOATS, result=I64, gradient=False, detail="of the worst"),
    row("nanquantile", (3, 7), (20,), args=(0.3,), prepare=with_nans, gradient=False, ulps=16, slack=1.0),
    row("nanquantile", (3, 7), args=([[0.0, 0.5], [0.9, 1.0]],), axis=1, keepdims=True, prepare=with_nans,
        gradient=False, ulps=16, slack=1.0),
    row("nanquantile", (7,), args=(0.3,), ulps=16, slack=1.0, detail="without NaN"),
    row("nanpercentile", (3, 7), args=([20, 70],), axis=0, prepare=with_nans, gradient=False, ulps=16, slack=1.0),
    row("nancumsum", (3, 5), (5,), axis=0, prepare=with_nans, gradient=False, ulps=8, slack=1.0),
    row("nancumprod", (3, 5), prepare=with_nans, gradient=False, ulps=16),
    # Quantiles
    row("median", (3, 4), (5,), (1,), (2, 3, 4), ulps=4, slack=1.0),
    row("median", (3, 4), (2, 5), axis=0, keepdims=True, ulps=4, slack=1.0),
    row("quantile", (7, 2), (1,), (), args=(0.3,), ulps=8, slack=1.0),
    row("quantile", (7, 2), (2, 3, 4), args=([0.0, 0.25, 1.0],), axis=-1, ulps=8, slack=1.0),
    row("quantile", (7, 2), args=([[0.1], [0.6]],), axis=(0, 1), keepdims=True, ulps=8, slack=1.0),
    *[
        row("quantile", (7, 3), args=([0.0, 0.37, 0.5, 0.93],), axis=0, method=method, ulps=16, slack=1.0)
        for method in ("lower", "higher", "nearest", "midpoint", "weibull", "hazen", "median_unbiased",
                       "normal_unbiased", "interpolated_inverted_cdf")
    ],
    row("quantile", ((9,), (2, 3)), call=lambda x, q: tj.quantile(x, q), like=np.quantile, low=0.05, high=0.95, ulps=16,
        slack=1.0, detail="at a tensor"),
    row("percentile", (7, 2), args=(30,), axis=0, ulps=8, slack=1.0),
    row("percentile", (7, 2), args=([30, 65.5],), ulps=8, slack=1.0),
    # Weighted, and related to each other
    row("average", (3, 4), (5,), (), ulps=8, low=0.1),
    row("average", ((3, 4), (3, 4)), call=lambda x, w: tj.average(x, 1, w), like=lambda x, w: np.average(x, 1, w),
        ulps=16, low=0.1, detail="weighted"),
    row("average", ((3, 4), (4,)), call=lambda x, w: tj.average(x, axis=1, weights=w, returned=True)[1],
        like=lambda x, w: np.average(x, axis=1, weights=w, returned=True)[1], ulps=16, low=0.1,
        detail="and the weights"),
    row("average", ((3, 4), (4,)), call=lambda x, w: tj.average(x, axis=1, weights=w, keepdims=True),
        like=lambda x, w: np.average(x, axis=1, weights=w, keepdims=True), ulps=16, low=0.1,
        detail="weights of an axis"),
    row("cov", (3, 5), (4,), ulps=64, slack=1.0),
    row("cov", (5, 3), rowvar=False, bias=True, ulps=64, slack=1.0),
    row("cov", ((2, 5), (5,)), ddof=0, ulps=64, slack=1.0),
    row("corrcoef", (3, 5), ulps=64, slack=1.0),
    row("corrcoef", (5, 3), rowvar=False, ulps=64, slack=1.0),
    row("corrcoef", ((5,), (5,)), ulps=64, slack=1.0),
    # Complex numbers
    *[
        row(name, (3, 4), (5,), axis=0, dtypes=COMPLEX, ulps=64, slack=1.0, detail="complex")
        for name in ("sum", "prod", "mean", "cumsum", "cumprod")
    ],
    *[row(name, (3, 4), (5,), dtypes=COMPLEX, result="real", ulps=64, slack=1.0, detail="complex") for name in ("var",
        "std")],
    row("cov", (3, 5), dtypes=COMPLEX, ulps=64, slack=1.0, detail="complex"),
    # Running
    *[
        row(name, *shapes, **how, dtypes=(*FLOATS, I64), low=0.1, ulps=16, result="sum")
        for name in ("cumsum", "cumprod")
        for how, shapes in (({}, ((7,), (1,), (3, 4), ())), ({"axis": 0}, ((5, 3), (0, 3))), ({"axis": -1}, ((2, 3,
            4),)))
    ],
    row("cumsum", (3, 4), axis=1, dtypes=(BOOL, U8), result="sum", gradient=False),
    row("cumulative_sum", (7,), (1,), (0,), dtypes=(*FLOATS, I64), low=0.1, ulps=8),
    row("cumulative_sum", (5, 3), axis=0, include_initial=True, low=0.1, ulps=8),
    row("cumulative_prod", (7,), (1,), (0,), ulps=8, low=0.5),
    row("cumulative_prod", (2, 5), axis=1, include_initial=True, ulps=8, low=0.5),
    *[
        row("logcumsumexp", (7,), (3, 4), (0, 3), (70, 33), like=lambda x, axis: np.logaddexp.accumulate(x, axis),
            args=(axis,), ulps=64)
        for axis in (0, -1)
    ],
    *[
        row(name, (7,), (3, 4), (0, 3), like=like, args=(axis,), pick=lambda r: getattr(r, "values", r),
            dtypes=(*FLOATS, I64))
        for name, like in (("cummax", np.maximum.accumulate), ("cummin", np.minimum.accumulate))
        for axis in (0, -1)
    ],
    row("cummax", (9,), call=lambda x: tj.cummax(x, 0).indices, like=lambda x: _last_best(x, np.maximum), result=I64,
        gradient=False, prepare=np.rint, detail="positions"),
    row("cummin", (9,), call=lambda x: tj.cummin(x, 0).indices, like=lambda x: _last_best(x, np.minimum), result=I64,
        gradient=False, prepare=np.rint, detail="positions"),
]  # fmt: skip


def _last_best(x: np.ndarray, better: Any) -> np.ndarray:
    best = better.accumulate(x)
    return np.array([max(j for j in range(i + 1) if x[j] == best[i]) for i in range(len(x))])


test_value, test_special_values, test_gradient, test_gradient_of_a_jitted_function = checks_of(ROWS)


def test_nan_wherever_nothing_else_is() -> None:
    x = np.array([[np.nan, np.nan], [1.0, np.nan]], F32)
    names = ("nanmean", "nanvar", "nanmax", "nanmin", "nanmedian", "nansum", "nanprod")
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = getattr(np, name)(x, axis=1)
        np.testing.assert_array_equal(np.asarray(getattr(tj, name)(tj.tensor(x), axis=1)), expected, err_msg=name)


def test_running_extremes_carry_nan() -> None:
    values, indices = tj.cummax(tj.tensor([1.0, np.nan, 3.0, np.nan]), 0)
    np.testing.assert_array_equal(np.asarray(values), [1.0, np.nan, np.nan, np.nan])
    assert indices.tolist() == [0, 1, 1, 3]


@pytest.mark.parametrize("dtype", [np.dtype("float16"), tj.bfloat16], ids=str)
def test_means_of_more_numbers_than_half_precision_counts(dtype: np.dtype) -> None:
    x = tj.ones(70_000, dtype=dtype)
    for function, expected in ((tj.mean, 1.0), (tj.nanmean, 1.0), (tj.var, 0.0), (tj.nanvar, 0.0), (tj.std, 0.0)):
        result = function(x)
        assert (result.dtype, result.item()) == (dtype, expected), function.__name__
    w = tj.ones(4, dtype=dtype, requires_grad=True)
    tj.jit(lambda: tj.mean(w).backward())()
    assert (w.grad.dtype, w.grad.tolist()) == (dtype, [0.25] * 4)


def test_an_axis_may_be_a_numpy_integer() -> None:
    x = tj.ones(2, 3)
    assert tj.sum(x, axis=np.int64(1)).tolist() == [3.0, 3.0]
    assert tj.sum(x, axis=(np.int8(0), 1)).item() == 6.0
    assert tj.argmax(x, axis=np.int64(-1)).tolist() == [0, 0]
    assert tj.sum(x, axis=tj.tensor(0)).tolist() == [2.0, 2.0, 2.0]


def test_quantiles_of_infinities() -> None:
    x = tj.tensor([-np.inf, np.inf, np.inf, np.inf])
    assert tj.quantile(x, tj.tensor([0.0, 0.5, 1.0])).tolist() == [-np.inf, np.inf, np.inf]
    assert np.isnan(tj.median(tj.tensor([1.0, np.nan])).item())


def test_the_median_of_nothing_is_nan() -> None:
    for function in (tj.median, tj.nanmedian):
        assert np.isnan(function(tj.ones(0)).item())
        assert np.isnan(np.asarray(function(tj.ones(0, 3), axis=0))).tolist() == [True] * 3
        assert function(tj.ones(0, 3), axis=1, keepdims=True).shape == (0, 1)
    assert tj.logsumexp(tj.ones(0)).item() == -np.inf
    assert tj.logsumexp(tj.ones(0, 2), axis=0).tolist() == [-np.inf] * 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tj.quantile(tj.ones(5), 2), ValueError, "quantile: q must lie between 0 and 1, got 2"),
        (lambda: tj.quantile(tj.ones(5), tj.tensor([0.5, 1.5])), ValueError, "q must lie between 0 and 1"),
        (lambda: tj.quantile(tj.ones(0), 0.5), ValueError, r"no elements along axes \(0,\) of \(0,\)"),
        (lambda: tj.percentile(tj.ones(5), 150), ValueError, "percentile: q must lie between 0 and 100, got 150"),
        (lambda: tj.sum(tj.ones(2, 2), axis=True), TypeError, "sum: an axis must be an integer, got bool True"),
        (lambda: tj.max(tj.ones(2, 2), axis="0"), TypeError, "max: an axis must be an integer, got str '0'"),
        (lambda: tj.std(tj.ones(2, dtype=int)), TypeError, r"std\(\): could not infer output dtype.* Got: int64"),
        (
            lambda: tj.quantile(tj.ones(3), 0.5, method="best"),
            ValueError,
            "method must be one of .*'hazen'.*, got 'best'",
        ),
        (lambda: tj.nanargmax(tj.tensor([np.nan])), ValueError, "nanargmax: All-NaN slice encountered"),
        (lambda: tj.average(tj.ones(2), weights=tj.zeros(2)), ZeroDivisionError, "weights sum to zero"),
        (lambda: tj.average(tj.ones(2), weights=tj.zeros(3)), ValueError, r"weights' shape .*\(3,\) for \(2,\)"),
        (lambda: tj.cov(tj.ones(2, 2, 2)), ValueError, r"cov: needs two axes or fewer, got shape \(2, 2, 2\)"),
        (lambda: tj.cumulative_sum(tj.ones(2, 2)), ValueError, "axis is needed"),
        (lambda: tj.cummax(tj.ones(2), 1), IndexError, "axis 1 is out of bounds"),
        (lambda: tj.max(tj.ones(0)), ValueError, "zero-size array"),
        (lambda: tj.max(tj.ones(0, dtype=tj.float16)), ValueError, "zero-size array"),
        (lambda: tj.sum(tj.ones(2), axis=1), IndexError, "sum: axis 1 is out of bounds for a tensor of dimension 1"),
        (lambda: tj.sum(tj.ones(2, 2), axis=(0, 0)), ValueError, "an axis appears twice"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "test_reductions.py" in str(caught.value), "the user's line is named"
