"""The functions of the namespace in one table: values against NumPy, types, ``jit`` to the bit, gradients."""

import math
import re
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import tracejit as tj
from tests.ir.random_graphs import same_bits

pytestmark = pytest.mark.usefixtures("first_code_only")

grad: Any = tj.autograd.grad  # a gradient may be None, here it is not
F32, F64, I32, I64, U8, BOOL = (np.dtype(name) for name in "float32 float64 int32 int64 uint8 bool".split())
FLOATS, INTEGERS = (F32, F64), (I32, I64, U8)
Shapes = tuple[tuple[int, ...], ...]

ONE: tuple[Shapes, ...] = (((3, 4),), ((),), ((0,),), ((1,),), ((2, 0, 3),), ((2, 17, 3),))
TWO: tuple[Shapes, ...] = (
    ((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), ()), ((), (5,)), ((2, 1, 3), (4, 1)), ((0, 3), (3,)),
    ((1,), (0,)),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One way of calling a function.

    ``result``: the result's dtype, or "same", "float" (float32 for integers) or "sum" (64 bits for integers).
    ``ulps``: how far from NumPy in float64; 0 for NumPy's very bits.  ``low`` and ``high`` bound the operands.
    """

    name: str
    call: Callable[..., Any]
    numpy: Callable[..., Any]
    shapes: tuple[Shapes, ...]
    dtypes: tuple[np.dtype, ...] = FLOATS
    result: Any = "same"
    ulps: int = 0
    low: float = -2.0
    high: float = 2.0
    gradient: bool = True
    specials: bool = False  # also on infinities, NaN and the like
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.detail}".strip()

    def operands(self, shapes: Shapes, dtype: np.dtype, seed: int = 0) -> list[np.ndarray]:
        generator = np.random.default_rng([seed, len(shapes)])
        return [self.numbers(generator.uniform(self.low, self.high, shape), dtype) for shape in shapes]

    def numbers(self, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
        if dtype == BOOL:
            return np.asarray(array > (self.low + self.high) / 2)
        return np.asarray(
            array if dtype.kind == "f" else np.rint(array * 3).clip(0 if dtype.kind == "u" else -9, 9), dtype
        )

    def dtype_of(self, dtype: np.dtype) -> np.dtype:
        if not isinstance(self.result, str):
            return np.dtype(self.result)
        if self.result == "same" or dtype.kind == "f":
            return dtype
        return F32 if self.result == "float" else np.dtype(np.uint64) if dtype.kind == "u" else I64


def unary(name: str, numpy: Callable[..., Any], **options: Any) -> Row:
    return Row(name, getattr(tj, name), numpy, ONE, **{"specials": True, **options})


def binary(name: str, numpy: Callable[..., Any], **options: Any) -> Row:
    return Row(name, getattr(tj, name), numpy, TWO, **{"specials": True, **options})


def row(name: str, call: Callable[..., Any], numpy: Callable[..., Any], *shapes: Any, **options: Any) -> Row:
    """``shapes``: one a way to call it, for functions of one tensor; tuples of shapes for others."""
    options.setdefault("dtypes", (*FLOATS, I64, BOOL) if options.get("ulps", 0) == 0 else FLOATS)
    ways = tuple(way if way and isinstance(way[0], tuple) else (way,) for way in shapes)
    return Row(name, call, numpy, ways, **options)


def erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[float])(x)


def erfinv(x: np.ndarray) -> np.ndarray:
    """Newton's steps from an approximation that is good to four digits."""
    y = np.array(
        [0 if abs(v) > 1 else NormalDist().inv_cdf((v + 1) / 2) / 2**0.5 if abs(v) < 1 else 0 for v in x.ravel()]
    )
    y = np.where(np.abs(x.ravel()) < 1e-8, x.ravel() * math.pi**0.5 / 2, y)
    for _ in range(3):
        y -= np.where(np.abs(y) < 1e-8, 0, (erf(y) - x.ravel()) * math.pi**0.5 / 2 * np.exp(y * y))
    y = np.where(np.abs(x.ravel()) == 1, np.copysign(np.inf, x.ravel()), np.where(np.abs(x.ravel()) < 1, y, np.nan))
    return np.where(x == 0, x, y.reshape(x.shape))


def logsumexp(x: np.ndarray, **how: Any) -> np.ndarray:
    return np.log(np.sum(np.exp(x), **how))


def quietly(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(function(*arrays))


FUNCTION = {"dtypes": (*FLOATS, I32, BOOL), "result": "float", "ulps": 4}
ARITHMETIC = {"dtypes": (*FLOATS, *INTEGERS)}
COMPARISON = {"dtypes": (*FLOATS, *INTEGERS, BOOL), "result": BOOL, "gradient": False}
LOGIC = {"dtypes": (*FLOATS, *INTEGERS, BOOL), "result": BOOL, "gradient": False}
BITWISE = {"dtypes": (*INTEGERS, BOOL), "gradient": False}
STEP = {"dtypes": (*FLOATS, *INTEGERS)}

ELEMENTWISE = [
    binary("add", np.add, **ARITHMETIC),
    binary("subtract", np.subtract, **ARITHMETIC),
    binary("multiply", np.multiply, **ARITHMETIC),
    binary("divide", np.divide, dtypes=(*FLOATS, I32, I64), result="float"),
    binary("pow", np.power, **FUNCTION | {"low": 0.2, "high": 3, "dtypes": FLOATS}),
    binary("atan2", np.arctan2, **FUNCTION | {"dtypes": FLOATS}),
    binary("hypot", np.hypot, **FUNCTION | {"dtypes": FLOATS}),
    binary("logaddexp", np.logaddexp, **FUNCTION | {"dtypes": FLOATS, "ulps": 16}),
    binary("copysign", np.copysign),
    binary("nextafter", np.nextafter, gradient=False),
    binary("floor_divide", np.floor_divide, dtypes=(*FLOATS, I32, I64, U8), specials=False),  # NumPy: 1.0 // -inf == -1
    binary("remainder", np.remainder, dtypes=(*FLOATS, I32, I64, U8)),
    binary("maximum", np.maximum, dtypes=(*FLOATS, *INTEGERS, BOOL)),
    binary("minimum", np.minimum, dtypes=(*FLOATS, *INTEGERS, BOOL)),
    unary("negative", np.negative, **ARITHMETIC),
    unary("positive", np.positive, **ARITHMETIC),
    unary("abs", np.abs, **ARITHMETIC),
    unary("sign", np.sign, **ARITHMETIC),
    unary("square", np.square, **ARITHMETIC),
    unary("reciprocal", np.reciprocal, low=0.3, high=3),
    unary("exp", np.exp, **FUNCTION),
    unary("exp2", np.exp2, **FUNCTION),
    unary("expm1", np.expm1, **FUNCTION),
    unary("log", np.log, **FUNCTION | {"low": 0.1, "high": 4}),
    unary("log2", np.log2, **FUNCTION | {"low": 0.1, "high": 4}),
    unary("log10", np.log10, **FUNCTION | {"low": 0.1, "high": 4}),
    unary("log1p", np.log1p, **FUNCTION | {"low": -0.9, "high": 4}),
    unary("sqrt", np.sqrt, low=0.1, high=4, **FUNCTION | {"ulps": 1}),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), low=0.1, high=4, **FUNCTION),
    unary("sin", np.sin, **FUNCTION),
    unary("cos", np.cos, **FUNCTION),
    unary("tan", np.tan, low=-1.2, high=1.2, **FUNCTION),
    unary("tanh", np.tanh, **FUNCTION),
    unary("sinh", np.sinh, **FUNCTION),
    unary("cosh", np.cosh, **FUNCTION),
    unary("asin", np.arcsin, low=-0.9, high=0.9, **FUNCTION),
    unary("acos", np.arccos, low=-0.9, high=0.9, **FUNCTION),
    unary("atan", np.arctan, **FUNCTION),
    unary("asinh", np.arcsinh, **FUNCTION),
    unary("acosh", np.arccosh, low=1.1, high=4, **FUNCTION),
    unary("atanh", np.arctanh, low=-0.9, high=0.9, **FUNCTION),
    unary("sigmoid", lambda x: 1 / (1 + np.exp(-x)), **FUNCTION),
    unary("erf", erf, **FUNCTION),
    unary("erfinv", erfinv, low=-0.9, high=0.9, dtypes=FLOATS, ulps=64),
    unary("relu", lambda x: np.where(x <= 0, x.dtype.type(0), x), **ARITHMETIC),
    unary("floor", np.floor, **STEP),
    unary("ceil", np.ceil, **STEP),
    unary("round", np.rint, **STEP),
    unary("trunc", np.trunc, **STEP),
    unary("signbit", np.signbit, result=BOOL, gradient=False),
    unary("conj", np.conj, **ARITHMETIC),
    unary("real", np.real, **ARITHMETIC),
    unary("isnan", np.isnan, **COMPARISON),
    unary("isinf", np.isinf, **COMPARISON),
    unary("isfinite", np.isfinite, **COMPARISON),
    binary("equal", np.equal, **COMPARISON),
    binary("not_equal", np.not_equal, **COMPARISON),
    binary("less", np.less, **COMPARISON),
    binary("less_equal", np.less_equal, **COMPARISON),
    binary("greater", np.greater, **COMPARISON),
    binary("greater_equal", np.greater_equal, **COMPARISON),
    binary("logical_and", np.logical_and, **LOGIC),
    binary("logical_or", np.logical_or, **LOGIC),
    binary("logical_xor", np.logical_xor, **LOGIC),
    unary("logical_not", np.logical_not, **LOGIC),
    binary("bitwise_and", np.bitwise_and, **BITWISE),
    binary("bitwise_or", np.bitwise_or, **BITWISE),
    binary("bitwise_xor", np.bitwise_xor, **BITWISE),
    unary("bitwise_invert", np.invert, **BITWISE),
    binary("bitwise_left_shift", np.left_shift, dtypes=INTEGERS, low=0, gradient=False),
    binary("bitwise_right_shift", np.right_shift, dtypes=INTEGERS, low=0, gradient=False),
]

