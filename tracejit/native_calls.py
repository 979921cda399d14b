"""Calls of jitted functions in native code, once a kind of call has been seen a few times.

Where a call is not of a kind that has been signed (:mod:`.signing`), or what the path relies on has changed, it is made
in Python as ever, and gives the same.  ``TRACEJIT_NATIVE_CALLS=0`` leaves all calls to Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .paths import choose

if TYPE_CHECKING:
    from tracejit.backends.cpu.signatures import Signature as Signed

    from .arguments import ArgumentsOfCall
    from .jit import JittedFunction, Signature

HITS_WORTH_LOADING = 4  # of one signature, in Python
MOST_SIGNATURES = 8  # of one function; the one signed longest ago goes first

_is_asked_for = _is_installed = False


def offer(function: JittedFunction, call: ArgumentsOfCall, signature: Signature) -> None:
    """Have native code make calls like this one, which is about to be made in Python."""
    global _is_asked_for
    if function.checks:
        return
    if not _is_installed:
        if signature.hits >= HITS_WORTH_LOADING and not _is_asked_for:
            _is_asked_for = True
            from tracejit.backends.cpu import compiler

            compiler.run_later(install)
        return
    from .looking import Unsigned
    from .signing import sign

    signature.offered = signature.version
    root = choose(signature.roots, call.tensors)
    if root is None:
        return
    try:
        signed = sign(call, root)
    except Unsigned:
        return
    others: list[Signed] = []
    for other in function._signed or ():
        if other.origin == call.key:
            signature.dropped += other.calls
            function._hits += other.calls
        else:
            others.append(other)
    function._hits += sum(other.calls for other in others[MOST_SIGNATURES - 1 :])
    function._signed = (signed, *others[: MOST_SIGNATURES - 1])


def install() -> bool:
    """Put native code in the place of Python's; whether there is any."""
    global _is_installed
    from tracejit.backends.cpu import calls, objects

    from . import native, state
    from .compiled import effects
    from .jit import JittedFunction

    layout = native.layout()
    if layout is None:
        return False
    if not _is_installed:
        in_python = JittedFunction.__call__

        def slow(function: JittedFunction, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
            return in_python(function, *args, **(kwargs or {}))

        callables = calls.Callables(
            JittedFunction, "_signed", slow, state.unrecorded.buffer_info()[0], effects.held.ctypes.data,
            effects.acquire, effects.release,
        )  # fmt: skip
        compiled = calls.compile_calls(*layout, callables)
        for name, address in (("__call__", compiled.call), ("__get__", compiled.method)):
            setattr(JittedFunction, name, objects.special_method(JittedFunction, name, address))
        _is_installed = True
    return True
