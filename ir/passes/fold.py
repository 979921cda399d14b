"""Constant folding: ops whose operands are all constants are computed now.

Folding must give the bits that running would give.  NumPy's are those only for primitives marked ``exact``, and for
reductions of integers and bools; a caller that can run the compiled one-op kernels passes their ``evaluate``, and then
everything folds.  A result is never larger than its operands together (``zeros(10**8)`` stays a broadcast), if it has
any, nor than :data:`SIZE_LIMIT` elements.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..graph import Constant, Graph, Op, Value
from ..interpreter import Evaluate, checked_results, evaluate_with_numpy
from ..primitive import Reduction

SIZE_LIMIT = 1024


def fold(graph: Graph, evaluate: Evaluate | None = None) -> Graph:
    """``graph`` with the ops on constants computed, by ``evaluate(primitive, arrays, attributes)`` where it is given.

    >>> from tracejit.ir.parser import parse
    >>> graph = parse('''
    ... func @f(%x: f32[3]) -> (f32[3]) {
    ...   %two = add 1.0, 1.0 : f32[]
    ...   %y = multiply %x, %two : f32[3]
    ...   return %y
    ... }''')
    >>> print(fold(graph))
    func @f(%x: f32[3]) -> (f32[3]) {
      %y = multiply %x, 2.0 : f32[3]
      return %y
    }
    """
    known: dict[Value, Value] = {}
    for op in graph.walk():
        if all(type(operand) is Constant or operand in known for operand in op.operands):
            array = _folded(op, known, evaluate)
            if array is not None:
                known[op.result] = Constant(array)
    return graph.replace(known)


def _folded(op: Op, known: Mapping[Value, Value], evaluate: Evaluate | None) -> np.ndarray | None:
    """The value of an op on constants, or ``None`` where it is to be left to run."""
    arrays = tuple([_array(known.get(operand, operand)) for operand in op.operands])
    if len(op.results) != 1 or op.regions or not op.result.type.is_static:
        return None
    operands_size = sum(array.size for array in arrays) if arrays else SIZE_LIMIT
    if op.result.type.size > min(SIZE_LIMIT, operands_size):
        return None
    if evaluate is None:
        if not (op.primitive.exact or _has_no_order(op)):
            return None
        evaluate = evaluate_with_numpy
    try:
        results = evaluate(op.primitive, arrays, op.attributes)
    except (ArithmeticError, LookupError, ValueError):
        return None  # the program fails when it runs, if it ever gets there
    (array,) = checked_results(op, results, {})
    return np.array(array, order="C")  # not a view: a constant keeps no larger array alive


def _has_no_order(op: Op) -> bool:
    """Whether it is a reduction of integers or bools, which is the same in any order."""
    return isinstance(op.primitive, Reduction) and op.result.dtype.kind in "biu"


def _array(value: Value) -> np.ndarray:
    assert isinstance(value, Constant)
    return value.array
