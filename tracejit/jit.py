"""``jit``: a function that is traced once for each kind of call, and from then on runs as one native program."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from tracejit.backends.forking import lock
from tracejit.ir import Location, TensorType
from tracejit.ir.facts import facts
from tracejit.ir.types import format_shape

from . import logs, native_calls
from .arguments import ArgumentsOfCall, StaticArguments
from .config import config
from .lazy import Stretches, run_lazily
from .listing import Listing
from .names import sees_order_of_keywords
from .paths import Segment, choose
from .state import thread
from .templates import Dimensions, following
from .tracing import Untraceable

if TYPE_CHECKING:
    from tracejit.backends.program import Program

MAX_SIGNATURES = 256  # of one function; the one first called goes first
MAX_ROOTS = 16  # trees of one signature, which differ in what was relied on; the one compiled longest ago goes first
MAX_PATHS = 64  # of one signature, in all trees
MAX_INTS = 16  # values of an int argument
MAX_MISSES = 8  # in a row: what such a function relies on changes at each call
STAGES = ("trace", "grad", "optimized", "kernels", "llvm", "asm", "cuda", "ptx")


@overload
def jit(
    function: Callable[..., Any],
    *,
    static_argnames: str | Sequence[str] = (),
    check: bool = False,
    numerics: str = "exact",
) -> JittedFunction: ...
@overload
def jit(
    function: None = None,
    *,
    static_argnames: str | Sequence[str] = (),
    check: bool = False,
    numerics: str = "exact",
) -> Callable[[Callable[..., Any]], JittedFunction]: ...
def jit(
    function: Callable[..., Any] | None = None,
    *,
    static_argnames: str | Sequence[str] = (),
    check: bool = False,
    numerics: str = "exact",
) -> Any:
    """Compile ``function``: the same results, to the bit, and the same effects on tensors, faster.

    The first call with arguments of some structure, shapes and dtypes records what the function does and compiles
    it; later calls run the native program.  Tensors that the function reaches by itself (parameters, optimizer state)
    are read afresh at each call and updated when it has run.  Where Python code must run at each call (it prints,
    say), it does, and what it computes is compiled in stretches; :meth:`JittedFunction.explain` says why.

    Float arguments are inputs like tensors; ``static_argnames`` names arguments whose numbers are to be written into
    the program instead, as ints are.  ``check=True`` runs each call eagerly too and raises ``AssertionError`` where
    a bit differs, in what is returned or in a tensor that is changed.  Only the sign and the payload of a NaN may
    differ: IEEE 754 leaves them open.

    Called on tensors that need gradients, its results can be differentiated outside.  Where several calls lead to one
    loss, the gradient of a parameter is then the sum of those of the calls, which may be rounded otherwise than in
    eager code, whose sum has a term for each use.

    ``numerics="fast"`` allows rewrites that hold for real numbers: reciprocals, constants gathered, ``x * 0`` as 0,
    ``x * y + z`` rounded once (see :mod:`tracejit.ir.passes.relax`).  Results may differ from those of eager code in
    their last bits, and where infinities and NaN come up.

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
    if numerics not in ("exact", "fast"):
        raise ValueError(f"jit: numerics is 'exact' or 'fast', got {numerics!r}")
    if check and numerics == "fast":
        raise ValueError("jit: check=True compares bits, which numerics='fast' gives up")
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    make = partial(JittedFunction, static_argnames=names, check=check, numerics=numerics)
    return make if function is None else make(function)


@dataclass(frozen=True)
class CacheInfo:
    """How often calls found a compiled program (``hits``), compiled one (``misses``) or ran Python code (``lazy``)."""

    hits: int
    misses: int
    lazy: int
    entries: int


@facts
class Lazy:
    """A kind of call whose Python code runs each time, why, and what of it has been compiled in stretches."""

    reason: str
    location: Location | None
    stretches: Stretches
    calls: int = 0


