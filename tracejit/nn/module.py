"""Module: parameters, buffers and submodules under names, with a ``forward``.

A jitted function that uses a module relies on the module's attributes staying as they are: the values of its
parameters and buffers are read afresh at each call, but which tensors they are, which submodules there are and
what the plain attributes hold is part of what was compiled.  So every change of an attribute raises the module's
version, and a trace that looks at a module records an :class:`UnchangedModule` guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from tracejit.ir.types import is_differentiable

from .. import dispatch
from ..autograd.modes import no_grad
from ..device import is_name
from ..guards import Guard
from ..locations import at_user_line
from ..ops.creation import empty
from ..places import Item, Itself
from ..state import thread
from ..tensor import Parameter, Tensor, retype
from .hooks import Hooked
from .saving import IncompatibleKeys, Saved

if TYPE_CHECKING:
    from ..signing import Signing
    from ..tracing import Trace

ModuleType = TypeVar("ModuleType", bound="Module")


_REGISTRIES = ("_parameters", "_buffers", "_modules")
_EMPTY: tuple[dict[str, Any], ...] = ({}, {}, {})
_ABSENT = object()
_PLAIN = (bool, int, float, str, type(None))


class UnchangedModule(Guard):
    """A module's attributes are the ones it was traced with, and it is in the same mode."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._module_version = module._module_version
        self._training = module.training
        self._attributes = _attributes_of(module)

    def holds(self, arguments: Sequence[Tensor]) -> bool:
        module = self._module
        return module._module_version == self._module_version and module.training is self._training

    def describe(self) -> str:
        name = type(self._module).__name__
        return f"the attributes of {name} are as they were, {name}.training is {self._training}"

    def cause(self) -> str:
        name, before, now = type(self._module).__name__, self._attributes, _attributes_of(self._module)
        for attribute in (*before, *now):
            if attribute not in now:
                return f"`{name}.{attribute}` is gone"
            if attribute not in before:
                return f"`{name}.{attribute}` was not there before"
            (was, old), (value, new) = before[attribute], now[attribute]
            if old != new:
                return f"`{name}.{attribute}` was {was}, now {value if value != was else 'another one'}"
        return f"an attribute of {name} has been set"

    def tell(self, signing: Signing) -> None:
        attributes = Itself(vars(self._module))
        signing.equals(Item(attributes, "_module_version"), self._module_version)
        signing.equals(Item(attributes, "training"), self._training)


def _attributes_of(module: Module) -> dict[str, tuple[str, Any]]:
    """What the attributes are, for people, and what tells them from others."""
    fields = vars(module)
    held = {**fields, **fields["_parameters"], **fields["_buffers"], **fields["_modules"]}
    return {
        name: (f"{value!r:.40}", repr(value)) if isinstance(value, _PLAIN) else (f"a {type(value).__name__}", id(value))
        for name, value in held.items() if not name.startswith("_")
    }  # fmt: skip


