"""The primitive: one record that holds every fact about one operation.

A primitive says how its result is typed, how NumPy evaluates it, how it is differentiated and how a
kernel computes it.  The kinds below differ in the last point alone:

=============  ==========================================================================
Elementwise    a scalar program, applied at each index; operands broadcast
View           an index map: each element of the result is one element of the operand
Reduction      a combining function over some axes, in the order fixed by the contract
Placement      operands copied to regions of the result (concatenate, pad)
Indexing       elements found through an array of indices (gather, scatter)
Contraction    a matrix product
Generation     values made from an index alone (iota, random bits)
Library        whatever NumPy computes better than a kernel of ours (sorting, transforms, decompositions)
Composite      other primitives together, for which there may be a kernel; see :mod:`.composites`
Control        blocks of ops that run when, and as often as, values say; see :mod:`.primitives.control`
=============  ==========================================================================

Rules are written once, against an :class:`Emitter`, which applies primitives to whatever the caller
transforms: arrays, values of a graph, or tensors whose own derivative will be wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .batching import BatchRule, elementwise
from .facts import facts
from .types import KERNEL_DTYPES, DType, Shape, TensorType, broadcast_shapes, format_shape, same_shape

if TYPE_CHECKING:
    from .graph import Block

Attributes = Mapping[str, Any]
PRIMITIVES: dict[str, Primitive] = {}


@dataclass(slots=True)  # native code makes some, by the places of the slots
class Application:
    """One application, as a derivative rule sees it: only what the primitive ``saves`` is kept."""

    primitive: Primitive
    attributes: Attributes
    operand_types: tuple[TensorType, ...]
    result_type: TensorType
    operands: tuple[Any, ...]
    result: Any


VjpRule = Callable[["Emitter", int, Any, Application], Any]
JvpRule = Callable[["Emitter", Sequence[Any], Application], Any]
Rule = Callable[["Emitter", Any, Application], Any]


@facts(frozen=True, eq=False, kw_only=True)
class Primitive:
    """See the module's docstring; :meth:`infer` is the type rule, :meth:`evaluate` the eager path.

    ``exact`` tells that NumPy's own result is fixed to the bit by IEEE 754 (or holds no arithmetic),
    so that the eager path may use it.  The others run as a compiled one-op kernel, in eager code as
    under ``jit``, and :meth:`evaluate` is their oracle within a stated number of ulps.

    ``is_slow_in_numpy``: compiled code is many times as fast on many elements, so the eager path may use that too.

    ``vjp(emitter, i, cotangent, application)`` returns the cotangent of operand ``i``; ``None`` where
    the primitive has no derivative.  ``saves`` lists what the rule reads: ``"0"`` for the first
    operand, ``"r"`` for the result; ``vjp_moves`` where it gives elements of the cotangent, and zeros, as
    they are (so that it can move bools too).  A cotangent ``c`` of ``z`` stands for the change ``Re(conj(c) * dz)``
    of a real number, as in PyTorch: for complex ``z`` too it points where that number grows fastest.

    ``jvp(emitter, tangents, application)`` returns the tangent of the result from those of the operands,
    ``None`` standing for zeros; it may read all operands and the result.  ``batch`` applies the primitive
    to operands that have one axis more, see :mod:`.batching`.
    """

    name: str
    type_rule: Callable[..., Any]
    numpy: Callable[..., Any]
    exact: bool = True
    is_slow_in_numpy: bool = False
    vjp: VjpRule | None = None
    saves: str = ""
    vjp_moves: bool = False
    differentiable_operands: tuple[int, ...] | None = None
    jvp: JvpRule | None = None
    batch: BatchRule | None = None

    def __post_init__(self) -> None:
        if self.name in PRIMITIVES:
            raise ValueError(f"a primitive named {self.name!r} exists already")
        PRIMITIVES[self.name] = self

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def infer(self, operand_types: Sequence[TensorType], attributes: Attributes) -> TensorType:
        """The result's type; ``TypeError`` or ``ValueError`` names the operands that do not fit."""
        inferred: TensorType = self.type_rule(*operand_types, **attributes)
        return inferred

    def evaluate(self, *arrays: np.ndarray, **attributes: Any) -> np.ndarray:
        """By NumPy: of complex numbers that lie in order, for the last bits of its results depend on that."""
        settled = [a if a.dtype in KERNEL_DTYPES or a.flags.c_contiguous else a.copy(order="C") for a in arrays]
        return np.asarray(self.numpy(*settled, **attributes))

    def is_differentiable_in(self, index: int) -> bool:
        return self.vjp is not None and (self.differentiable_operands is None or index in self.differentiable_operands)