A, MASK = np.array([[0, 2], [1, 1]]), np.array([True, False, True])

OTHERS = [
    *[
        row("pow", lambda x, n=n: tj.pow(x, n), lambda x, n=n: x**n, (3, 4), (), ulps=4, low=0.3, detail=f"to the {n}")
        for n in (1, 2, 3, 4, 5, -1, -2, 0.5, 2.5)
    ],
    row("pow", lambda x: tj.pow(2, x), lambda x: 2**x, (3, 4), ulps=4, detail="of 2"),
    row("clip", lambda x: tj.clip(x, -0.5, 0.7), lambda x: np.clip(x, -0.5, 0.7), (3, 4), (), dtypes=FLOATS),
    row(
        "clip",
        lambda x: tj.clip(x, max=1),
        lambda x: np.minimum(x, 1),
        (3, 4),
        (0,),
        dtypes=(*FLOATS, I64),
        detail="max",
    ),
    row("clip", tj.clip, np.clip, ((3, 4), (4,), (3, 1)), dtypes=FLOATS, detail="tensors"),
    row(
        "where",
        lambda x, y: tj.where(x < y, x, y * 2),
        lambda x, y: np.where(x < y, x, y * 2),
        *TWO,
        dtypes=(*FLOATS, I64),
    ),
    row(
        "where",
        lambda x: tj.where(x > 0, x, 0),
        lambda x: np.where(x > 0, x, x.dtype.type(0)),
        (3, 4),
        (),
        dtypes=(*FLOATS, I64),
    ),
    row("astype", lambda x: tj.astype(x, F64), lambda x: x.astype(F64), *[s[0] for s in ONE], result=F64),
    row(
        "astype",
        lambda x: tj.astype(x, "int32"),
        lambda x: x.astype(I32),
        (3, 4),
        result=I32,
        gradient=False,
        detail="int",
    ),
    row(
        "astype", lambda x: tj.astype(x, tj.bool), lambda x: x != 0, (3, 4), result=BOOL, gradient=False, detail="bool"
    ),
    # Reductions.
    *[
        row(
            name,
            partial(getattr(tj, name), **how),
            partial(reference, **how),
            *shapes,
            detail=str(how or ""),
            **options,
        )
        for name, reference, options in (
            ("sum", np.sum, {"dtypes": (*FLOATS, *INTEGERS, BOOL), "result": "sum", "ulps": 8, "low": 0.1}),
            ("mean", np.mean, {"ulps": 8, "low": 0.1}),
            ("var", np.var, {"ulps": 16}),
            ("std", np.std, {"ulps": 16}),
            ("logsumexp", logsumexp, {"ulps": 16}),
            ("max", np.max, {"dtypes": (*FLOATS, *INTEGERS, BOOL)}),
            ("min", np.min, {"dtypes": (*FLOATS, *INTEGERS, BOOL)}),
            ("all", np.all, {"dtypes": (*FLOATS, I64, BOOL), "result": BOOL, "gradient": False}),
            ("any", np.any, {"dtypes": (*FLOATS, I64, BOOL), "result": BOOL, "gradient": False}),
        )
        for how, shapes in (
            ({}, ((3, 4), (5,), (2, 3, 4)) if name == "std" else ((3, 4), (5,), (2, 3, 4), (1, 1), ())),
            ({"axis": 0}, ((3, 4), (5,), (7, 1))),
            ({"axis": -1, "keepdims": True}, ((3, 4), (2, 3, 40))),
            ({"axis": (0, 2)}, ((3, 4, 5),)),
            ({"axis": ()}, ((3, 4),)) if name in ("sum", "max", "any") else ({"axis": 1}, ((3, 4, 5),)),
        )
    ],
    row("sum", tj.sum, np.sum, (0,), (3, 0), dtypes=FLOATS, detail="of nothing"),
    row("sum", lambda x: tj.sum(x, axis=1), lambda x: x.sum(1), (3, 0), (0, 3), dtypes=FLOATS, detail="over nothing"),
    row("sum", lambda x: tj.sum(x, dtype=F64), lambda x: x.sum(dtype=F64), (3, 4), result=F64, ulps=8, detail="dtype"),
    row("var", lambda x: tj.var(x, correction=1), lambda x: x.var(ddof=1), (3, 4), ulps=16, detail="correction"),
    row("std", lambda x: tj.std(x, 1, 1), lambda x: x.std(1, ddof=1), (3, 4), ulps=16, detail="correction"),
    *[
        row(
            name,
            partial(getattr(tj, name), **how),
            partial(getattr(np, name), **how),
            *shapes,
            dtypes=(*FLOATS, *INTEGERS, BOOL),
            result=I64,
            gradient=False,
            detail=str(how or ""),
        )
        for name in ("argmax", "argmin")
        for how, shapes in (
            ({}, ((3, 4), (5,), (1,))),
            ({"axis": 0}, ((3, 4), (40,))),
            ({"axis": -1, "keepdims": True}, ((2, 3, 4),)),
            ({"keepdims": True}, ((3, 4),)),
        )
    ],
    *[
        row(
            name,
            partial(getattr(tj, name), **how),
            partial(reference, **how),
            *shapes,
            detail=str(how or ""),
            **options,
        )
        for name, reference, options in (
            ("prod", np.prod, {"dtypes": (*FLOATS, I64), "ulps": 8, "low": 0.5}),
            ("median", np.median, {"ulps": 4}),
            ("count_nonzero", np.count_nonzero, {"dtypes": (F32, I64, BOOL), "result": I64, "gradient": False}),
        )
        for how, shapes in (({}, ((3, 4), (5,))), ({"axis": 0}, ((3, 4),)), ({"axis": 1, "keepdims": True}, ((2, 5),)))
    ],
    row("quantile", lambda x: tj.quantile(x, 0.3, axis=0), lambda x: np.quantile(x, 0.3, axis=0), (7, 2), ulps=8),
    row("norm", tj.norm, np.linalg.norm, (3, 4), (5,), ulps=8),
    row("norm", lambda x: tj.norm(x, 3, 0), lambda x: np.linalg.norm(x, 3, 0), (3, 4), ulps=16, low=0.1, detail="3"),
    row("cumulative_sum", tj.cumulative_sum, np.cumsum, (7,), (1,), dtypes=(*FLOATS, I64), low=0.1, ulps=8),
    row(
        "cumulative_sum",
        lambda x: tj.cumulative_sum(x, axis=0),
        lambda x: x.cumsum(0),
        (5, 3),
        low=0.1,
        ulps=8,
        detail="axis",
    ),
    row("cumulative_prod", tj.cumulative_prod, np.cumprod, (7,), (1,), ulps=8, low=0.5),
    row("diff", tj.diff, np.diff, (3, 5), (4,), dtypes=(*FLOATS, I64)),
    row("trace", tj.trace, np.trace, (3, 4), (2, 2), dtypes=(*FLOATS, I64), ulps=8, low=0.1),
    # Sorting and sets.
    row("sort", tj.sort, np.sort, (3, 40), (5,), (0,), dtypes=(*FLOATS, I64, BOOL)),
    row(
        "sort",
        lambda x: tj.sort(x, axis=0, descending=True),
        lambda x: -np.sort(-x, axis=0),
        (7, 3),
        dtypes=(*FLOATS, I64),
        detail="down",
    ),
    row(
        "argsort",
        tj.argsort,
        lambda x: np.argsort(x, stable=True),
        (3, 9),
        (5,),
        dtypes=(*FLOATS, I64),
        result=I64,
        gradient=False,
    ),
    row(
        "searchsorted",
        lambda x: tj.searchsorted(tj.tensor([-1.0, 0.0, 1.0]).astype(x.dtype), x),
        lambda x: np.searchsorted([-1.0, 0.0, 1.0], x),
        (9,),
        dtypes=FLOATS,
        result=I64,
        gradient=False,
    ),
    row(
        "isin",
        lambda x: tj.isin(x, tj.tensor([1, 2, -3])),
        lambda x: np.isin(x, [1, 2, -3]),
        (20,),
        dtypes=(I64,),
        result=BOOL,
        gradient=False,
    ),
    row("unique_values", tj.unique_values, np.unique, (20,), (3, 4), dtypes=(F32, I64), gradient=False),
    row(
        "unique_counts",
        lambda x: tj.unique_counts(x).counts,
        lambda x: np.unique_counts(x).counts,
        (20,),
        dtypes=(I64,),
        gradient=False,
    ),
    row(
        "unique_inverse",
        lambda x: tj.unique_inverse(x).inverse_indices,
        lambda x: np.unique_inverse(x).inverse_indices,
        (20,),
        (3, 4),
        dtypes=(I64,),
        gradient=False,
    ),
    row(
        "unique_all",
        lambda x: tj.unique_all(x).indices,
        lambda x: np.unique_all(x).indices,
        (20,),
        dtypes=(I64,),
        gradient=False,
    ),
    row(
        "nonzero",
        lambda x: tj.nonzero(x)[1],
        lambda x: np.nonzero(x)[1],
        (3, 9),
        dtypes=(I64, BOOL),
        result=I64,
        gradient=False,
    ),
    # Shapes.
    row("moveaxis", lambda x: tj.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1), (2, 3, 4), (3, 4)),
    row("swapaxes", lambda x: tj.swapaxes(x, 0, -1), lambda x: x.swapaxes(0, -1), (2, 3, 4), (3, 4)),
    row("roll", lambda x: tj.roll(x, 2), lambda x: np.roll(x, 2), (3, 4), (5,), (0,)),
    row("roll", lambda x: tj.roll(x, -1, axis=0), lambda x: np.roll(x, -1, 0), (3, 4), (1, 2), detail="axis"),
    row("tile", lambda x: tj.tile(x, (2, 3)), lambda x: np.tile(x, (2, 3)), (3, 4), (2,), ()),
    row("repeat", lambda x: tj.repeat(x, 3), lambda x: np.repeat(x, 3), (3, 2), (4,)),
    row("repeat", lambda x: tj.repeat(x, 2, axis=1), lambda x: np.repeat(x, 2, 1), (3, 2), (2, 1, 3), detail="axis"),
    row("split", lambda x: tj.split(x, 3)[1], lambda x: np.split(x, 3)[1], (6, 2), (3,)),
    row("unstack", lambda x: tj.unstack(x, axis=1)[1], lambda x: x[:, 1], (3, 2), (2, 4, 3)),
    row("broadcast_arrays", lambda x, y: tj.broadcast_arrays(x, y)[0], lambda x, y: np.broadcast_arrays(x, y)[0], *TWO),
    row("meshgrid", lambda x, y: tj.meshgrid(x, y)[1], lambda x, y: np.meshgrid(x, y)[1], ((3,), (4,)), ((1,), (0,))),
    row("diag", tj.diag, np.diag, (3, 4), (3,)),
    row("diagonal", tj.diagonal, lambda x: x.diagonal(0, -2, -1), (3, 4), (2, 3, 3)),
    row("tril", tj.tril, np.tril, (3, 4), (2, 3, 3)),
    row("triu", lambda x: tj.triu(x, k=1), lambda x: np.triu(x, 1), (3, 4), (2, 3, 3)),
    row("reshape", lambda x: tj.reshape(x, (2, -1)), lambda x: x.reshape(2, -1), (3, 4), (4,), (2, 3, 4)),
    row("reshape", lambda x: tj.reshape(x, ()), lambda x: x.reshape(()), (1, 1), (1,), (), detail="to a scalar"),
    row("reshape", lambda x: tj.reshape(x, (0, 7)), lambda x: x.reshape(0, 7), (3, 0), (0,), detail="of nothing"),
    row("flatten", tj.flatten, lambda x: x.reshape(-1), (3, 4), (), (2, 3, 4), (2, 0)),
    row("flatten", lambda x: tj.flatten(x, 1), lambda x: x.reshape(x.shape[0], -1), (2, 3, 4), detail="from axis 1"),
    row("permute_dims", lambda x: tj.permute_dims(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1), (2, 3, 4), (1, 0, 3)),
    row("transpose", lambda x: tj.transpose(x, 0, -1), lambda x: x.swapaxes(0, -1), (2, 3, 4), (3, 4), (5,)),
    row("matrix_transpose", tj.matrix_transpose, lambda x: x.mT, (2, 3, 4), (3, 4)),
    row("expand_dims", lambda x: tj.expand_dims(x, -1), lambda x: np.expand_dims(x, -1), (3, 4), (), (0,)),
    row("squeeze", tj.squeeze, np.squeeze, (1, 3, 1), (3,), (1, 1), ()),
    row("squeeze", lambda x: tj.squeeze(x, (0, -1)), lambda x: x.squeeze((0, -1)), (1, 3, 1), (1, 1, 1), detail="axes"),
    row(
        "broadcast_to",
        lambda x: tj.broadcast_to(x, (2, 3, 4)),
        lambda x: np.broadcast_to(x, (2, 3, 4)),
        (3, 4),
        (3, 1),
        (),
        (1, 1, 4),
    ),
    row(
        "broadcast_to",
        lambda x: tj.broadcast_to(x, (0, 3)),
        lambda x: np.broadcast_to(x, (0, 3)),
        (3,),
        (1, 3),
        detail="nothing",
    ),
    row(
        "concat",
        lambda x, y: tj.concat([x, y, x]),
        lambda x, y: np.concatenate([x, y, x]),
        ((3, 4), (2, 4)),
        ((0,), (5,)),
    ),
    row(
        "concat",
        lambda x, y: tj.concat((x, y), axis=-1),
        lambda x, y: np.concatenate([x, y], -1),
        ((3, 4), (3, 1)),
        detail="axis",
    ),
    row(
        "stack", lambda x, y: tj.stack([x, y]), lambda x, y: np.stack([x, y]), ((3, 4), (3, 4)), ((), ()), ((0,), (0,))
    ),
    row(
        "stack",
        lambda x, y: tj.stack([x, y], axis=-1),
        lambda x, y: np.stack([x, y], -1),
        ((3, 4), (3, 4)),
        detail="axis",
    ),
    row("flip", tj.flip, np.flip, (3, 4), (), (0, 2), (5,)),
    row("flip", lambda x: tj.flip(x, -1), lambda x: np.flip(x, -1), (3, 4), (2, 17), detail="axis"),
    row("pad", lambda x: tj.pad(x, ((1, 2), (0, 3))), lambda x: np.pad(x, ((1, 2), (0, 3))), (3, 4), (1, 1), (0, 2)),
    row(
        "pad",
        lambda x: tj.pad(x, ((1, 2),), constant_values=7),
        lambda x: np.pad(x, (1, 2), constant_values=7),
        (3,),
        dtypes=(*FLOATS, I64),
        detail="value",
    ),
    # Products.
    *[
        row("matmul", tj.matmul, np.matmul, *ways, dtypes=(*FLOATS, I64), ulps=64, detail=detail, low=0.5)
        for detail, ways in (
            ("matrices", (((3, 4), (4, 5)), ((1, 17), (17, 1)), ((33, 40), (40, 18)), ((0, 3), (3, 2)))),
            ("vectors", (((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)))),
            ("stacks", (((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)))),
            ("nothing", (((3, 0), (0, 5)), ((2, 0, 3), (3, 4)), ((0, 2, 3), (0, 3, 4)))),
        )
    ],
    row(
        "matmul",
        lambda x, y: tj.matmul(x.T, y.T),
        lambda x, y: x.T @ y.T,
        ((4, 3), (5, 4)),
        dtypes=FLOATS,
        ulps=64,
        low=0.5,
        detail="transposed",
    ),
    row("outer", tj.outer, np.outer, ((3,), (4,)), dtypes=(*FLOATS, I64)),
    row("vecdot", tj.vecdot, np.vecdot, ((3, 4), (3, 4)), ((4,), (3, 4)), dtypes=(*FLOATS, I64), ulps=16, low=0.5),
    row("cross", tj.cross, np.cross, ((4, 3), (4, 3)), ((3,), (3,)), dtypes=(*FLOATS, I64), low=0.5, ulps=64),
    row("tensordot", tj.tensordot, np.tensordot, ((2, 3, 4), (3, 4, 5)), ulps=64, low=0.5),
    row(
        "einsum",
        partial(tj.einsum, "bij,bjk->ik"),
        partial(np.einsum, "bij,bjk->ik"),
        ((2, 3, 4), (2, 4, 5)),
        ulps=64,
        low=0.5,
    ),
    # Elements.
    *[
        row("__getitem__", lambda x, k=key: x[k], lambda x, k=key: x[k], *shapes, detail=str(key).replace("\n", ""))
        for key, shapes in (
            (1, ((3, 4), (2,))),
            (-1, ((3, 4),)),
            ((1, 2), ((3, 4),)),
            (slice(1, None), ((3, 4), (1, 2), (0, 2))),
            (slice(None, None, -1), ((3, 4), (5,))),
            ((slice(None), slice(3, 0, -2)), ((3, 4),)),
            (None, ((3,), ())),
            ((Ellipsis, 0), ((3, 4), (2, 3, 4))),
            (slice(2, 3), ((3, 4),)),
            (slice(3, 1), ((5, 2),)),
            ((), ((3,), ())),
            ((slice(None), 1, slice(1, 2)), ((2, 3, 4),)),
            (A, ((3, 4), (3,))),
            ((A, A), ((3, 4),)),
            ((slice(None), A), ((2, 3),)),
            ((0, slice(None), A), ((2, 5, 3),)),
            ((A, slice(None), A), ((3, 2, 3),)),
            ((None, A), ((3,),)),
            (-A, ((3,),)),
            (MASK, ((3,), (3, 4))),
            ((slice(None), MASK), ((2, 3),)),
            (np.array([], int), ((3, 4), (3,))),
            (np.array(2), ((3,),)),
        )
    ],
    row("take", lambda x: tj.take(x, tj.tensor([2, 0, 2]), axis=1), lambda x: x.take([2, 0, 2], axis=1), (3, 4)),
    row("take", lambda x: tj.take(x, [1, -1]), lambda x: x.take([1, -1]), (3, 4), (2,), detail="flat"),
    row(
        "take_along_axis",
        lambda x: tj.take_along_axis(x, tj.tensor([[1], [0], [2]]), axis=1),
        lambda x: np.take_along_axis(x, np.array([[1], [0], [2]]), 1),
        (3, 4),
    ),
    row(
        "one_hot",
        lambda x: tj.one_hot(x, 4),
        lambda x: np.eye(5, dtype=I64)[np.where((x >= 0) & (x < 4), x, 4)][..., :4],
        (3, 4),
        (),
        (0,),
        dtypes=(I64, I32),
        result=I64,
        gradient=False,
    ),
    # Tensors like another.
    row("zeros_like", tj.zeros_like, np.zeros_like, (3, 4), (), (0, 2)),
    row("ones_like", tj.ones_like, np.ones_like, (3, 4), (), (0, 2)),
    row("full_like", lambda x: tj.full_like(x, 1), lambda x: np.full_like(x, 1), (3, 4), ()),
    row("asarray", tj.asarray, np.asarray, (3, 4), (), (0,)),
    row("empty_like", tj.empty_like, np.zeros_like, (3, 4)),
]

