"""Parametrizations: a parameter of a module that is computed from others at each use."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ...autograd.modes import no_grad
from ...locations import at_user_line
from ...tensor import Parameter, Tensor
from ..container import ModuleDict, ModuleList
from ..module import Module


class ParametrizationList(ModuleList):
    """The modules that compute one tensor, and what they compute it from.

    That is the parameter ``original``, or ``original0``, ``original1``, … where the ``right_inverse`` of the first
    module gives several.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor) -> None:
        super().__init__(modules)
        with no_grad():
            value = self._inverse(original, required=False)
        self.is_tensor = isinstance(value, Tensor)
        if self.is_tensor:
            _register(self, "original", original, value)
            return
        self.ntensors = len(value)
        for number, item in enumerate(value):
            _register(self, f"original{number}", original, item)

    def forward(self) -> Tensor:
        """The tensor."""
        modules = list(self)
        if self.is_tensor:
            value = modules[0](self.original)
        else:
            value = modules[0](*(getattr(self, f"original{number}") for number in range(self.ntensors)))
        for module in modules[1:]:
            value = module(value)
        return value

    def right_inverse(self, value: Tensor) -> None:
        """Give the originals values that make up ``value``, by the modules' ``right_inverse``."""
        with no_grad():
            found = self._inverse(value, required=True)
            if self.is_tensor:
                self.original.copy_(found)
                return
            for number, item in enumerate(found):
                getattr(self, f"original{number}").copy_(item)

    def _inverse(self, value: Any, required: bool) -> Any:
        for module in reversed(list(self)):
            inverse = getattr(module, "right_inverse", None)
            if inverse is not None:
                try:
                    value = inverse(value)
                except NotImplementedError:
                    inverse = None
            if inverse is None and required:
                message = f"parametrization {type(module).__name__} does not implement right_inverse."
                raise at_user_line(RuntimeError(message))
        return value


def _register(owner: Module, name: str, original: Tensor, value: Tensor) -> None:
    """A parameter or buffer, as the original was one; it stays the same object where its shape does."""
    if value.shape == original.shape and value.dtype == original.dtype and name == "original":
        if value is not original:
            with no_grad():
                original.copy_(value)
        value = original
    if isinstance(original, Parameter):
        parameter = value if isinstance(value, Parameter) else Parameter(value.detach(), original.requires_grad)
        owner.register_parameter(name, parameter)
    else:
        owner.register_buffer(name, value)


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Compute ``module``'s parameter (or buffer) by ``parametrization`` from now on; the module, changed.

    What was the parameter is now ``module.parametrizations.<name>.original``, and trained in its place.  Another one
    on the same name works on the first one's result.  A ``right_inverse`` of the parametrization, if it has one, is
    applied to the value at the start, and to values that are assigned.  Unless ``unsafe``, shape and dtype must stay.

    >>> import tracejit as tj
    >>> from tracejit import nn
    >>> class Symmetric(nn.Module):
    ...     def forward(self, x):
    ...         return tj.triu(x) + tj.triu(x, 1).T
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.T).all())
    True
    >>> [name for name, _ in layer.named_parameters()]
    ['bias', 'parametrizations.weight.original']
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        found = module.parametrizations[tensor_name]
        with no_grad():
            value = found()
            inverse = getattr(parametrization, "right_inverse", None)
            _check_kept(tensor_name, value, parametrization(value if inverse is None else inverse(value)), unsafe)
        found.append(parametrization)
        return module
    if tensor_name not in module._parameters and tensor_name not in module._buffers:
        message = "does not have a parameter, a buffer, or a parametrized element with name"
        raise at_user_line(ValueError(f"Module '{module}' {message} '{tensor_name}'"))
    original = getattr(module, tensor_name)
    with no_grad():
        before = original.detach()
        parts = ParametrizationList([parametrization], original)
        _check_kept(tensor_name, before, parts(), unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        kind = type(module)
        methods = {"__reduce_ex__": _refuse_to_pickle, "__deepcopy__": _copied}
        module.__class__ = type(f"Parametrized{kind.__name__}", (kind,), methods)
        module.parametrizations = ModuleDict()
    setattr(type(module), tensor_name, _property(tensor_name))
    module.parametrizations[tensor_name] = parts
    return module


def _check_kept(name: str, before: Tensor, after: Any, unsafe: bool) -> None:
    if unsafe:
        return
    if not isinstance(after, Tensor):
        raise at_user_line(ValueError(f"A parametrization must return a tensor. Got {type(after).__name__}."))
    if after.shape != before.shape or after.dtype != before.dtype:
        message = (
            "Registering a parametrization may not change the shape or dtype of the tensor, unless `unsafe` flag is "
            f"enabled.\n{name}: {before.dtype} of shape {before.shape}\nparametrized: {after.dtype} of shape "
            f"{after.shape}"
        )
        raise at_user_line(ValueError(message))


def _property(name: str) -> property:
    def get(module: Module) -> Tensor:
        return module.parametrizations[name]()

    def set(module: Module, value: Tensor) -> None:
        module.parametrizations[name].right_inverse(value)

    return property(get, set)


def _copied(module: Module, memo: dict[int, Any]) -> Module:
    """A deep copy, of a class of its own: what is parametrized there may change."""
    kind = type(module)
    twin: Module = object.__new__(type(kind.__name__, kind.__bases__, dict(vars(kind))))
    memo[id(module)] = twin
    twin.__dict__.update(training=True, _module_version=0, _module_trace=None)
    twin.__dict__.update(copy.deepcopy(Module.__getstate__(module), memo))
    return twin


def _refuse_to_pickle(module: Module, protocol: int) -> Any:
    message = (
        "Serialization of parametrized modules is only supported through state_dict(): make the module anew, with its "
        "parametrizations, and load that."
    )
    raise at_user_line(RuntimeError(message))


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a module has parametrizations, or one of that name."""
    found = module._modules.get("parametrizations")
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a parameter of the computed tensor (or of the original, unless ``leave_parametrized``); the module.

    >>> from tracejit import nn
    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    >>> [name for name, _ in remove_parametrizations(layer, "weight").named_parameters()]
    ['bias', 'weight']
    """
    if not is_parametrized(module, tensor_name):
        raise at_user_line(ValueError(f"Module {module} does not have a parametrization on {tensor_name}"))
    parts = module.parametrizations[tensor_name]
    if not leave_parametrized and not parts.is_tensor:
        message = "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of "
        raise at_user_line(ValueError(f"{message}a sequence of tensors."))
    value = parts().detach()
    original = parts.original if parts.is_tensor else parts.original0
    if parts.is_tensor:
        if leave_parametrized:
            with no_grad():
                original.copy_(value)
        value = original
    del module.parametrizations[tensor_name]
    delattr(type(module), tensor_name)
    if isinstance(original, Parameter):
        parameter = value if isinstance(value, Parameter) else Parameter(value, original.requires_grad)
        module.register_parameter(tensor_name, parameter)
    else:
        module.register_buffer(tensor_name, value)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__mro__[1]
    return module


__all__ = ["ParametrizationList", "is_parametrized", "register_parametrization", "remove_parametrizations"]