@facts(frozen=True, eq=False, kw_only=True)
class Elementwise(Primitive):
    """``scalar(builder, *operands, **attributes)`` writes the scalar program (see :mod:`.scalar`).

    ``takes_complex``: the program is right for complex numbers too; ``numpy_complex`` then takes the place of ``numpy``
    where that gives other bits.
    """

    scalar: Callable[..., Any]
    takes_complex: bool = False
    numpy_complex: Callable[..., Any] | None = None
    batch: BatchRule | None = elementwise

    def evaluate(self, *arrays: np.ndarray, **attributes: Any) -> np.ndarray:
        if self.numpy_complex is not None and arrays[0].dtype.kind == "c":
            return np.asarray(self.numpy_complex(*arrays, **attributes))
        return Primitive.evaluate(self, *arrays, **attributes)


@facts(frozen=True, eq=False, kw_only=True)
class View(Primitive):
    """``index_map(index, operand_type, **attributes)`` gives the operand's index for a result's index.

    An index is a tuple with one entry a dimension; entries support ``+`` and ``*`` with integers, and
    the integer 0.  ``None`` in place of the tuple: the map is not affine, but the element order is the
    same (``reshape``).
    """

    index_map: Callable[..., tuple[Any, ...] | None]


@facts(frozen=True, eq=False, kw_only=True)
class Reduction(Primitive):
    """``combine`` names the scalar instruction; ``identity`` gives its neutral element for a dtype."""

    combine: str
    identity: Callable[[DType], Any]


@facts(frozen=True, eq=False, kw_only=True)
class Placement(Primitive):
    """``regions(operand_types, **attributes)``: for each copied operand its number, start and step.

    The operand numbered ``fill`` (if any) is a scalar that is written everywhere else.
    """

    regions: Callable[..., list[tuple[int, tuple[int, ...], tuple[int, ...]]]]
    fill: int | None = None


@facts(frozen=True, eq=False, kw_only=True)
class Indexing(Primitive):
    """``gather`` and ``scatter``: the backend knows each by name."""


@facts(frozen=True, eq=False, kw_only=True)
class Contraction(Primitive):
    """A matrix product."""


@facts(frozen=True, eq=False, kw_only=True)
class Library(Primitive):
    """NumPy's function, called between kernels: the same one eagerly and in programs."""


@facts(frozen=True, eq=False, kw_only=True)
class Generation(Primitive):
    """``scalar(builder, index, *operands, **attributes)``: the element at ``index`` (one entry a dimension)."""

    scalar: Callable[..., Any]


@facts(frozen=True, eq=False, kw_only=True)
class Composite(Primitive):
    """``decomposition(emitter, *operands, **attributes)`` says with other primitives what it means."""

    decomposition: Callable[..., Any]


def per_operand(*rules: Rule | None) -> VjpRule:
    """A vjp rule from one function an operand."""

    def vjp(emitter: Emitter, index: int, cotangent: Any, application: Application) -> Any:
        rule = rules[index]
        assert rule is not None, f"operand {index} of {application.primitive.name} has no derivative"
        return rule(emitter, cotangent, application)

    return vjp


def holomorphic(rule: Rule) -> Rule:
    """The vjp of an operand whose tangent ``rule`` maps to the result's by a complex matrix, or by its transpose.

    The adjoint of a product with ``f'(x)`` is the product with its conjugate.
    """

    def vjp(emitter: Emitter, cotangent: Any, application: Application) -> Any:
        if application.result_type.dtype.kind != "c":
            return rule(emitter, cotangent, application)
        return emitter.conjugate(rule(emitter, emitter.conjugate(cotangent), application))

    return vjp


def summed(*rules: Rule | None) -> JvpRule:
    """A jvp rule from one linear function an operand: what the tangents give is added up."""

    def jvp(emitter: Emitter, tangents: Sequence[Any], application: Application) -> Any:
        total = None
        for rule, tangent in zip(rules, tangents, strict=True):
            if rule is not None and tangent is not None:
                term = rule(emitter, tangent, application)
                total = term if total is None else emitter.add(total, term)
        return total

    return jvp


