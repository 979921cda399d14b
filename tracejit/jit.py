"""``jit``: a function that is traced once for each kind of call, and from then on runs as one native program."""

from __future__ import annotations

import copy
import datetime
import enum
import functools
import inspect
import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, overload

import numpy as np

from tracejit.ir import Location
from tracejit.ir.types import TensorType, float64

from . import tree
from .config import config
from .guards import ArgumentsAre
from .lazy import Stretches, run_lazily
from .names import leaf_names
from .paths import Segment, choose
from .sources import Argument, FloatArgument
from .state import thread
from .tensor import Tensor, new_tensor, twin_of
from .tracing import Trace, Untraceable

MAX_SIGNATURES = 256  # of one function; the one first called goes first
MAX_ROOTS = 16  # trees of one signature, which differ in what was relied on; the one compiled longest ago goes first
MAX_PATHS = 64  # of one signature, in all trees
MAX_INTS = 16  # values of an int argument
MAX_MISSES = 8  # in a row: what such a function relies on changes at each call
STAGES = ("trace", "grad", "optimized", "kernels", "llvm", "asm", "cuda", "ptx")


@overload
def jit(
    function: Callable[..., Any], *, static_argnames: str | Sequence[str] = (), check: bool = False
) -> JittedFunction: ...
@overload
def jit(
    function: None = None, *, static_argnames: str | Sequence[str] = (), check: bool = False
) -> Callable[[Callable[..., Any]], JittedFunction]: ...
def jit(
    function: Callable[..., Any] | None = None, *, static_argnames: str | Sequence[str] = (), check: bool = False
) -> Any:
    """Compile ``function``: the same results, to the bit, and the same effects on tensors, faster.

    The first call with arguments of some structure, shapes and dtypes records what the function does and compiles
    it; later calls run the native program.  Tensors that the function reaches by itself (parameters, optimizer state)
    are read afresh at each call and updated when it has run.  Where Python code must run at each call (it prints,
    say), it does, and what it computes is compiled in stretches; :meth:`JittedFunction.explain` says why.

    Float arguments are inputs like tensors; ``static_argnames`` names arguments whose numbers are to be written into
    the program instead, as ints are.  ``check=True`` runs each call eagerly too and raises ``AssertionError`` where
    a bit differs, in what is returned or in a tensor that is changed.

    >>> import tracejit as tj
    >>> @tj.jit
    ... def scale(x, factor):
    ...     return x * factor
    >>> scale(tj.tensor([1.0, 2.0]), 3.0)
    tensor([3., 6.])
    >>> scale.cache_info().misses
    1
    """
    if function is not None and not callable(function):
        raise TypeError(f"jit expects a function, got {type(function).__name__} {function!r:.60}")
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    make = partial(JittedFunction, static_argnames=names, check=check)
    return make if function is None else make(function)


@dataclass(frozen=True)
class CacheInfo:
    """How often calls found a compiled program (``hits``), compiled one (``misses``) or ran Python code (``lazy``)."""

    hits: int
    misses: int
    lazy: int
    entries: int


@dataclass
class Lazy:
    """A kind of call whose Python code runs each time, why, and what of it has been compiled in stretches."""

    reason: str
    location: Location | None
    stretches: Stretches
    calls: int = 0


@dataclass
class Signature:
    """The calls of one kind: argument structure, shapes, dtypes, static values, gradient mode."""

    description: str
    family: Family
    roots: list[Segment] = field(default_factory=list)
    lazy: Lazy | None = None
    misses: int = 0  # since the last call that found its path
    version: int = 0  # goes up when a path is added

    @property
    def endings(self) -> list[Segment]:
        """The last segments of all paths."""
        return [segment for root in self.roots for segment in root.walk() if segment.ending is not None]


@dataclass
class Family:
    """Signatures that differ in extents and ints alone."""

    signatures: int = 0
    lazy: Lazy | None = None


