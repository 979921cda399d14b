"""Classes of facts: what dataclasses are, made in a sixth of the time, which is most of what importing them takes.

Of their methods only ``__init__`` is compiled; the others are the same functions for all.  Classes that users
hold instances of are dataclasses proper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, field
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

Item = TypeVar("Item")
_set = object.__setattr__


@overload
def facts(cls: type[Item], /) -> type[Item]: ...
@overload
def facts(*, frozen: bool = False, eq: bool = True, kw_only: bool = False) -> Callable[[type[Item]], type[Item]]: ...
@dataclass_transform(field_specifiers=(field,))
def facts(cls: Any = None, /, *, frozen: bool = False, eq: bool = True, kw_only: bool = False) -> Any:
    """Make a class of what its fields say, as ``dataclass`` does: with defaults, and ``dataclasses.field``.

    >>> @facts(frozen=True)
    ... class Point:
    ...     x: int
    ...     y: int = 0
    >>> Point(1), Point(1) == Point(1, 0), replace(Point(1), y=2)
    (Point(x=1, y=0), True, Point(x=1, y=2))
    """
    if cls is None:
        return lambda cls: _made(cls, frozen, eq, kw_only)
    return _made(cls, frozen, eq, kw_only)


def replace(item: Item, **changes: Any) -> Item:
    """A copy with other values of some fields."""
    return type(item)(**{name: getattr(item, name) for name in names(type(item))} | changes)


def names(cls: type) -> list[str]:
    """The fields of such a class."""
    return [*cls.__facts__]  # type: ignore[attr-defined]


def _made(cls: Any, frozen: bool, eq: bool, kw_only: bool) -> Any:
    fields: dict[str, Field[Any]] = dict(getattr(cls, "__facts__", {}))
    for name, annotation in cls.__annotations__.items():
        if not str(annotation).startswith("ClassVar"):
            default = cls.__dict__.get(name, MISSING)
            fields[name] = default if isinstance(default, Field) else field(default=default)
            if isinstance(default, Field):  # no attribute of the class
                delattr(cls, name)
    cls.__facts__ = fields
    cls.__init__ = _initializer(cls, fields, frozen, kw_only)
    if cls.__repr__ is object.__repr__:
        cls.__repr__ = _described
    if frozen:
        cls.__setattr__ = cls.__delattr__ = _refuse
    if eq:
        values = attrgetter(*fields) if fields else type

        def equals(self: Any, other: Any) -> Any:
            return values(self) == values(other) if type(self) is type(other) else NotImplemented

        cls.__eq__, cls.__hash__ = equals, (lambda self: hash(values(self))) if frozen else None
    if not kw_only:
        cls.__match_args__ = tuple(name for name, each in fields.items() if each.init)  # type: ignore[misc]
    return cls


def _initializer(cls: Any, fields: dict[str, Field[Any]], frozen: bool, kw_only: bool) -> Any:
    parameters = ["self"] + ["*"] * kw_only
    lines: list[str] = []
    known: dict[str, Any] = {"_set": _set, "_absent": MISSING}
    for name, each in fields.items():
        value = name
        if each.default_factory is not MISSING:
            known[f"_make_{name}"] = each.default_factory
            value = f"_make_{name}() if {name} is _absent else {name}" if each.init else f"_make_{name}()"
        elif not each.init:
            continue
        if each.init:
            has_default = each.default is not MISSING
            known[f"_default_{name}"] = each.default
            parameters.append(f"{name}=_default_{name}" if has_default or value is not name else name)
        lines.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    body = "\n ".join(lines or ["pass"])
    exec(f"def __init__({', '.join(parameters)}):\n {body}", known)
    known["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"
    return known["__init__"]


def _described(self: Any) -> str:
    shown = [f"{name}={getattr(self, name)!r}" for name, each in self.__facts__.items() if each.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse(self: Any, name: str, *value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to or delete the field {name!r}")