ROWS = [*ELEMENTWISE, *OTHERS]
table = pytest.mark.parametrize("row", ROWS, ids=str)

# Values ---------------------------------------------------------------------------------------------


def ulps_apart(actual: np.ndarray, expected: np.ndarray) -> float:
    """How many units in the last place of ``actual``'s dtype the two are apart; infinities and NaN must agree."""
    expected = np.asarray(expected, np.float64)
    finite = np.isfinite(expected) & np.isfinite(actual)
    with np.errstate(over="ignore"):
        rounded = expected.astype(actual.dtype)
    if not np.array_equal(np.where(finite, 0, actual), np.where(finite, 0, rounded), equal_nan=True):
        return math.inf
    unit = np.spacing(np.abs(np.where(finite, rounded, 1)).astype(actual.dtype)).astype(np.float64)
    distance = np.abs(np.where(finite, actual, 0).astype(np.float64) - np.where(finite, expected, 0)) / unit
    return float(distance.max(initial=0))


def assert_close(row: Row, actual: np.ndarray, operands: Sequence[np.ndarray]) -> None:
    if row.ulps == 0 or actual.dtype.kind != "f":
        converted = [x.astype(F32) if row.result == "float" and x.dtype.kind != "f" else x for x in operands]
        expected = quietly(row.numpy, *converted).astype(actual.dtype)
        assert actual.shape == expected.shape
        assert np.array_equal(actual, expected, equal_nan=actual.dtype.kind == "f")
    else:
        expected = quietly(row.numpy, *[x.astype(F64) for x in operands])
        assert actual.shape == expected.shape
        assert ulps_apart(actual, expected) <= row.ulps