class JittedFunction:
    """What :func:`jit` returns: called like the function; ``ir``, ``explain`` and ``cache_info`` show its insides."""

    def __init__(
        self, function: Callable[..., Any], *, static_argnames: tuple[str, ...] = (), check: bool = False
    ) -> None:
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"jit cannot compile the coroutine function {getattr(function, '__name__', function)!r}")
        functools.update_wrapper(self, function)
        self._function = function
        self._name = getattr(function, "__name__", type(function).__name__).strip("<>")
        self._static_argnames, self._check = static_argnames, check
        self._static_positions = _positions(function, static_argnames)
        self._signatures: dict[Any, Signature] = {}
        self._families: dict[Any, Family] = {}
        self._lock = threading.RLock()
        self._hits = self._misses = self._lazy_calls = 0
        self._keep: list[Any] = []  # objects that keys name by identity
        self._history: list[str] = []

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<jitted function {self._name}>"

    def __reduce__(self) -> Any:
        return _remade, (self._function, self._static_argnames, self._check)

    def __deepcopy__(self, memo: dict[int, Any]) -> JittedFunction:
        made = memo[id(self)] = _remade(copy.deepcopy(self._function, memo), self._static_argnames, self._check)
        return made

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if thread.trace is not None or thread.level is not None:  # part of what is traced or transformed
            return self._function(*args, **kwargs)
        if config.disable_jit:
            return self._function(*args, **kwargs)
        call = ArgumentsOfCall(self, args, kwargs)
        if self._check:
            from .checking import checked_call

            return checked_call(self, self._function, call)
        return self._call(call)

    def _call(self, call: ArgumentsOfCall) -> Any:
        args, kwargs = call.args, call.kwargs
        signature = self._signatures.get(call.key)
        if signature is not None:
            if signature.lazy is not None:
                return self._run_lazily(signature.lazy, args, kwargs)
            version = signature.version
            found, result = self._run(signature.roots, call)
            if found:
                self._hits += 1
                signature.misses = 0
                return result
        else:
            version = 0
        while True:
            with self._lock:
                signature = self._compile(call, version)
            if signature.lazy is not None:
                return self._run_lazily(signature.lazy, args, kwargs)
            version = signature.version
            found, result = self._run(signature.roots, call)
            if found:
                return result

    @staticmethod
    def _run(roots: list[Segment], call: ArgumentsOfCall) -> tuple[bool, Any]:
        from .compiled import run  # here, so that importing tracejit does not load the compiler

        return run(roots, call)

    def _run_lazily(self, lazy: Lazy, args: Any, kwargs: Any) -> Any:
        self._lazy_calls += 1
        lazy.calls += 1
        return run_lazily(self._function, lazy.stretches, args, kwargs)

    def _compile(self, call: ArgumentsOfCall, version: int) -> Signature:
        """Add the path that a call takes, unless another thread has added one since ``version``."""
        from .recording import compile_call

        signature = self._signatures.get(call.key)
        if signature is None:
            while len(self._signatures) >= MAX_SIGNATURES:
                del self._signatures[next(iter(self._signatures))]
            family = self._families.setdefault(call.family_key(), Family())
            family.signatures += 1
            signature = self._signatures[call.key] = Signature(call.describe(), family, lazy=family.lazy)
            self._keep += call.named_by_identity
        if signature.lazy is not None or signature.version != version:
            return signature
        known = choose(signature.roots, call.tensors)
        if known is None and signature.roots:
            self._note_recompilation(signature, call)
        self._misses += 1
        signature.misses += 1
        try:
            if call.iterators:
                raise Untraceable(f"an argument is an iterator, a {type(call.iterators[0]).__name__}")
            if signature.family.signatures > MAX_INTS and call.ints and not signature.roots:
                raise Untraceable(f"an int argument has had {MAX_INTS} values; a float or a tensor compiles once")
            if signature.misses > MAX_MISSES:
                raise Untraceable(f"{MAX_MISSES} calls in a row had to be compiled{self._last_cause()}")
            if len(signature.endings) >= MAX_PATHS:
                raise Untraceable(f"it has taken {MAX_PATHS} paths")
            compile_call(self._function, self._name, call, signature.roots, specialize=signature.family.signatures == 1)
        except Untraceable as reason:
            signature.lazy = Lazy(reason.reason, reason.location, Stretches())
            if "int argument" in reason.reason:
                signature.family.lazy = signature.lazy
            return signature
        except BaseException:
            if not signature.roots:
                del self._signatures[call.key]
            raise
        del signature.roots[MAX_ROOTS:]
        signature.version += 1
        return signature

    def _note_recompilation(self, signature: Signature, call: ArgumentsOfCall) -> None:
        """Which guard of the path taken last no longer holds."""
        for guard in signature.roots[0].guards:
            if not guard.holds(call.tensors):
                now = guard.describe_now()
                what = f"{guard.describe()}{f', it is {now}' if now else ''}"
                where = f" ({guard.location})" if guard.location else ""
                self._history.append(f"recompiled for {signature.description}: no longer true that {what}{where}")
                return

    def _last_cause(self) -> str:
        return f"; the last was {self._history[-1]}" if self._history else ""

    @property
    def has_static_arguments(self) -> bool:
        return bool(self._static_argnames)

    def static_leaves(self, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]) -> frozenset[int]:
        """The numbers of the leaves that belong to static arguments."""
        found: set[int] = set()
        count = 0
        given = [(self._static_positions.get(position), item) for position, item in enumerate(args)]
        for name, item in [*given, *sorted(kwargs.items())]:
            own: list[Any] = []
            tree.flatten(item, own)
            if name in self._static_argnames:
                found.update(range(count, count + len(own)))
            count += len(own)
        return frozenset(found)

    # Looking inside ---------------------------------------------------------------------------------

    def ir(self, *args: Any, stage: str = "optimized", **kwargs: Any) -> str:
        """The program that a call with these arguments runs, as text, without running it.

        ``stage`` is ``"trace"`` (as recorded), ``"grad"`` (the gradient of its outputs), ``"optimized"``,
        ``"kernels"``, ``"llvm"``, ``"asm"``, ``"cuda"`` or ``"ptx"`` (needs NVRTC, the ``nvrtc`` extra).
        """
        if stage not in STAGES:
            raise ValueError(f"unknown stage {stage!r}: expected one of {', '.join(STAGES)}")
        from .compiled import text_of

        call = ArgumentsOfCall(self, args, kwargs)
        signature = self._signatures.get(call.key)
        root = None if signature is None else choose(signature.roots, call.tensors)
        if signature is None or (root is None and signature.lazy is None):
            with self._lock:
                signature = self._compile(call, 0 if signature is None else signature.version)
            root = choose(signature.roots, call.tensors)
        lazy = signature.lazy
        if lazy is not None:
            reason = f"{lazy.reason} ({lazy.location})"
            raise RuntimeError(f"the Python code of {self._name} runs at each call with these arguments: {reason}")
        assert root is not None
        return text_of(root, stage)

    def explain(self) -> str:
        """What was compiled, for which calls, how long it took, and what runs eagerly and why."""
        from .explain import explain

        return explain(self._name, self._signatures.values(), self._history)

    def cache_info(self) -> CacheInfo:
        """Counts of the calls so far, as ``functools.lru_cache`` gives them."""
        entries = sum(len(s.endings) + (s.lazy is not None) for s in self._signatures.values())
        return CacheInfo(self._hits, self._misses, self._lazy_calls, entries)

    def clear_cache(self) -> None:
        """Forget everything that was compiled."""
        with self._lock:
            self._signatures.clear()
            self._families.clear()
            self._keep.clear()