class Module(Hooked, Saved):
    """The base of layers and models: assign parameters and submodules as attributes, and define ``forward``.

    >>> import tracejit as tj
    >>> from tracejit import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = nn.Parameter(tj.tensor([2.0, 3.0]))
    ...
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> model = Scale()
    >>> model(tj.tensor([1.0, 1.0])).detach()
    tensor([2., 3.])
    >>> [name for name, parameter in model.named_parameters()]
    ['factor']
    """

    training: bool
    _module_version: int
    _module_trace: Trace | None
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _transient_buffers: set[str]  # the buffers that state_dict leaves out

    def __new__(cls: type[ModuleType], *args: Any, **kwargs: Any) -> ModuleType:
        module = super().__new__(cls)
        fields = module.__dict__
        fields["training"] = True
        fields["_module_version"] = 0
        fields["_module_trace"] = thread.trace  # a module that is made within a trace may be changed within it
        return module

    def __init__(self) -> None:
        fields = self.__dict__
        fields["_parameters"] = {}
        fields["_buffers"] = {}
        fields["_modules"] = {}
        fields["_transient_buffers"] = set()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What calling the module computes; subclasses define it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._watch_module()
        if self._module_hooks is not None:
            return self._module_hooks.call(self, args, kwargs)
        return self.forward(*args, **kwargs)

    # Attributes -------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__
        for registry in _REGISTRIES:
            if name in fields.get(registry, ()):
                self._watch_module()
                return fields[registry][name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        fields = self.__dict__
        if any(items.get(name, _ABSENT) is value for items in (fields, *map(fields.get, _REGISTRIES, _EMPTY))):
            return  # ``self.buffer += 1`` ends here: the tensor has changed, the attribute has not
        if isinstance(value, Parameter):
            if "_parameters" not in fields:
                raise at_user_line(AttributeError("cannot assign parameters before Module.__init__() call"))
            self._begin_module_change(name)
            self._forget_attribute(name, "_parameters")
            self._parameters[name] = value
        elif name in fields.get("_parameters", ()):
            self._check_attribute(name, value, "parameter", "tracejit.nn.Parameter", type(None))
            self._begin_module_change(name)
            self._parameters[name] = None
        elif isinstance(value, Module):
            if "_modules" not in fields:
                raise at_user_line(AttributeError("cannot assign module before Module.__init__() call"))
            self._begin_module_change(name)
            self._forget_attribute(name, "_modules")
            self._modules[name] = value
        elif name in fields.get("_modules", ()):
            self._check_attribute(name, value, "child module", "tracejit.nn.Module", type(None))
            self._begin_module_change(name)
            self._modules[name] = None
        elif name in fields.get("_buffers", ()):
            self._check_attribute(name, value, "buffer", "tracejit.Tensor", Tensor | None)
            self._begin_module_change(name)
            self._buffers[name] = value
        else:
            self._begin_module_change(name)
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._begin_module_change(name)
        if not self._forget_attribute(name):
            object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _check_attribute(self, name: str, value: Any, role: str, expected: str, accepted: Any) -> None:
        if not isinstance(value, accepted):
            kind = type(value)
            given = f"tracejit.{kind.__name__}" if isinstance(value, Tensor) else kind.__name__
            raise at_user_line(TypeError(f"cannot assign {given!r} as {role} {name!r} ({expected} or None expected)"))

    def _begin_module_change(self, name: str) -> None:
        """Before an attribute changes: raise the version; a trace cannot hold such a change."""
        trace = thread.trace
        if trace is not None and trace is not self._module_trace:
            what = f"it assigns {type(self).__name__}.{name}, which cannot be seen from the function"
            if trace.changes(self, what):  # and raises the version when the change is made
                return
        if name != "training":  # the guard looks at the mode itself, so going back and forth recompiles nothing
            self.__dict__["_module_version"] += 1

    def _forget_attribute(self, name: str, keep: str = "") -> bool:
        """Drop what is registered or stored under ``name``, but for the registry that keeps its place in the order."""
        fields = self.__dict__
        places = [fields, *(fields.get(registry, {}) for registry in _REGISTRIES if registry != keep)]
        fields.get("_transient_buffers", set()).discard(name)
        dropped = [items.pop(name, _ABSENT) for items in places]
        return any(item is not _ABSENT for item in dropped)

    def _watch_module(self) -> None:
        """The trace that is active, if any, relies on this module's attributes from here on."""
        trace = thread.trace
        if trace is not None and trace is not self._module_trace:
            trace.guard(("module", id(self)), UnchangedModule(self))

    def _register(self, registry: str, role: str, name: Any, item: Any, kind: type) -> None:
        """Put ``item``, of that ``kind`` or ``None``, under a name that is free or in the same registry already."""
        items = self.__dict__.get(registry)
        problem: Exception | None = None
        if items is None:
            problem = AttributeError(f"cannot assign {role} before Module.__init__() call")
        elif not isinstance(name, str):
            problem = TypeError(f"{role} name should be a string. Got {type(name).__name__}")
        elif "." in name:
            problem = KeyError(f'{role} name can\'t contain ".", got: {name}')
        elif not name:
            problem = KeyError(f'{role} name can\'t be empty string ""')
        elif name not in items and hasattr(self, name):
            problem = KeyError(f"attribute {name!r} already exists")
        elif item is not None and not isinstance(item, kind):
            given = type(item).__name__
            problem = TypeError(f"cannot assign {given!r} object to {role} {name!r} ({kind.__name__} or None required)")
        if items is None or problem is not None:
            raise problem or AttributeError(name)
        self._begin_module_change(name)
        items[name] = item

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; ``None`` reserves the name."""
        self._register("_parameters", "parameter", name, param, Parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is no parameter but part of the module's state; ``state_dict`` has it if ``persistent``.

        Update it in place (``self.mean.copy_(…)``, ``self.mean *= 0.9``) in functions that are to be compiled.
        """
        self._register("_buffers", "buffer", name, tensor, Tensor)
        (self._transient_buffers.discard if persistent else self._transient_buffers.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under a name that need not be a Python identifier."""
        self._register("_modules", "module", name, module, Module)

    register_module = add_module

    # Walking ----------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The submodules of this module itself, each once, with their names."""
        self._watch_module()
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The submodules of this module itself."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all modules below it, with dotted names; this one's is ``prefix``."""
        return self._named_modules(prefix, set() if remove_duplicate else None)

    def _named_modules(self, prefix: str, seen: set[Module] | None) -> Iterator[tuple[str, Module]]:
        if seen is not None:
            if self in seen:
                return
            seen.add(self)
        self._watch_module()
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module._named_modules(_joined(prefix, name), seen)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all modules below it, each once."""
        return (module for _, module in self.named_modules(remove_duplicate=remove_duplicate))

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name; ``AttributeError`` if there is none.

        >>> from tracejit import nn
        >>> nn.Sequential(nn.Sequential(nn.ReLU())).get_submodule("0.0")
        ReLU()
        """
        found: Any = self
        for name in target.split(".") if target else ():
            if not hasattr(found, name):
                raise at_user_line(AttributeError(f"{type(found).__name__} has no attribute `{name}`"))
            found = getattr(found, name)
            if not isinstance(found, Module):
                raise at_user_line(AttributeError(f"`{name}` is not an nn.Module"))
        return found

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name; ``AttributeError`` if there is none."""
        return self._tensor_of(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of a dotted name; ``AttributeError`` if there is none."""
        return self._tensor_of(target, "_buffers", "a buffer")

    def _tensor_of(self, target: str, registry: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        if not hasattr(owner, name):
            raise at_user_line(AttributeError(f"{type(owner).__name__} has no attribute `{name}`"))
        owner._watch_module()
        if owner.__dict__[registry].get(name) is None:
            raise at_user_line(AttributeError(f"`{name}` is not {what}"))
        return owner.__dict__[registry][name]

    def set_submodule(self, target: str, module: Module) -> None:
        """Put a module under a dotted name."""
        if not target:
            raise at_user_line(ValueError("Cannot set the submodule without a target name!"))
        path, _, name = target.rpartition(".")
        self.get_submodule(path).add_module(name, module)

    def _named_members(self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[Any]:
        seen: set[int] = set()
        self._watch_module()
        modules = self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, tensor in getattr(module, registry).items():
                if tensor is None or (remove_duplicate and id(tensor) in seen):
                    continue
                seen.add(id(tensor))
                yield _joined(path, name), tensor

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with dotted names; one that is shared comes once, under its first name.

        >>> from tracejit import nn
        >>> [name for name, _ in nn.Sequential(nn.Linear(2, 2), nn.ReLU()).named_parameters()]
        ['0.weight', '0.bias']
        """
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """All buffers with dotted names."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All parameters and buffers, with the dotted names that the IR of a jitted function shows."""
        return chain(self.named_parameters(), self.named_buffers())

    # Copying ----------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {name: item for name, item in self.__dict__.items() if name not in ("_module_trace", "_module_version")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    # Modes and bulk changes -------------------------------------------------------------------------

    def train(self: ModuleType, mode: bool = True) -> ModuleType:
        """Training mode for this module and all below it (it matters to layers like ``Dropout``)."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: ModuleType) -> ModuleType:
        """Evaluation mode: ``train(False)``."""
        return self.train(False)

    def apply(self: ModuleType, fn: Callable[[Module], object]) -> ModuleType:
        """Call ``fn`` with every module below this one, and with this one last."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def requires_grad_(self: ModuleType, requires_grad: bool = True) -> ModuleType:
        """Ask for the gradients of all parameters, or no longer."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set them to zero."""
        zero_gradients(self.parameters(), set_to_none)

    def to(self: ModuleType, *arguments: Any, device: str | None = None, dtype: Any = None) -> ModuleType:
        """Move to a device; convert floating-point parameters and buffers (and gradients) to a dtype, in place."""
        if thread.trace is not None:
            thread.trace.refuse("it moves or converts a module")
        example = empty(0).to(*arguments, device=device, dtype=dtype)
        wanted = example.dtype
        if not is_differentiable(wanted):
            message = "nn.Module.to only accepts floating point or complex dtypes, but got desired dtype="
            raise at_user_line(TypeError(f"{message}{wanted}"))
        moves = device is not None or any(is_name(argument) or isinstance(argument, Tensor) for argument in arguments)
        for module in self.modules():
            module._begin_module_change("dtype")
        for tensor in [tensor for _, tensor in self.named_tensors()]:
            for held in (tensor, tensor.grad):
                if held is None:
                    continue
                if is_differentiable(held.dtype):
                    retype(held, dispatch.payload(held.detach().to(*arguments, device=device, dtype=dtype)))
                elif moves:
                    retype(held, dispatch.payload(held.detach().to(example.device)))
        return self

    def float(self: ModuleType) -> ModuleType:
        """Convert floating-point parameters and buffers to float32, in place."""
        return self.to(dtype="float32")

    def double(self: ModuleType) -> ModuleType:
        """Convert floating-point parameters and buffers to float64, in place."""
        return self.to(dtype="float64")

    def half(self: ModuleType) -> ModuleType:
        """Convert floating-point parameters and buffers to float16, in place."""
        return self.to(dtype="float16")

    def bfloat16(self: ModuleType) -> ModuleType:
        """Convert floating-point parameters and buffers to bfloat16, in place."""
        return self.to(dtype="bfloat16")

    def type(self: ModuleType, dst_type: Any) -> ModuleType:
        """Convert floating-point parameters and buffers to a dtype, in place."""
        return self.to(dtype=dst_type)

    def cpu(self: ModuleType) -> ModuleType:
        """Move all parameters and buffers to the CPU."""
        return self.to(device="cpu")

    def cuda(self: ModuleType, device: int | None = None) -> ModuleType:
        """Move all parameters and buffers to a GPU."""
        return self.to(device="cuda" if device is None else f"cuda:{device}")

    # Text -------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What ``repr`` shows between the parentheses: the settings of a layer."""
        return ""

    def __repr__(self) -> str:
        settings = self.extra_repr()
        children = [f"({name}): {indented(repr(module))}" for name, module in self._modules.items()]
        lines = ([settings] if settings else []) + children
        if not children:
            return f"{type(self).__name__}({settings})"
        return f"{type(self).__name__}(\n" + "".join(f"  {line}\n" for line in lines) + ")"


def zero_gradients(parameters: Iterable[Tensor], set_to_none: bool) -> None:
    """Drop gradients, or set them to zero where there are any."""
    with no_grad():
        for parameter in parameters:
            if set_to_none:
                parameter.grad = None
                continue
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.grad_fn is not None:  # of backward(create_graph=True)
                parameter.grad = gradient = gradient.detach()
            gradient.zero_()


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def indented(text: str) -> str:
    """The lines of a nested representation, further in."""
    return text.replace("\n", "\n  ")


__all__ = ["IncompatibleKeys", "Module", "UnchangedModule", "indented", "zero_gradients"]