@table
def test_value(row: Row) -> None:
    """Against NumPy: for every dtype and shape, of contiguous operands and of others, eagerly and compiled."""
    for dtype in row.dtypes:
        for shapes in row.shapes:
            operands = row.operands(shapes, dtype)
            tensors = [tj.tensor(x) for x in operands]
            result = row.call(*tensors)
            actual = np.asarray(result)
            assert result.dtype == row.dtype_of(dtype)
            assert result.shape == actual.shape
            assert_close(row, actual, operands)
            compiled = tj.jit(lambda *x: row.call(*x))(*tensors)
            assert same_bits(np.asarray(compiled), actual), f"under jit, {compiled} for {result}"
            views = [tj.flip(tj.tensor(np.flip(x))) for x in operands]  # arrays of negative strides
            assert same_bits(np.asarray(row.call(*views)), actual), "of operands that are not contiguous"


SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, -1e-45, 3e38, -3e38, 1e-5, 88.0, -104.0, np.inf, -np.inf, np.nan], F32
)


@pytest.mark.parametrize("row", [row for row in ROWS if row.specials and F32 in row.dtypes], ids=str)
def test_special_values(row: Row) -> None:
    grid = np.meshgrid(*[SPECIAL] * len(row.shapes[0]))
    operands = [axis.reshape(-1) for axis in grid]
    result = np.asarray(row.call(*[tj.tensor(x) for x in operands]))
    assert_close(row, result, operands)
    compiled = tj.jit(row.call)(*[tj.tensor(x) for x in operands])
    assert same_bits(np.asarray(compiled), result)
    if result.dtype.kind == "f" and row.name not in ("maximum", "minimum"):  # NumPy leaves these zeros' signs open
        expected = quietly(row.numpy, *operands)
        zeros = (result == 0) & (expected == 0)
        assert np.array_equal(np.signbit(result[zeros]), np.signbit(expected[zeros])), "signs of zeros"