@facts
class Signature:
    """The calls of one kind: argument structure, shapes, dtypes, static values, gradient mode."""

    arguments: dict[str, Any]  # for people: types, or what they are
    records_gradients: bool
    family: Family
    roots: list[Segment] = field(default_factory=list)
    lazy: Lazy | None = None
    hits: int = 0  # in Python
    dropped: int = 0  # in native code, by what has been signed anew since then
    misses: int = 0  # since the last call that found its path
    served: int = 0  # calls by native code, up to the last miss
    version: int = 0  # goes up when a path is added
    because: str = ""  # why it is none of those before, for people
    keep: list[Any] = field(default_factory=list)  # objects that the key names by identity
    offered: int = 0  # the version that native code has been offered

    @property
    def description(self) -> str:
        """The calls, for people."""
        arguments = ", ".join(f"{name} {text}" for name, text in self.arguments.items())
        return f"{arguments or 'no arguments'}{'' if self.records_gradients else ', without gradients'}"

    def differences(self, other: Signature) -> list[str]:
        """What is other than in earlier calls, for people."""
        if self.arguments.keys() != other.arguments.keys():
            return [f"the arguments were {other.description}, now {self.description}"]
        found = []
        for name, now in self.arguments.items():
            before = other.arguments[name]
            if isinstance(now, TensorType) and isinstance(before, TensorType):
                if before.shape != now.shape:
                    found.append(f"`{name}` had shape {format_shape(before.shape)}, now {format_shape(now.shape)}")
                if before.dtype != now.dtype:
                    found.append(f"`{name}` had dtype {before.dtype}, now {now.dtype}")
            elif before != now:
                found.append(f"`{name}` was {before}, now {now}")
        if self.records_gradients != other.records_gradients:
            found.append(f"gradients were {'' if other.records_gradients else 'not '}recorded before")
        return found or ["`requires_grad` of an argument, or which arguments are one tensor, is other than before"]

    @property
    def endings(self) -> list[Segment]:
        """The last segments of all paths."""
        return [segment for root in self.roots for segment in root.walk() if segment.ending is not None]


@facts
class Family:
    """Signatures that differ in extents and ints alone."""

    signatures: int = 0
    lazy: Lazy | None = None
    dimensions: Dimensions = field(default_factory=Dimensions)