# One call's arguments --------------------------------------------------------------------------------------


class ArgumentsOfCall:
    """Arguments taken apart: tensors, floats, and a key for everything that the traced program depends on."""

    __slots__ = (
        "_leaves", "_static", "args", "floats", "ints", "iterators", "key", "kwargs", "named_by_identity", "structure",
        "tensors",
    )  # fmt: skip

    def __init__(self, function: JittedFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args, self.kwargs = args, kwargs
        leaves: list[Any] = []
        self.structure = tree.flatten((args, dict(sorted(kwargs.items()))), leaves)
        self._leaves = leaves
        self._static = function.static_leaves(args, kwargs, leaves) if function.has_static_arguments else frozenset()
        self.tensors: list[Tensor] = []
        self.floats: list[float] = []
        self.ints = False
        self.named_by_identity: list[Any] = []
        self.iterators: list[Any] = []
        parts: list[Any] = []
        for number, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor):
                self.tensors.append(leaf)
                value = leaf._value
                parts.append((value.dtype, value.shape, leaf._requires_grad, leaf._node is None))
            elif number in self._static:
                parts.append((type(leaf), repr(leaf) if isinstance(leaf, float) else self._key_of(leaf)))
            elif isinstance(leaf, float):
                self.floats.append(float(leaf))
                parts.append(float)
            elif isinstance(leaf, np.ndarray | np.generic):
                self.tensors.append(new_tensor(np.array(leaf, leaf.dtype.newbyteorder("="), order="C")))
                parts.append(("array", leaf.dtype, leaf.shape))
            else:
                parts.append((type(leaf), self._key_of(leaf)))
        identities = [id(tensor) for tensor in self.tensors]
        aliases = tuple(map(identities.index, identities)) if len(set(identities)) < len(identities) else None
        self.key = self.structure, tuple(parts), aliases, thread.grad_enabled

    def _key_of(self, leaf: Any) -> Any:
        kind = type(leaf)
        if kind in _BY_VALUE:
            self.ints |= kind is int
            return leaf
        if kind is slice:
            return leaf.start, leaf.stop, leaf.step
        if isinstance(leaf, enum.Enum | np.dtype | frozenset | datetime.date | datetime.timedelta):
            return leaf
        if isinstance(leaf, complex):
            return repr(leaf)
        if hasattr(kind, "__next__"):
            self.iterators.append(leaf)
        self.named_by_identity.append(leaf)  # kept alive with the key, so that the identity is not used again
        return id(leaf)

    def family_key(self) -> Any:
        """The key without extents and ints."""
        parts = []
        for part in self.key[1]:
            match part:
                case (np.dtype() as dtype, tuple() as shape, *rest):
                    parts.append((dtype, len(shape), *rest))
                case ("array", dtype, shape):
                    parts.append((dtype, len(shape)))
                case (kind, _) if kind is int:
                    parts.append(int)
                case _:
                    parts.append(part)
        return self.key[0], tuple(parts), self.key[2:]

    def describe(self) -> str:
        """The call for people: each argument's type."""
        parts = [
            repr(TensorType(leaf._value.dtype, leaf._value.shape)) if isinstance(leaf, Tensor)
            else repr(TensorType(leaf.dtype, leaf.shape)) if isinstance(leaf, np.ndarray)
            else "float" if type(leaf) is float
            else repr(leaf)[:40]
            for leaf in self._leaves
        ]  # fmt: skip
        return f"({', '.join(parts)}){'' if thread.grad_enabled else ' without gradients'}"

    def trace_arguments(
        self, trace: Trace, function: Callable[..., Any], *, themselves: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments to trace with: tensors become parameters of the graph, floats weak 0-d tensors.

        The function gets twins of the tensors, so that it shows where it reaches one of them by another way than
        its arguments; or, if that is known, the tensors ``themselves``.
        """
        names = leaf_names(function, self.args, self.kwargs)
        twins: dict[int, Tensor] = {}
        replaced: list[Any] = []
        position = floats = 0
        for index, (name, leaf) in enumerate(zip(names, self._leaves, strict=True)):
            if isinstance(leaf, Tensor | np.ndarray) or (isinstance(leaf, np.generic) and not isinstance(leaf, float)):
                tensor = self.tensors[position]
                if not themselves:
                    trace.arguments.add(id(tensor))
                    tensor = twins[id(tensor)] if id(tensor) in twins else _twin(tensor, twins)
                shadow = trace.shadows.get(id(tensor))
                if shadow is None:
                    shadow = trace.shadow_from(tensor, Argument(position))
                    shadow._value = shadow.first = trace.parameter(
                        TensorType(tensor.dtype, tensor.shape), shadow.source, name
                    )
                    trace.captured.append((shadow.source, shadow._value))
                position += 1
                replaced.append(tensor)
            elif isinstance(leaf, float) and index not in self._static:
                number = new_tensor(trace.parameter(TensorType(float64, ()), FloatArgument(floats), name))
                number._weak = True
                replaced.append(number)
                floats += 1
            else:
                replaced.append(leaf)
        if themselves:
            trace.arguments_are_themselves = True
            trace.guard("arguments", ArgumentsAre(self.tensors))
        args, kwargs = thread.arguments = tree.unflatten(self.structure, iter(replaced))
        return args, kwargs


_BY_VALUE = frozenset((int, str, bytes, bool, type(None), type(Ellipsis), range))


def _remade(function: Callable[..., Any], static_argnames: tuple[str, ...], check: bool) -> JittedFunction:
    return jit(function, static_argnames=static_argnames, check=check)


def _positions(function: Callable[..., Any], names: Sequence[str]) -> dict[int, str]:
    """Where arguments stand that may be given by position; ``ValueError`` for a name that the function does not have."""
    if not names:
        return {}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name in names:
        if name not in parameters and not takes_any:
            raise ValueError(f"static_argnames: {name!r} is no argument of {getattr(function, '__name__', function)}")
    return {position: name for position, name in enumerate(parameters) if name in names}


def _twin(tensor: Tensor, twins: dict[int, Tensor]) -> Tensor:
    twin = twins[id(tensor)] = twin_of(tensor)
    return twin


__all__ = ["CacheInfo", "JittedFunction", "jit"]