# Gradients ------------------------------------------------------------------------------------------


def loss(row: Row, operands: Sequence[tj.Tensor]) -> tj.Tensor:
    """A scalar that depends on each element of the result in a way of its own."""
    result = row.call(*operands)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, result.shape)
    return (result * tj.tensor(weights).astype(result.dtype)).sum()


def slope(row: Row, operands: Sequence[tj.Tensor], directions: Sequence[np.ndarray]) -> tj.Tensor:
    """The derivative of :func:`loss` along some directions, as a function of the operands."""
    gradients = grad(loss(row, operands), operands, create_graph=True, materialize_grads=True)
    return sum(((g * tj.tensor(v)).sum() for g, v in zip(gradients, directions, strict=True)), tj.zeros((), dtype=F64))


def by_differences(
    function: Callable[[list[tj.Tensor]], tj.Tensor], operands: Sequence[np.ndarray], directions: Sequence[np.ndarray]
) -> float:
    """The derivative of a function along some directions by central differences."""
    step = 1e-5
    ends = []
    for sign in (1, -1):
        moved = [tj.tensor(x + sign * step * v, requires_grad=True) for x, v in zip(operands, directions, strict=True)]
        ends.append(float(function(moved).detach().item()))
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("row", [row for row in ROWS if row.gradient], ids=str)
def test_gradient(row: Row) -> None:
    """To second order against differences in float64; the same bits from a compiled function."""
    for number, shapes in enumerate(row.shapes):
        operands = row.operands(shapes, F64, seed=number)
        first, second = ([np.asarray(g.standard_normal(s)) for s in shapes] for g in map(np.random.default_rng, (2, 3)))
        tensors = [tj.tensor(x, requires_grad=True) for x in operands]
        total = loss(row, tensors)
        if not total.requires_grad:
            assert row.name.endswith("_like")
            continue
        gradients = grad(total, tensors, materialize_grads=True)
        for g, x in zip(gradients, operands, strict=True):
            assert (g.dtype, g.shape) == (x.dtype, x.shape)
        along = sum(float((np.asarray(g) * v).sum()) for g, v in zip(gradients, first, strict=True))
        assert along == pytest.approx(by_differences(lambda x: loss(row, x), operands, first), rel=1e-6, abs=1e-8)

        slanted = slope(row, tensors, first)
        expected = by_differences(lambda x, v=first: slope(row, x, v), operands, second)  # type: ignore[misc]
        if slanted.requires_grad:
            curvature = grad(slanted, tensors, materialize_grads=True)
            bent = sum(float((np.asarray(g) * v).sum()) for g, v in zip(curvature, second, strict=True))
            assert bent == pytest.approx(expected, rel=1e-5, abs=1e-6)
        else:
            assert expected == pytest.approx(0, abs=1e-6)

        compiled = tj.jit(lambda *x: grad(loss(row, x), x, materialize_grads=True))(*tensors)
        for one, other in zip(compiled, gradients, strict=True):
            assert same_bits(np.asarray(one), np.asarray(other)), f"the gradient inside a jitted function of {shapes}"


