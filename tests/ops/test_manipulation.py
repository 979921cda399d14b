"""Shapes and orders of elements: reshaping, moving axes, joining, splitting, repeating, padding."""

from typing import Any

import numpy as np
import pytest

import tracejit as tj

from .table import BOOL, F32, FLOATS, I64, ONE, TWO, checks_of, row

pytestmark = pytest.mark.usefixtures("first_code_only")

EVERY = [way[0] for way in ONE]
PAIRS = (((3, 4), (3, 4)), ((3, 4), (3, 1)), ((0, 3), (0, 2)))


def all_of(x: Any) -> Any:
    """Several results as one, of another shape."""
    return (tj if isinstance(x[0], tj.Tensor) else np).concat([item.reshape(-1) for item in x])


ROWS = [
    # Shapes
    row("reshape", (3, 4), (4,), (2, 3, 4), args=((2, -1),)),
    row("reshape", (1, 1), (1,), (), args=((),)),
    row("reshape", (3, 0), (0,), args=((0, 7),)),
    row("flatten", *EVERY, like=lambda x: x.reshape(-1)),
    row("flatten", (2, 3, 4), (2, 0, 3), args=(1,), like=lambda x, first: x.reshape(x.shape[0], -1)),
    row("ravel", *EVERY),
    row("expand_dims", *EVERY, args=(-1,)),
    row("expand_dims", (3, 4), (), args=((0, -1),)),
    row("squeeze", (1, 3, 1), (3,), (1, 1), (), (1, 0)),
    row("squeeze", (1, 3, 1), (1, 1, 1), args=((0, -1),)),
    row("broadcast_to", (3, 4), (3, 1), (), (1, 1, 4), args=((2, 3, 4),)),
    row("broadcast_to", (3,), (1, 3), args=((0, 3),)),
    row("broadcast_arrays", *TWO, pick=0),
    row("broadcast_arrays", *TWO, pick=1),
    row("atleast_1d", *EVERY),
    row("atleast_2d", *EVERY),
    row("atleast_3d", *EVERY),
    row("atleast_2d", ((3,), ()), pick=1, detail="of several"),
    # The order of axes and of elements along them
    row("permute_dims", (2, 3, 4), (1, 0, 3), args=((2, 0, 1),)),
    row("transpose", (2, 3, 4), (3, 4), (5,), args=(0, -1), like=np.swapaxes),
    row("swapaxes", (2, 3, 4), (3, 4), (0, 2), args=(0, -1)),
    row("matrix_transpose", (2, 3, 4), (3, 4), (3, 0)),
    row("moveaxis", (2, 3, 4), (3, 4), args=(0, -1)),
    row("moveaxis", (2, 3, 4, 5), args=((0, 2), (3, 0))),
    row("flip", *EVERY),
    row("flip", (3, 4), (2, 17), args=(-1,)),
    row("fliplr", (3, 4), (2, 0, 3)),
    row("flipud", (3, 4), (5,)),
    *[row("rot90", (3, 4), (2, 3, 2), (0, 3), args=(k,)) for k in (1, 2, 3, -1, 4)],
    row("rot90", (2, 3, 4), axes=(1, 2)),
    row("roll", *EVERY, args=(2,)),
    row("roll", (3, 4), (1, 2), args=(-1,), axis=0),
    row("roll", (3, 4), args=((1, -2),), axis=(0, 1)),
    # Joining
    row("concat", ((3, 4), (2, 4)), ((0,), (5,)), ((2,), (3,)), many=True),
    row("concat", *PAIRS, many=True, axis=-1),
    row("concat", ((3, 4), (2,)), many=True, axis=None),
    row("stack", ((3, 4), (3, 4)), ((), ()), ((0,), (0,)), many=True),
    row("stack", ((3, 4), (3, 4)), many=True, axis=-1),
    row("hstack", *PAIRS, ((3,), (2,)), ((), ()), ((2, 3, 4), (2, 1, 4)), many=True),
    row("vstack", ((3, 4), (2, 4)), ((3,), (3,)), ((), ()), ((2, 3), (3,)), many=True),
    row("dstack", ((3, 4), (3, 4)), ((3,), (3,)), ((), ()), ((2, 3, 4), (2, 3, 1)), many=True),
    row("column_stack", ((3,), (3,)), ((3, 2), (3,)), ((0,), (0,)), many=True),
    row("append", ((3, 4), (2,)), ((), ())),
    row("append", ((3, 4), (2, 4)), axis=0),
    row("block", ((2, 2), (2, 3), (1, 5)), call=lambda x, y, z: tj.block([[x, y], [z]]),
        like=lambda x, y, z: np.block([[x, y], [z]])),
    row("block", ((2,), (3,)), many=True),
    row("block", (3, 4), (), call=tj.block, like=np.block, detail="of one"),
    row("block", ((2, 2, 2), (2, 2)), call=lambda x, y: tj.block([[[x]], [[y]]]), like=lambda x, y: np.block([[[x]],
        [[y]]]),
        detail="of three axes"),
    # Taking apart
    row("split", (6, 2), (3,), args=(3,), pick=all_of),
    row("split", (3, 7), args=([1, 4],), axis=1, pick=all_of),
    row("array_split", (7, 2), (3,), (2,), (0,), args=(3,), pick=all_of),
    row("array_split", (7,), args=([2, 2, 9],), pick=all_of),
    row("unstack", (3, 2), (3,), pick=all_of),
    row("unstack", (3, 2), (2, 4, 3), axis=1, pick=all_of),
    # Repeating
    row("tile", (3, 4), (2,), (), (0,), args=((2, 3),)),
    row("tile", (3, 4), args=(2,)),
    row("repeat", (3, 2), (4,), (), (0,), args=(3,)),
    row("repeat", (3, 2), (2, 1, 3), args=(2,), axis=1),
    row("repeat", (3, 2), args=([1, 0, 2],), axis=0),
    row("repeat", (3, 2), args=(0,), axis=1),
    # Padding
    row("pad", (3, 4), (1, 1), (0, 2), args=(((1, 2), (0, 3)),)),
    row("pad", (3,), args=((1, 2),), constant_values=7, dtypes=(*FLOATS, I64)),
    row("pad", *EVERY, args=(2,), detail="everywhere"),
    row("pad", (3, 4), (0, 2), args=(((1, 2), (0, 3)),), constant_values=((1, 2), (3, 4))),
    row("pad", (3,), args=(2,), constant_values=(5, 6), dtypes=(*FLOATS, I64)),
    *[
        row("pad", (3, 4), (2,), (1, 3), args=((2, 1),), mode=mode)
        for mode in ("edge", "reflect", "symmetric", "wrap")
    ],
    *[row("pad", (3,), args=((7, 5),), mode=mode, detail="far") for mode in ("reflect", "symmetric", "wrap")],
    row("pad", (3, 4), args=(0,), mode="edge", detail="by nothing"),
    # Diagonals and triangles
    row("diag", (3, 4), (3,), (0,), (0, 3)),
    row("diag", (3, 4), (3,), (0,), args=(1,)),
    row("diag", (4, 3), (3,), k=-2),
    row("diagonal", (3, 4), (2, 3, 3), (0, 3), like=lambda x: x.diagonal(0, -2, -1)),
    row("diagonal", (3, 4), args=(1,), like=lambda x, k: x.diagonal(k, -2, -1)),
    row("diagonal", (3, 4), args=(-2,), like=lambda x, k: x.diagonal(k, -2, -1)),
    row("tril", (3, 4), (2, 3, 3), (0, 3)),
    row("tril", (3, 4), k=1),
    row("triu", (3, 4), (2, 3, 3), (3, 0)),
    row("triu", (3, 4), k=-1),
    row("trace", (3, 4), (2, 2), (0, 3), dtypes=(*FLOATS, I64), result="sum", ulps=8, low=0.1),
    row("trace", (3, 4), args=(1,), ulps=8, low=0.1),
    # Grids and powers
    row("meshgrid", ((3,), (4,)), ((1,), (0,)), ((), (2,)), pick=0),
    row("meshgrid", ((3,), (4,), (2,)), pick=1, indexing="ij"),
    row("vander", (4,), (1,), (0,), dtypes=(*FLOATS, I64), ulps=4),
    row("vander", (4,), args=(3,), increasing=True, dtypes=(*FLOATS, I64), ulps=4),
    row("vander", (4,), args=(0,), dtypes=FLOATS),
    # Tensors like another
    *[
        row(name, *EVERY, args=args, like=like)
        for name, args, like in (
            ("zeros_like", (), None), ("ones_like", (), None), ("full_like", (1,), None), ("empty_like", (),
                np.zeros_like),
            ("asarray", (), None),
        )
    ],
    row("zeros_like", (3,), dtype=F32, result=F32),
]  # fmt: skip

