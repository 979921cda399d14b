"""Native code in place of Python's: the operators of tensors, and what elementwise functions do.

It means the same; on small arrays, where a call costs more than the arithmetic, it takes a tenth of the time.  Loading
it costs as much as tens of thousands of calls in Python.  So it is loaded, in the background, when the compiler is
needed for something else too, or when there have been that many calls.  ``TRACEJIT_NATIVE_CALLS=0`` leaves it all to
Python.
"""

from __future__ import annotations

import sys
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from tracejit.ir import type_of
from tracejit.ir.primitive import PRIMITIVES, Application, Elementwise, Primitive
from tracejit.ir.primitives import contraction, elementwise as primitives
from tracejit.ir.types import TensorType, float32

from . import methods, state
from .ops import arithmetic, elementary, elementwise, linalg, manipulation, reduction
from .ops.axes import normalize_axes
from .tape import Node, node_numbers, node_of
from .tensor import Parameter, Tensor, concrete_tensor

if TYPE_CHECKING:
    from tracejit.backends.cpu.instances import Instances
    from tracejit.backends.cpu.operators import Operators
    from tracejit.backends.cpu.recall import Recalling
    from tracejit.backends.cpu.tape import Tape

CALLS_WORTH_LOADING = 20_000
_is_asked_for = False

_BINARY = {  # by the operator's name: its primitive, and the function that it is in Python
    "add": (primitives.add, elementwise.add),
    "sub": (primitives.subtract, elementwise.subtract),
    "mul": (primitives.multiply, elementwise.multiply),
    "truediv": (primitives.divide, elementwise.divide),
    "and": (primitives.logical_and, elementwise.bitwise_and),
    "or": (primitives.logical_or, elementwise.bitwise_or),
    "xor": (primitives.logical_xor, elementwise.bitwise_xor),
}
_UNARY = {
    "neg": (primitives.negate, elementwise.negative),
    "abs": (primitives.abs, elementwise.abs),
    "invert": (primitives.logical_not, elementwise.bitwise_invert),
}
_RELATIONS = {  # in the order of CPython's numbers for them
    "lt": elementwise.less,
    "le": elementwise.less_equal,
    "eq": elementwise.equal,
    "ne": elementwise.not_equal,
    "gt": elementwise.greater,
    "ge": elementwise.greater_equal,
}
_METHODS = {f"__{name}__": name for name in (*_BINARY, *_UNARY)}
_METHODS |= {f"__r{name}__": name for name in _BINARY} | {f"__{name}__": "compare" for name in _RELATIONS}
_MODULES = (elementwise, elementary, arithmetic)  # that have _apply
_OF_PYTHON = ("__dict__", "__weakref__")  # slots that start out empty
_RECALLED = {"reshape": manipulation, "transpose": manipulation, "reduce": reduction, "matmul": linalg}
_in_python = {name: getattr(module, f"_{name}") for name, module in _RECALLED.items()}
_SLOTS = {"__getitem__": "item", "__matmul__": "product", "__rmatmul__": "product"}
_apply, _compare, _choose = elementwise._apply, elementwise._compare, elementwise._choose


def install_if_worthwhile(calls: int) -> None:
    """Have it installed in the background, after that many calls in Python."""
    global _is_asked_for
    is_worthwhile = calls >= CALLS_WORTH_LOADING or "tracejit.backends.cpu.compiler" in sys.modules
    if is_worthwhile and not _is_asked_for:
        _is_asked_for = True
        from tracejit.backends.cpu import compiler

        compiler.run_later(install)


def install() -> bool:
    """Put native code in the place of Python's; whether there is any."""
    from tracejit.backends.cpu import objects

    operators = _compiled()
    if operators is None:
        return False
    for method, name in _METHODS.items():
        if method not in Tensor.__dict__:  # which is what somebody may have assigned
            setattr(Tensor, method, objects.special_method(Tensor, method, operators.slots[name]))
    _set_functions(*(operators.functions[name] for name in ("apply", "relate", "choose")))
    recalling = _recalling()
    for method, name in _SLOTS.items():
        if method not in Tensor.__dict__:
            setattr(Tensor, method, objects.special_method(Tensor, method, recalling.slots[name]))
    for name, module in _RECALLED.items():
        setattr(module, f"_{name}", recalling.functions[name])
    return True


def uninstall() -> None:
    """Leave everything to Python again."""
    wrapper = type(int.__add__)
    for method in (*_METHODS, *_SLOTS):
        if type(Tensor.__dict__.get(method)) is wrapper:
            delattr(Tensor, method)
    _set_functions(_apply, _compare, _choose)
    for name, module in _RECALLED.items():
        setattr(module, f"_{name}", _in_python[name])