@pytest.mark.parametrize("row", [row for row in ROWS if row.gradient], ids=str)
def test_gradient_of_a_jitted_function(row: Row) -> None:
    shapes = row.shapes[0]
    tensors = [tj.tensor(x, requires_grad=True) for x in row.operands(shapes, F32)]
    total = loss(row, tensors)
    if not total.requires_grad:
        return
    gradients = grad(total, tensors, materialize_grads=True)
    compiled = grad(tj.jit(lambda *x: loss(row, x))(*tensors), tensors, materialize_grads=True)
    for one, other in zip(compiled, gradients, strict=True):
        assert same_bits(np.asarray(one), np.asarray(other))


# Types ----------------------------------------------------------------------------------------------

PROMOTION = [
    ("f32 + f64", lambda: tj.ones(2) + tj.ones(2, dtype=F64), F64),
    ("f32 + i64", lambda: tj.ones(2) + tj.arange(2), F32),
    ("i32 + i64", lambda: tj.arange(2, dtype=I32) + tj.arange(2), I64),
    ("u8 + i32", lambda: tj.ones(2, dtype=U8) + tj.arange(2, dtype=I32), I32),
    ("bool + i32", lambda: tj.tensor([True, False]) + tj.arange(2, dtype=I32), I32),
    ("f32 + 1", lambda: tj.ones(2) + 1, F32),
    ("f32 + 0.1", lambda: tj.ones(2) + 0.1, F32),
    ("f64 + 0.1", lambda: tj.ones(2, dtype=F64) + 0.1, F64),
    ("i32 + 1", lambda: tj.arange(2, dtype=I32) + 1, I32),
    ("i32 + 0.5", lambda: tj.arange(2, dtype=I32) + 0.5, F32),
    ("i64 / i64", lambda: tj.arange(2) / tj.ones(2, dtype=I64), F32),
    ("bool + 1", lambda: tj.tensor([True]) + 1, I64),
    ("1 - f32", lambda: 1 - tj.ones(2), F32),
    ("2 ** f32", lambda: 2 ** tj.ones(2), F32),
    ("2.0 / i64", lambda: 2.0 / tj.ones(2, dtype=I64), F32),
    ("f32 0-d + f64", lambda: tj.tensor(1.0) + tj.ones(2, dtype=F64), F64),
    ("f32 + NumPy's f64", lambda: tj.ones(2) + np.float64(1), F32),  # which is a Python float
    ("where(p, 1.0, 2)", lambda: tj.where(tj.tensor([True]), 1.0, 2), F32),
    ("where(p, f64, 2)", lambda: tj.where(tj.tensor([True]), tj.ones(1, dtype=F64), 2), F64),
    ("concat", lambda: tj.concat([tj.ones(1), tj.arange(2)]), F32),
    ("matmul", lambda: tj.ones(2, 2) @ tj.ones(2, 2, dtype=F64), F64),
]