def linear(emitter: Emitter, tangents: Sequence[Any], application: Application) -> Any:
    """The jvp of a primitive that is linear in its differentiable operands, all taken together: itself."""
    primitive = application.primitive
    operands = [
        operand if not primitive.is_differentiable_in(i) else emitter.full(0, type) if tangent is None else tangent
        for i, (operand, type, tangent) in enumerate(
            zip(application.operands, application.operand_types, tangents, strict=True)
        )
    ]
    return emitter.apply(primitive, tuple(operands), application.attributes)


def _without_regions(
    primitive: Primitive, operands: tuple[Any, ...], attributes: Attributes, regions: Sequence[Block]
) -> Sequence[Any]:
    raise TypeError(f"{primitive.name} has regions, which cannot be applied to these values")


@facts
class Emitter:
    """Applies primitives by name: ``emitter.multiply(a, b)``, attributes as keywords.

    ``apply(primitive, operands, attributes)`` and ``constant(array)`` make it work on one kind of
    value, and ``control(primitive, operands, attributes, regions)`` applies one with regions, of which it
    makes copies, and gives its results.  Python numbers among the operands become constants of the other
    operand's dtype.
    """

    apply: Callable[[Primitive, tuple[Any, ...], Attributes], Any]
    constant: Callable[[np.ndarray], Any]
    control: Callable[[Primitive, tuple[Any, ...], Attributes, Sequence[Block]], Sequence[Any]] = _without_regions
    _cache: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        try:
            return self._cache[name]
        except KeyError:
            pass
        if name not in PRIMITIVES:
            raise AttributeError(f"there is no primitive named {name!r}")
        method = self._cache[name] = partial(self._apply, PRIMITIVES[name])
        return method

    def _apply(self, primitive: Primitive, *operands: Any, **attributes: Any) -> Any:
        if any(isinstance(operand, int | float) for operand in operands):
            dtype = next(operand.dtype for operand in operands if not isinstance(operand, int | float))
            operands = tuple(
                self.scalar(operand, dtype) if isinstance(operand, int | float) else operand for operand in operands
            )
        return self.apply(primitive, operands, attributes)

    def scalar(self, number: float | int, dtype: DType) -> Any:
        return self.constant(np.asarray(number, dtype))

    def full(self, number: float | int, type: TensorType) -> Any:
        return self.broadcast_to(self.scalar(number, type.dtype), type.shape)

    def reshape_to(self, value: Any, shape: Shape) -> Any:
        return value if same_shape(value.shape, shape) else self.reshape(value, shape=shape)

    def broadcast_to(self, value: Any, shape: Shape) -> Any:
        """``value`` stretched to ``shape`` by NumPy's rule."""
        if same_shape(value.shape, shape):
            return value
        offset = len(shape) - len(value.shape)
        return self.broadcast_in_dim(value, shape=shape, dimensions=tuple(range(offset, len(shape))))

    def sum_to(self, value: Any, shape: Shape) -> Any:
        """The adjoint of :meth:`broadcast_to`: sums out the axes along which ``shape`` was stretched."""
        if same_shape(value.shape, shape):
            return value
        lead = len(value.shape) - len(shape)
        axes = tuple(range(lead)) + tuple(
            lead + axis for axis, extent in enumerate(shape) if value.shape[lead + axis] != extent and extent == 1
        )
        return self.reshape_to(self.reduce_sum(value, axes=axes), shape)

    def keep_axes(self, reduced: Any, shape: Shape, axes: tuple[int, ...]) -> Any:
        """A reduction's result with the reduced ``axes`` of ``shape`` put back as extent 1."""
        kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
        return self.reshape_to(reduced, kept)


def same_dtype(name: str, *types: TensorType) -> DType:
    """The operands' common dtype, or ``TypeError``."""
    dtype = types[0].dtype
    for type in types[1:]:
        if type.dtype != dtype:
            raise TypeError(f"{name}: operands must have one dtype, got {', '.join(map(repr, types))}")
    return dtype


def broadcast_rule(name: str, *types: TensorType) -> Shape:
    """The operands' broadcast shape, or a ``ValueError`` that names them."""
    try:
        return broadcast_shapes(*[type.shape for type in types])
    except ValueError:
        shapes = " ".join(format_shape(type.shape) for type in types)
        raise ValueError(f"{name}: operands could not be broadcast together with shapes {shapes}") from None