test_value, test_special_values, test_gradient, test_gradient_of_a_jitted_function = checks_of(ROWS)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tj.reshape(tj.ones(2, 3), (4, 2)), ValueError, r"shape \(2, 3\) into shape \(4, 2\)"),
        (lambda: tj.reshape(tj.ones(2, 3), (4, -1)), ValueError, r"shape \(4, -1\) is invalid for a tensor of size 6"),
        (lambda: tj.squeeze(tj.ones(2, 3), 0), ValueError, r"axis 0 of shape \(2, 3\) does not have extent 1"),
        (lambda: tj.broadcast_to(tj.ones(2), (3,)), ValueError, r"shape \(2,\) cannot be broadcast to \(3,\)"),
        (lambda: tj.concat([]), ValueError, "at least one tensor"),
        (lambda: tj.concat([tj.ones(2), tj.ones(2, 2)]), ValueError, "concatenate: all dimensions but 0"),
        (lambda: tj.stack([tj.ones(2), tj.ones(3)]), ValueError, r"got \[2\] at entry 0 and \[3\] at entry 1"),
        (lambda: tj.block([[tj.ones(2)], tj.ones(2)]), ValueError, "nested to one depth"),
        (lambda: tj.split(tj.ones(5), 2), ValueError, r"axis 0 of shape \(5,\) is not divided by 2"),
        (lambda: tj.array_split(tj.ones(5), 0), ValueError, "number sections must be larger than 0"),
        (lambda: tj.repeat(tj.ones(2), -1), ValueError, "must not be negative"),
        (lambda: tj.rot90(tj.ones(2, 2), axes=(0, 0)), ValueError, "two different ones"),
        (lambda: tj.flip(tj.ones(2), 1), IndexError, "axis 1 is out of bounds"),
        (lambda: tj.fliplr(tj.ones(2)), IndexError, "fliplr: axis 1 is out of bounds"),
        (lambda: tj.pad(tj.ones(2), ((1, 1), (1, 1))), ValueError, r"one \(before, after\) an axis of shape \(2,\)"),
        (lambda: tj.pad(tj.ones(2), -1), ValueError, "must not be negative"),
        (lambda: tj.pad(tj.ones(2), 1, "mirror"), ValueError, "mode must be one of constant, edge"),
        (lambda: tj.pad(tj.ones(0), 1, "edge"), ValueError, r"can't extend empty axis 0 of shape \(0,\)"),
        (lambda: tj.moveaxis(tj.ones(2, 2), (0, 1), 0), ValueError, "as many distinct axes"),
        (lambda: tj.tril(tj.ones(2)), ValueError, "at least two axes"),
        (lambda: tj.vander(tj.ones(2, 2)), ValueError, "needs a vector"),
        (lambda: tj.meshgrid(tj.ones(2), indexing="yx"), ValueError, "'xy' or 'ij'"),
        (lambda: tj.diag(tj.ones(2, 2, 2)), ValueError, "a vector or a matrix"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "test_manipulation.py" in str(caught.value), "the user's line is named"


def test_a_result_is_never_the_operand() -> None:
    """What is done to it in place does not change the operand, and the other way round."""
    for call in (
        tj.ravel,
        tj.squeeze,
        tj.atleast_1d,
        lambda x: tj.rot90(x, 4),
        lambda x: tj.pad(x, 0, "edge"),
        tj.block,
    ):
        x = tj.ones(3, 3)
        result = call(x)
        assert result is not x
        result += 1
        assert bool((x == 1).all())


def test_bools_are_moved_too() -> None:
    assert tj.rot90(tj.tensor([[True, False]])).dtype == BOOL