@pytest.mark.parametrize(("make", "expected"), [case[1:] for case in PROMOTION], ids=[case[0] for case in PROMOTION])
def test_promotion(make: Callable[[], tj.Tensor], expected: np.dtype) -> None:
    assert make().dtype == expected
    assert tj.jit(make)().dtype == expected
    assert same_bits(np.asarray(tj.jit(make)()), np.asarray(make()))


CREATION = [
    (lambda: tj.zeros(2, 3), np.zeros((2, 3), F32)),
    (lambda: tj.zeros((2, 3), dtype=I64), np.zeros((2, 3), I64)),
    (lambda: tj.zeros(()), np.zeros((), F32)),
    (lambda: tj.ones(3), np.ones(3, F32)),
    (lambda: tj.ones(0, 2), np.ones((0, 2), F32)),
    (lambda: tj.empty(2), np.zeros(2, F32)),
    (lambda: tj.full((2,), 7), np.full(2, 7)),
    (lambda: tj.full((2,), 0.1), np.full(2, 0.1, F32)),
    (lambda: tj.full((), True), np.array(True)),
    (lambda: tj.full(3, tj.tensor(2.5)), np.full(3, 2.5, F32)),
    (lambda: tj.eye(2, 3), np.eye(2, 3, dtype=F32)),
    (lambda: tj.arange(5), np.arange(5)),
    (lambda: tj.arange(2, 9, 3), np.arange(2, 9, 3)),
    (lambda: tj.arange(5, 0, -2), np.arange(5, 0, -2)),
    (lambda: tj.arange(0.0, 1.0, 0.25), np.arange(0, 1, 0.25, dtype=F32)),
    (lambda: tj.arange(3, 1), np.arange(3, 1)),
    (lambda: tj.arange(3, dtype=F64), np.arange(3, dtype=F64)),
    (lambda: tj.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=F32)),
    (lambda: tj.linspace(0, 1, 4, endpoint=False), np.linspace(0, 1, 4, False, dtype=F32)),
    (lambda: tj.tensor([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]])),
    (lambda: tj.tensor([1, 2.5]), np.array([1, 2.5], F32)),
    (lambda: tj.tensor([]), np.zeros(0, F32)),
    (lambda: tj.tensor(3), np.array(3)),
    (lambda: tj.tensor([True, False]), np.array([True, False])),
    (lambda: tj.tensor(np.arange(3, dtype=">i4")), np.arange(3, dtype=I32)),
    (lambda: tj.tensor([tj.tensor(1.0), tj.tensor(2.0)]), np.array([1, 2], F32)),
    (lambda: tj.asarray(3.5), np.array(3.5, F32)),
    (lambda: tj.Parameter(tj.ones(2)), np.ones(2, F32)),
    (lambda: tj.Tensor([1.5]), np.array([1.5], F32)),
]