def _set_functions(apply: Any, compare: Any, choose: Any) -> None:
    for module in _MODULES:
        setattr(module, "_apply", apply)  # noqa: B010
    setattr(elementwise, "_compare", compare)  # noqa: B010
    setattr(elementwise, "_choose", choose)  # noqa: B010


@cache
def layout() -> tuple[Instances, Tape] | None:
    """How tensors and the tape are laid out; ``None`` where native code cannot handle them."""
    from tracejit.backends.cpu import objects
    from tracejit.backends.cpu.instances import Instances, recycle
    from tracejit.backends.cpu.tape import Tape

    if objects.why_unsupported() is not None or not _node_is_as_expected():
        return None
    example = concrete_tensor(None)
    fresh = {slot: getattr(example, slot) for slot in Tensor.__slots__ if slot not in ("_value", *_OF_PYTHON)}
    busy, _ = state.busy.buffer_info()
    instances = Instances((Tensor, Parameter), "_value", "_requires_grad", fresh, busy)
    tape = Tape(
        "_node",
        "_accumulator",
        Node,
        Application,
        node_of,
        type_of,
        state.thread,
        "grad_enabled",
        "number",
        node_numbers,
    )
    recycle(instances)
    return instances, tape


@cache
def _compiled() -> Operators | None:
    """The operators in native code; ``None`` where there can be none."""
    from tracejit.backends.cpu import operators
    from tracejit.backends.cpu.operators import Function
    from tracejit.backends.cpu.records import Record

    found = layout()
    if found is None:
        return None
    instances, tape = found
    records = {
        name: Record(primitive, 2, partial(methods._binary, function))
        for name, (primitive, function) in _BINARY.items()
    }
    records |= {
        name: Record(primitive, 1, partial(methods._unary, function)) for name, (primitive, function) in _UNARY.items()
    }
    relations = [
        Record(primitives.compare, 2, partial(methods._binary, function), {"direction": direction})
        for direction, function in _RELATIONS.items()
    ]
    by_operands: list[dict[Any, Record]] = []
    for operands in (1, 2):
        every = {p: Record(p, operands) for p in PRIMITIVES.values() if isinstance(p, Elementwise)}
        by_operands.append({primitive: record for primitive, record in every.items() if record.is_possible})
    functions = {
        "apply": Function(_apply, 0, *by_operands),
        "relate": Function(_compare, 1, {}, dict(zip(_RELATIONS, relations, strict=True))),
    }
    choices = {"choose": Record(primitives.select, 3, _choose)}
    return operators.compile_operators(instances, tape, records, relations, functions, choices)


@cache
def _recalling() -> Recalling:
    """What is recalled in native code."""
    from tracejit.backends.cpu.recall import Recalled, compile_recalling

    found = layout()
    assert found is not None
    functions = {name: Recalled(function) for name, function in _in_python.items()}
    functions["reduce"] = Recalled(_in_python["reduce"], _reduction)
    functions["matmul"] = Recalled(_in_python["matmul"], _product)
    functions["product"] = Recalled(partial(methods._binary, linalg.matmul), _product)
    functions["item"] = Recalled(methods.TensorMethods.__getitem__, indexes=True)
    return compile_recalling(found[0], functions, {*_SLOTS.values()})


def _reduction(
    primitive: Primitive, name: str, x: Tensor, axis: Any, keepdims: bool
) -> tuple[Primitive, dict[str, Any]] | None:
    """What a reduction is, if it is one primitive."""
    axes = normalize_axes(name, axis, x.ndim)
    return (primitive, {"axes": axes}) if axes and not keepdims else None


def _product(x: Any, y: Any) -> tuple[Primitive, dict[str, Any]] | None:
    is_one = isinstance(x, Tensor) and isinstance(y, Tensor) and x.ndim == y.ndim == 2 and x.dtype == y.dtype
    return (contraction.dot, {}) if is_one else None


def _node_is_as_expected() -> bool:
    """Whether a node has what native code gives it, and ``None`` in all other slots."""
    application = Application(primitives.negate, {}, (), TensorType(float32, ()), (), None)
    edges = (None,)
    node = Node(application, edges, application.result_type, None)
    expected = {"application": application, "edges": edges, "type": application.result_type}
    fields = ("primitive", "attributes", "operand_types", "result_type", "operands", "result")
    expected["number"] = node.number
    return application.__slots__ == fields and all(getattr(node, slot) is expected.get(slot) for slot in Node.__slots__)
