"""Hooks of a module: functions that see, and may replace, what flows through it forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..autograd.function import Function, FunctionContext
from ..locations import at_user_line
from ..tensor import RemovableHandle, Tensor

Gradients = tuple[Tensor | None, ...]


class Hooked:
    """Mixed into :class:`~tracejit.nn.Module`: the methods that register hooks."""

    _module_hooks: ModuleHooks | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _begin_module_change(self, name: str) -> None:
        raise NotImplementedError

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before each ``forward``; what it returns (if not None) replaces the arguments.

        With ``with_kwargs`` it is ``hook(module, args, kwargs)``, and returns both.
        """
        return self._add_module_hook("forward_pre", hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after each ``forward``; what it returns (if not None) replaces that.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``.

        >>> import tracejit as tj
        >>> from tracejit import nn
        >>> layer = nn.ReLU()
        >>> handle = layer.register_forward_hook(lambda module, args, output: output * 10)
        >>> layer(tj.tensor([1.0]))
        tensor([10.])
        """
        return self._add_module_hook("forward", hook, prepend, with_kwargs)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when the outputs' gradients are known; it may return others."""
        return self._add_module_hook("backward_pre", hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the inputs are known.

        Both are tuples with ``None`` where there is no gradient; the hook may return another ``grad_input``.
        """
        return self._add_module_hook("backward", hook, prepend)

    def _add_module_hook(
        self, kind: str, hook: Callable[..., Any], prepend: bool, with_kwargs: bool = False
    ) -> RemovableHandle:
        self._begin_module_change("hooks")
        if self._module_hooks is None:
            self.__dict__["_module_hooks"] = ModuleHooks()
        assert self._module_hooks is not None
        return self._module_hooks.add(self, kind, hook, prepend, with_kwargs)


class ModuleHookHandle(RemovableHandle):
    """Takes a module's hook away again; functions compiled with it notice."""

    def __init__(self, module: Hooked, hooks: dict[int, Any], hook: Any) -> None:
        super().__init__(hooks, hook)
        self._module = module

    def remove(self) -> None:
        self._module._begin_module_change("hooks")
        super().remove()


class ModuleHooks:
    """All hooks of one module, by kind, in the order in which they are called."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[int, tuple[Callable[..., Any], bool]]] = {
            kind: {} for kind in ("forward_pre", "forward", "backward_pre", "backward")
        }

    def add(
        self, module: Hooked, kind: str, hook: Callable[..., Any], prepend: bool, with_kwargs: bool
    ) -> RemovableHandle:
        """Add a hook, after or before the others of its kind."""
        hooks = self._kinds[kind]
        earlier = dict(hooks) if prepend else {}
        handle = ModuleHookHandle(module, hooks, (hook, with_kwargs))
        for number, item in earlier.items():
            del hooks[number]
            hooks[number] = item
        return handle

    def kinds(self) -> Iterable[dict[int, tuple[Callable[..., Any], bool]]]:
        """The hooks of each kind, by number, each with whether it takes keyword arguments."""
        return self._kinds.values()

    def functions(self) -> list[Callable[..., Any]]:
        """The hooks of all kinds."""
        return [hook for hooks in self.kinds() for hook, _ in hooks.values()]

    def call(self, module: Hooked, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The module's ``forward`` with all hooks around it."""
        for hook, with_kwargs in list(self._kinds["forward_pre"].values()):
            found = hook(module, args, kwargs) if with_kwargs else hook(module, args)
            if found is None:
                continue
            if with_kwargs:
                if not (isinstance(found, tuple) and len(found) == 2):
                    message = "forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got "
                    raise at_user_line(RuntimeError(f"{message}{found}."))
                args, kwargs = found
            else:
                args = found if isinstance(found, tuple) else (found,)
        passage = _Passage(module, self) if self._kinds["backward"] or self._kinds["backward_pre"] else None
        if passage is not None:
            args = passage.enter(args)
        output = module.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._kinds["forward"].values()):
            found = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
            if found is not None:
                output = found
        return output if passage is None else passage.leave(output)

    def before_backward(self, module: Hooked, gradients: Gradients) -> Gradients:
        """The outputs' gradients as the hooks leave them."""
        for hook, _ in list(self._kinds["backward_pre"].values()):
            gradients = _replaced(gradients, hook(module, gradients), "Backward pre hook")
        return gradients

    def after_backward(self, module: Hooked, inputs: Gradients, outputs: Gradients) -> Gradients:
        """The inputs' gradients as the hooks leave them."""
        for hook, _ in list(self._kinds["backward"].values()):
            inputs = _replaced(inputs, hook(module, inputs, outputs), "Backward hook")
        return inputs


def _replaced(gradients: Gradients, found: Any, what: str) -> Gradients:
    if found is None:
        return gradients
    items = found if isinstance(found, tuple) else (found,)
    if len(items) != len(gradients):
        message = f"{what} returned an invalid number of grad_input, got {len(items)}, but expected {len(gradients)}"
        raise at_user_line(RuntimeError(message))
    return items


class _Passage:
    """One call of a module with backward hooks: what goes in and out passes a gate that sees the gradients."""

    def __init__(self, module: Hooked, hooks: ModuleHooks) -> None:
        self._module, self._hooks = module, hooks
        self._outputs: Gradients = ()
        self._inputs = 0
        self._watched = False  # whether an input's gradient is asked for

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self._inputs = len(args)
        self._watched = any(isinstance(item, Tensor) and item.requires_grad for item in args)
        return _through(self._at_inputs, args) if self._watched else args

    def leave(self, output: Any) -> Any:
        items = tuple(output) if isinstance(output, tuple | list) else (output,)
        if not any(isinstance(item, Tensor) and item.requires_grad for item in items):
            return output
        passed = _through(self._at_outputs, items)
        return type(output)(passed) if isinstance(output, tuple | list) else passed[0]

    def _at_outputs(self, gradients: Gradients) -> Gradients:
        self._outputs = self._hooks.before_backward(self._module, gradients)
        if not self._watched:
            self._hooks.after_backward(self._module, (None,) * self._inputs, self._outputs)
        return self._outputs

    def _at_inputs(self, gradients: Gradients) -> Gradients:
        return self._hooks.after_backward(self._module, gradients, self._outputs)


def _through(see: Callable[[Gradients], Gradients], items: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same values; their gradients, all at once, become what ``see`` makes of them."""
    passed = _Gate.apply(see, *items)
    return tuple(p if isinstance(item, Tensor) else item for p, item in zip(passed, items, strict=True))


class _Gate(Function):
    @staticmethod
    def forward(ctx: FunctionContext, see: Any, *items: Any) -> Any:
        ctx.see = see  # type: ignore[attr-defined]
        ctx.set_materialize_grads(False)
        return items

    @staticmethod
    def backward(ctx: FunctionContext, *gradients: Any) -> Any:
        return (None, *ctx.see(gradients))  # type: ignore[attr-defined]


__all__ = ["Hooked", "ModuleHookHandle", "ModuleHooks"]