@pytest.mark.parametrize(("make", "expected"), CREATION)
def test_creation(make: Callable[[], tj.Tensor], expected: np.ndarray) -> None:
    for function in (make, tj.jit(make)):
        made = function()
        assert isinstance(made, tj.Tensor)
        assert same_bits(np.asarray(made.detach()), expected)


RANDOM = [
    (lambda: tj.rand(3, 4), F32, 0.0, 1.0),
    (lambda: tj.rand(5, dtype=F64), F64, 0.0, 1.0),
    (lambda: tj.randn(2, 50), F32, -7.0, 7.0),
    (lambda: tj.randint(-3, 4, (100,)), I64, -3, 3),
]


@pytest.mark.parametrize(("draw", "dtype", "low", "high"), RANDOM)
def test_random(draw: Callable[[], tj.Tensor], dtype: np.dtype, low: float, high: float) -> None:
    compiled = tj.jit(draw)
    runs = []
    for function in (draw, compiled):
        tj.manual_seed(3)
        runs.append([np.asarray(function()) for _ in range(3)])
    for one, other in zip(*runs, strict=True):
        assert one.dtype == dtype
        assert low <= one.min() <= one.max() <= high
        assert same_bits(one, other)
    assert not np.array_equal(runs[0][0], runs[0][1])


# In place ------------------------------------------------------------------------------------------

KEYS = [
    0, -1, (1, 2), slice(1, None), (slice(None), slice(None, None, 2)), slice(None, None, -1), Ellipsis, (Ellipsis, 1),
    (slice(None), 1), np.array([0, 2]), (np.array([0, 2]), np.array([1, 1])), (slice(None), np.array([0, 3])),
    np.array([True, False, True]), np.eye(3, 4, dtype=bool), (), (0, slice(1, 3)), slice(2, 1), (np.array([0, 0]), 1),
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
def test_in_place(change: Callable[..., tj.Tensor], expected: Callable[..., np.ndarray]) -> None:
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


# Completeness --------------------------------------------------------------------------------------


def test_every_function_is_tested() -> None:
    """By a row of this table, or in another file."""
    covered = {row.name for row in ROWS} | {name for make, _ in CREATION for name in make.__code__.co_names}
    texts = [path.read_text() for path in Path(__file__).parent.rglob("test_*.py")]
    named = {name for text in texts for name in re.findall(r"\btj\.(\w+)|\"(\w+)\"", text) for name in name}
    functions = {
        name for name, item in vars(tj).items() if isinstance(item, types.FunctionType) and not name.startswith("_")
    }
    assert functions - covered - named == set()