class JittedFunction:
    """What :func:`jit` returns: called like the function; ``ir``, ``explain`` and ``cache_info`` show its insides."""

    __slots__ = ("__dict__", "__weakref__", "_signed")

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        static_argnames: tuple[str, ...] = (),
        check: bool = False,
        numerics: str = "exact",
    ) -> None:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"jit cannot compile the coroutine function {getattr(function, '__name__', function)!r}")
        # A function's attributes are copied, those of an object stay its own: see __getattr__.
        updated = ("__dict__",) if isinstance(function, types.FunctionType) else ()
        functools.update_wrapper(self, function, updated=updated)
        self._function = function
        self._name = getattr(function, "__name__", type(function).__name__).strip("<>")
        self._static_argnames, self._check, self._numerics = static_argnames, check, numerics
        self._static = StaticArguments(function, static_argnames) if static_argnames else None
        self._ordered = sees_order_of_keywords(function)
        self._signatures: dict[Any, Signature] = {}
        self._families: dict[Any, Family] = {}
        self._lock = lock()
        self._signed: tuple[native_calls.Signed, ...] | None = None  # kinds of calls that native code makes
        self._hits = self._misses = self._lazy_calls = 0
        self._history: deque[str] = deque(maxlen=MAX_SIGNATURES)

    @property
    def checks(self) -> bool:
        """Whether each call is made eagerly too, and compared."""
        return self._check

    def __getattr__(self, name: str) -> Any:
        """What a jitted object has: a module's ``parameters()``, ``eval()``, ``state_dict()`` …"""
        function = self.__dict__.get("_function")
        if name.startswith("_") or isinstance(function, types.FunctionType):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(function, name)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<jitted function {self._name}>"

    def __reduce__(self) -> Any:
        return _remade, (self._function, self._static_argnames, self._check, self._numerics)

    def __deepcopy__(self, memo: dict[int, Any]) -> JittedFunction:
        function = copy.deepcopy(self._function, memo)
        made = memo[id(self)] = _remade(function, self._static_argnames, self._check, self._numerics)
        return made

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if thread.trace is not None or thread.level is not None:  # part of what is traced or transformed
            return self._function(*args, **kwargs)
        if config.disable_jit:
            return self._function(*args, **kwargs)
        call = ArgumentsOfCall(self._static, args, kwargs, ordered=self._ordered)
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
            if signature.hits & (signature.hits - 1) == 0 or signature.offered != version:  # 0, 1, 2, 4, 8 …
                native_calls.offer(self, call, signature)
            found, result = self._run(signature.roots, call)
            if found:
                self._hits += 1
                signature.misses = 0
                signature.hits += 1
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
            while len(self._families) >= MAX_SIGNATURES:
                del self._families[next(iter(self._families))]
            family = self._families.setdefault(call.family_key(), Family())
            if family.lazy is not None and call.named_by_identity:  # of objects that come once, nothing is kept
                return Signature({}, thread.grad_enabled, family, lazy=family.lazy)
            family.signatures += 1
            family.dimensions.add(call.tensors)
            last = next(reversed(self._signatures.values()), None)
            described = call.describe(self._function)
            signature = Signature(described, thread.grad_enabled, family, lazy=family.lazy)
            self._signatures[call.key] = signature
            if last is not None:
                signature.because = "; ".join(signature.differences(last))
            signature.keep = call.named_by_identity
        if signature.lazy is not None or signature.version != version:
            return signature
        known = choose(signature.roots, call.tensors)
        if self._extend(signature, call, known):
            return signature
        if known is None and signature.roots:
            self._note_recompilation(signature, call)
        elif signature.because and not signature.roots:
            self._note(f"traced again: {signature.because}")
        elif known is not None:
            logs.trace.info("%s: traced for another outcome, with %s", self._name, signature.description)
        else:
            logs.trace.info("%s: traced for %s", self._name, signature.description)
        self._misses += 1
        served = signature.dropped + sum(signed.calls for signed in self._signed or () if signed.origin == call.key)
        signature.misses = signature.misses + 1 if served == signature.served else 1
        signature.served = served
        try:
            if call.iterators:
                raise Untraceable(f"an argument is an iterator, a {type(call.iterators[0]).__name__}")
            if signature.family.signatures > MAX_INTS and call.ints and not signature.roots:
                raise Untraceable(f"an int argument has had {MAX_INTS} values; a float or a tensor compiles once")
            if signature.family.signatures > MAX_INTS and call.named_by_identity and not signature.roots:
                kind = type(call.named_by_identity[0]).__name__
                raise Untraceable(
                    f"an argument has been {MAX_INTS} objects of {kind}; one that is a container of tensors "
                    "(tracejit.register_container, a dataclass, a dict) compiles once"
                )
            if signature.misses > MAX_MISSES:
                raise Untraceable(f"{MAX_MISSES} calls in a row had to be compiled{self._last_cause()}")
            if len({id(ending.origin) for ending in signature.endings}) >= MAX_PATHS:
                raise Untraceable(f"it has taken {MAX_PATHS} paths")
            compile_call(
                self._function, self._name, call, signature.roots, signature.family.dimensions,
                specialize=signature.family.signatures == 1, fast=self._numerics == "fast",
            )  # fmt: skip
        except Untraceable as reason:
            signature.lazy = Lazy(reason.reason, reason.location, Stretches())
            logs.trace.info("%s: its Python code runs at each call: %s", self._name, reason)
            if "argument has" in reason.reason:
                signature.family.lazy = signature.lazy
            return signature
        except BaseException:
            if not signature.roots:
                del self._signatures[call.key]
            raise
        del signature.roots[MAX_ROOTS:]
        signature.version += 1
        return signature

    def _extend(self, signature: Signature, call: ArgumentsOfCall, known: Segment | None) -> bool:
        """Add what a call needs, where that has been traced for other extents: no Python code runs."""
        from .compiled import compile_path

        missed, thread.missed = thread.missed, None
        if known is None:
            made = signature.family.dimensions.path_for(call, signature.roots)
        else:
            made = None if missed is None else following(*missed, call.tensors)
        if made is None:
            return False
        compile_path(made.path(), specialize=False, fast=self._numerics == "fast")
        if made.after is None:  # other threads see it from here on
            signature.roots.insert(0, made)
            del signature.roots[MAX_ROOTS:]
        else:
            made.graft(made.outcome)
        self._hits += 1
        signature.version += 1
        logs.trace.info("%s: an earlier trace serves %s", self._name, signature.description)
        return True

    def _note_recompilation(self, signature: Signature, call: ArgumentsOfCall) -> None:
        """Which guard of the path taken last no longer holds."""
        for guard in signature.roots[0].guards:
            if not guard.holds(call.tensors):
                place = guard.where()
                where = f" ({place})" if place else ""
                self._note(f"traced again for {signature.description}: {guard.cause()}{where}")
                return

    def _note(self, event: str) -> None:
        self._history.append(event)
        logs.trace.info("%s: %s", self._name, event)

    def _last_cause(self) -> str:
        return f"; the last was {self._history[-1]}" if self._history else ""

    # Looking inside ---------------------------------------------------------------------------------

    def ir(self, *args: Any, stage: str = "optimized", **kwargs: Any) -> str:
        """The program that a call with these arguments runs, as text (in colours at a terminal), without running it.

        ``stage`` is ``"trace"`` (as recorded), ``"grad"`` (with the gradient of its outputs: what runs forward, and
        keeps values, and what runs backward from those), ``"optimized"``, ``"kernels"``, ``"llvm"``, ``"asm"``,
        ``"cuda"`` (with what each kernel takes of the GPU, where NVRTC is installed, the ``nvrtc`` extra) or ``"ptx"``
        (which needs that).
        """
        if stage not in STAGES:
            raise ValueError(f"unknown stage {stage!r}: expected one of {', '.join(STAGES)}")
        from .compiled import text_of

        return Listing(text_of(self._path(args, kwargs), stage))

    def programs(self, *args: Any, **kwargs: Any) -> list[Program]:
        """The programs that a call with these arguments may run, those of its gradient included, without running it."""
        return [code.program for code in self.codes(args, kwargs)]

    def codes(self, args: Any, kwargs: Any) -> Iterator[Any]:
        """What a call with these arguments may run: graphs with their programs."""
        for segment in self._path(args, kwargs).walk():
            if segment.code is not None:
                yield segment.code
            if segment.ending is not None and segment.ending.backward is not None:
                yield segment.ending.backward

    def anew(self) -> JittedFunction:
        """The same function, of which nothing is compiled."""
        return JittedFunction(
            self._function, static_argnames=self._static_argnames, check=self._check, numerics=self._numerics
        )

    def _path(self, args: Any, kwargs: Any) -> Segment:
        """The first segment that a call goes through, compiled if need be."""
        call = ArgumentsOfCall(self._static, args, kwargs, ordered=self._ordered)
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
        return root

    def explain(self) -> str:
        """What was compiled, for which calls, how long it took, and what runs eagerly and why."""
        from .explain import explain

        return explain(self._name, self._signatures.values(), self._history)

    def cache_info(self) -> CacheInfo:
        """Counts of the calls so far, as ``functools.lru_cache`` gives them."""
        entries = sum(len(s.endings) + (s.lazy is not None) for s in self._signatures.values())
        hits = self._hits + sum(signed.calls for signed in self._signed or ())
        return CacheInfo(hits, self._misses, self._lazy_calls, entries)

    def clear_cache(self) -> None:
        """Forget everything that was compiled."""
        with self._lock:
            self._hits += sum(signed.calls for signed in self._signed or ())
            self._signed = None
            self._signatures.clear()
            self._families.clear()


def _remade(
    function: Callable[..., Any], static_argnames: tuple[str, ...], check: bool, numerics: str = "exact"
) -> JittedFunction:
    return jit(function, static_argnames=static_argnames, check=check, numerics=numerics)


__all__ = ["CacheInfo", "JittedFunction", "jit"]
