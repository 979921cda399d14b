"""Modules that hold modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from .module import Module

ListType = TypeVar("ListType", bound="_ModuleSequence")


class Identity(Module):
    """Returns what it is called with; takes the place of a layer that is to do nothing."""

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
        self._begin_change("modules")
        self._modules.clear()
        self._modules.update((str(position), module) for position, module in enumerate(modules))

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self: ListType, index: slice) -> ListType: ...
    def __getitem__(self, index: int | slice) -> Any:
        self._watch()
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
        self._watch()
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        self._watch()
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
    """

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
        self._watch()
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        self._begin_change(key)
        del self._modules[key]

    def __len__(self) -> int:
        self._watch()
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        self._watch()
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        self._watch()
        return key in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return iter(self)

    def values(self) -> Iterable[Any]:
        """The modules."""
        return (self[key] for key in self)

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names and modules."""
        return ((key, self[key]) for key in self)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules, or replace those of the same names."""
        for name, module in modules.items() if isinstance(modules, Mapping) else modules:
            self.add_module(name, module)

    def pop(self, key: str) -> Any:
        """Remove a module and return it."""
        module = self[key]
        del self[key]
        return module


__all__ = ["Identity", "ModuleDict", "ModuleList", "Sequential"]
