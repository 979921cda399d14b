"""Modules that hold modules, or parameters."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from itertools import groupby
from typing import Any, TypeVar, overload

from tracejit.ir.types import format_shape

from ..locations import at_user_line
from ..tensor import Parameter, Tensor
from .module import Module, indented

ListType = TypeVar("ListType", bound="_ModuleSequence")


class Identity(Module):
    """Returns what it is called with; takes the place of a layer that is to do nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()  # what the other layer would be made with does not matter

    def forward(self, input: Any) -> Any:
        """Any value → the same value."""
        return input


class _ModuleSequence(Module):
    """Modules in order, named by their positions."""

    def _position(self, index: int) -> str:
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"index {index} is out of range")
        return list(self._modules)[index]

    def _replace_all(self, modules: Iterable[Module]) -> None:
        self._begin_module_change("modules")
        self._modules.clear()
        self._modules.update((str(position), module) for position, module in enumerate(modules))

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self: ListType, index: slice) -> ListType: ...
    def __getitem__(self, index: int | slice) -> Any:
        self._watch_module()
        if isinstance(index, slice):
            part = type(self)()
            for position, module in enumerate(list(self)[index]):
                part.add_module(str(position), module)
            return part
        return self._modules[self._position(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._position(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._replace_all(modules)

    def __len__(self) -> int:
        self._watch_module()
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        self._watch_module()
        return iter(self._modules.values())

    def append(self: ListType, module: Module) -> ListType:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self: ListType, modules: Iterable[Module]) -> ListType:
        """Add modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Add a module before position ``index``."""
        modules = list(self)
        modules.insert(index, module)
        self._replace_all(modules)

    def pop(self, key: int | slice) -> Any:
        """Remove the module at a position and return it."""
        found = self[key]
        del self[key]
        return found

    def __add__(self: ListType, other: Iterable[Module]) -> ListType:
        return type(self)().extend(self).extend(other)

    def __iadd__(self: ListType, other: Iterable[Module]) -> ListType:
        return self.extend(other)


class Sequential(_ModuleSequence):
    """Modules that are called one after the other, each with the result of the one before.

    >>> import tracejit as tj
    >>> from tracejit import nn
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> model(tj.ones(5, 3)).shape
    (5, 2)
    >>> model[:2]
    Sequential(
      (0): Linear(in_features=3, out_features=4, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *args: Module | Mapping[str, Module]) -> None:
        super().__init__()
        first = args[0] if len(args) == 1 else None
        named = first.items() if isinstance(first, Mapping) else ((str(i), module) for i, module in enumerate(args))
        for name, module in named:
            self.add_module(name, module)  # type: ignore[arg-type]

    def forward(self, input: Any) -> Any:
        """What the first module takes → what the last gives."""
        for module in self:
            input = module(input)
        return input


class ModuleList(_ModuleSequence):
    """A list whose modules are registered; it has no ``forward``.

    >>> from tracejit import nn
    >>> layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    >>> len(layers), len(list(layers.parameters()))
    (3, 6)
    >>> layers
    ModuleList(
      (0-2): 3 x Linear(in_features=2, out_features=2, bias=True)
    )
    """

    def __repr__(self) -> str:
        lines: list[str] = []
        first = 0
        for text, items in groupby(map(repr, self)):
            count = len(list(items))
            place = f"({first})" if count == 1 else f"({first}-{first + count - 1})"
            lines.append(f"{place}: {'' if count == 1 else f'{count} x '}{text}")
            first += count
        if not lines:
            return f"{type(self).__name__}()"
        return f"{type(self).__name__}(\n" + "".join(f"  {indented(line)}\n" for line in lines) + ")"

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)


class ModuleDict(Module):
    """A dict whose modules are registered; it has no ``forward``.

    >>> from tracejit import nn
    >>> heads = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.Identity()})
    >>> list(heads)
    ['a', 'b']
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def __getitem__(self, key: str) -> Any:
        self._watch_module()
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        self._begin_module_change(key)
        del self._modules[key]

    def __len__(self) -> int:
        self._watch_module()
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        self._watch_module()
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        self._watch_module()
        return key in self._modules

    def keys(self) -> KeysView[str]:
        """The names."""
        self._watch_module()
        return self._modules.keys()

    def values(self) -> ValuesView[Any]:
        """The modules."""
        self._watch_module()
        return self._modules.values()

    def items(self) -> ItemsView[str, Any]:
        """Names and modules."""
        self._watch_module()
        return self._modules.items()

    def clear(self) -> None:
        """Remove all modules."""
        self._begin_module_change("modules")
        self._modules.clear()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules, or replace those of the same names."""
        for name, module in modules.items() if isinstance(modules, Mapping) else modules:
            self.add_module(name, module)

    def pop(self, key: str) -> Any:
        """Remove a module and return it."""
        module = self[key]
        del self[key]
        return module


# Parameters -----------------------------------------------------------------------------------------


def _as_parameter(value: Any) -> Any:
    if isinstance(value, Tensor) and not isinstance(value, Parameter):
        return Parameter(value)
    if not isinstance(value, Parameter):
        raise at_user_line(TypeError(f"expected a Parameter or a Tensor, got {type(value).__name__}"))
    return value


class ParameterList(Module):
    """A list whose parameters are registered; plain tensors become parameters.

    >>> import tracejit as tj
    >>> from tracejit import nn
    >>> weights = nn.ParameterList([tj.ones(2), nn.Parameter(tj.zeros(3))])
    >>> [name for name, _ in weights.named_parameters()]
    ['0', '1']
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(values)

    def _position(self, index: int) -> str:
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"index {index} is out of range")
        return str(index % count)

    def __getitem__(self, index: int | slice) -> Any:
        self._watch_module()
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._parameters[self._position(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        self.register_parameter(self._position(index), _as_parameter(value))

    def __len__(self) -> int:
        self._watch_module()
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        self._watch_module()
        return iter(self._parameters.values())

    def append(self, value: Any) -> ParameterList:
        """Add a parameter at the end."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add parameters at the end."""
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def __repr__(self) -> str:
        return _listed(self)


class ParameterDict(Module):
    """A dict whose parameters are registered; plain tensors become parameters.

    >>> import tracejit as tj
    >>> from tracejit import nn
    >>> weights = nn.ParameterDict({"left": tj.ones(2), "right": tj.zeros(3)})
    >>> [name for name, _ in weights.named_parameters()]
    ['left', 'right']
    """

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__()
        self.update(parameters)

    def __getitem__(self, key: str) -> Any:
        self._watch_module()
        return self._parameters[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.register_parameter(key, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        self._begin_module_change(key)
        del self._parameters[key]

    def __len__(self) -> int:
        self._watch_module()
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        self._watch_module()
        return iter(self._parameters)

    def __contains__(self, key: object) -> bool:
        self._watch_module()
        return key in self._parameters

    def keys(self) -> KeysView[str]:
        """The names."""
        self._watch_module()
        return self._parameters.keys()

    def values(self) -> ValuesView[Any]:
        """The parameters."""
        self._watch_module()
        return self._parameters.values()

    def items(self) -> ItemsView[str, Any]:
        """Names and parameters."""
        self._watch_module()
        return self._parameters.items()

    def get(self, key: str, default: Any = None) -> Any:
        """The parameter of that name, or ``default``."""
        self._watch_module()
        return self._parameters.get(key, default)

    def update(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add parameters, or replace those of the same names."""
        for name, value in parameters.items() if isinstance(parameters, Mapping) else parameters:
            self[name] = value

    def pop(self, key: str) -> Any:
        """Remove a parameter and return it."""
        found = self[key]
        del self[key]
        return found

    def __repr__(self) -> str:
        return _listed(self)


def _listed(module: Module) -> str:
    lines = [
        f"  ({name}): Parameter containing: [{p.dtype} of shape {format_shape(p.shape)}]"
        for name, p in module.named_parameters(remove_duplicate=False)
    ]
    return "\n".join([f"{type(module).__name__}(", *lines, ")"]) if lines else f"{type(module).__name__}()"


__all__ = ["Identity", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]
